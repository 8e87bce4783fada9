"""Delimited text: .csv, .tsv and .txt (RFC 4180, with the delimiters that spreadsheets write)."""

import codecs
import csv
import io
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from campaigns.importing.headers import column_names
from campaigns.importing.limits import Limits
from campaigns.importing.refusals import Fault, ImportRefused, Line, Table

DELIMITERS = ",;\t|"
CHUNK = 1 << 20
LONGEST_LINE = 2_000_000  # characters; a longer one is no table, and would be held in memory whole


@contextmanager
def open_csv(file: IO[bytes], *, extension: str, limits: Limits) -> Iterator[Table]:
    """The table in a delimited text file. Raises ImportRefused("file")."""
    encoding = _encoding(file)
    _refuse_undecodable(file, encoding)
    file.seek(0)
    text = io.TextIOWrapper(file, encoding=encoding, newline="")
    try:
        delimiter = "\t" if extension == ".tsv" else _delimiter(text)
        text.seek(0)
        # a limit of the whole process; never lowered, since another import may run in it
        csv.field_size_limit(max(csv.field_size_limit(), limits.cell))
        lines = _records(_Source(text), delimiter)
        header = next((line for line in lines if line.fault or any(map(str.strip, line.cells))), None)
        if header is None:
            raise ImportRefused("file", "The file is empty.")
        if header.fault:
            raise ImportRefused("file", f"Line {header.number}, the header: {header.fault.reason}")
        yield Table(column_names(header.cells, most=limits.columns), lines)
    finally:
        text.detach()  # or it would close the caller's file


def _encoding(file: IO[bytes]) -> str:
    file.seek(0)
    mark = file.read(2)
    return "utf-16" if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _refuse_undecodable(file: IO[bytes], encoding: str) -> None:
    """Read the file through once, so that a bad byte at its end is known before anything is written."""
    decoder = codecs.getincrementaldecoder(encoding)()
    file.seek(0)
    offset = newlines = 0
    held = b""
    while True:
        chunk = file.read(CHUNK)
        data = held + chunk
        try:
            newlines += decoder.decode(chunk, final=not chunk).count("\n")
        except UnicodeDecodeError as error:
            raise _undecodable(encoding, data, offset - len(held), newlines, error) from error
        held = decoder.getstate()[0]
        offset += len(chunk)
        if not chunk:
            return


def _undecodable(
    encoding: str, data: bytes, start: int, newlines: int, error: UnicodeDecodeError
) -> ImportRefused:
    if encoding == "utf-16":
        return ImportRefused("file", "The file begins like UTF-16 but is not. Save it as UTF-8.")
    line = newlines + data[: error.start].count(b"\n") + 1
    return ImportRefused(
        "file",
        f"The file is not UTF-8: line {line} has the byte 0x{data[error.start]:02X} "
        f"(byte {start + error.start + 1} of the file). Save it as UTF-8; Excel calls that "
        '"CSV UTF-8 (Comma delimited)".',
    )


def _delimiter(text: io.TextIOWrapper) -> str:
    """The delimiter that makes most columns of the first line with text; a comma when none does."""
    for _ in range(1000):
        line = text.readline(LONGEST_LINE)
        if not line or line.strip():
            break
    return max(DELIMITERS, key=lambda delimiter: len(next(csv.reader([line], delimiter=delimiter), [])))


class _Source:
    """The physical lines of a text, which remembers those of the record being read."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._returned: deque[str] = deque()
        self._record: list[str] = []
        self._number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else self._text.readline(LONGEST_LINE)
        if not line:
            raise StopIteration
        self._number += 1
        if len(line) == LONGEST_LINE:
            raise ImportRefused("file", f"Line {self._number} is longer than {LONGEST_LINE:,} characters.")
        self._record.append(line)
        return line

    def begin_record(self) -> int:
        """The number of the line on which the next record begins."""
        self._record.clear()
        return self._number + 1

    def give_up_record(self) -> str:
        """The record's first line; the others will be read again, as records of their own."""
        first, *others = self._record
        self._returned.extendleft(reversed(others))
        self._number -= len(others)
        return first


def _records(source: _Source, delimiter: str) -> Iterator[Line]:
    """Every record, the broken ones too.

    The strict reader is what notices a stray quote. A lenient one would take the lines up to the next
    quote, or to the end of the file, for one cell, and the people in them would be lost without a word.
    """
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    while True:
        number = source.begin_record()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Line(number, [source.give_up_record().rstrip("\r\n")], Fault("", _in_words(error)))
        else:
            yield Line(number, cells)


def _in_words(error: csv.Error) -> str:
    message = str(error)
    if "unexpected end of data" in message:
        return 'A quote (") is opened here and never closed.'
    if "field larger" in message:
        return 'A cell is too long; perhaps a quote (") is opened here and not closed.'
    if "expected after" in message:
        return 'A quote (") stands in the middle of a quoted cell; write it twice ("") or take it out.'
    return f"The line is not CSV: {message}."
