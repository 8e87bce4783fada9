"""Delimited text: .csv, .tsv and .txt (RFC 4180, with the delimiters that spreadsheets write)."""

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from campaigns.importing.encodings import find_encoding
from campaigns.importing.headers import column_names
from campaigns.importing.limits import Limits
from campaigns.importing.mapping import has_email_column
from campaigns.importing.records import LONGEST_LINE, Records
from campaigns.importing.refusals import ImportRefused, Reading, Table

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}
SEPARATOR = re.compile(r'"?sep=(\t|[^\w\s"])"?\s*', re.IGNORECASE)  # Excel's own first line
LOOKED_AT = 50  # lines, to tell the delimiter


@contextmanager
def open_csv(file: IO[bytes], *, extension: str, encoding: str, limits: Limits) -> Iterator[Table]:
    """The table in a delimited text file; `encoding` is a name, or "". Raises ImportRefused."""
    found = find_encoding(file, encoding)
    file.seek(0)
    text = io.TextIOWrapper(file, encoding=found.codec, errors=found.errors, newline="")
    try:
        first = _first_lines(text)
        text.seek(0)
        named = SEPARATOR.fullmatch(first[0]) if first else None
        delimiter = named[1] if named else "\t" if extension == ".tsv" else _delimiter(first)
        # a limit of the whole process; never lowered, since another import may run in it
        csv.field_size_limit(max(csv.field_size_limit(), limits.cell))
        records = Records(text, delimiter, is_damaged=found.is_damaged)
        names = column_names(_header(records, skip=1 if named else 0), most=limits.columns)
        separated = DELIMITERS.get(delimiter, f'"{delimiter}"') if len(names) > 1 else ""
        yield Table(names, records.pieces(), Reading("text", found.name, separated))
    finally:
        text.detach()  # or it would close the caller's file


def _first_lines(text: io.TextIOWrapper) -> list[str]:
    """Some lines to judge the file by, from its first with text on."""
    lines: list[str] = []
    while (
        len(lines) < LOOKED_AT
        and sum(map(len, lines)) < LONGEST_LINE
        and (line := text.readline(LONGEST_LINE))
    ):
        if lines or line.strip():
            lines.append(line)
    return lines


def _header(records: Records, *, skip: int) -> list[str]:
    """The cells of the first line with text, after `skip` ones."""
    while header := records.next_line():
        if skip and any(map(str.strip, header.cells)):
            skip -= 1
        elif header.fault:
            raise ImportRefused("file", f"Line {header.number}, the header: {header.fault.reason}")
        elif any(map(str.strip, header.cells)):
            return header.cells
    raise ImportRefused("file", "The file is empty.")


def _delimiter(lines: list[str]) -> str:
    """The delimiter that finds a column of addresses, most lines of the same length, and most columns."""
    return max(DELIMITERS, key=lambda delimiter: _fitness(lines, delimiter))


def _fitness(lines: list[str], delimiter: str) -> tuple[bool, int, int]:
    rows = [row for row in _lenient(lines, delimiter) if any(map(str.strip, row))]
    if not rows or len(rows[0]) < 2:
        return (False, 0, 0)
    header, *others = rows
    return (has_email_column(header), sum(len(row) == len(header) for row in others), len(header))


def _lenient(lines: list[str], delimiter: str) -> Iterator[list[str]]:
    try:
        yield from csv.reader(lines, delimiter=delimiter)
    except csv.Error:  # a cell beyond the reader's limit; what came before will have to do
        return
