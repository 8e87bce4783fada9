"""Delimited text: .csv, .tsv and .txt (RFC 4180, with the delimiters that spreadsheets write)."""

import codecs
import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from campaigns.importing.headers import column_names
from campaigns.importing.limits import Limits
from campaigns.importing.records import LONGEST_LINE, Records
from campaigns.importing.refusals import ImportRefused, Table

DELIMITERS = ",;\t|"
CHUNK = 1 << 20


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
        records = Records(text, delimiter)
        yield Table(column_names(_header(records), most=limits.columns), records.pieces())
    finally:
        text.detach()  # or it would close the caller's file


def _header(records: Records) -> list[str]:
    """The cells of the first line with text."""
    while header := records.next_line():
        if header.fault:
            raise ImportRefused("file", f"Line {header.number}, the header: {header.fault.reason}")
        if any(map(str.strip, header.cells)):
            return header.cells
    raise ImportRefused("file", "The file is empty.")


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
