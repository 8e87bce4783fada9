"""A workbook of Excel 97-2003 ([MS-XLS], [MS-CFB]), as far as an import must know it before it is parsed.

Excel readers lay out the used range of every sheet as they open such a file, and say nothing of formulas.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, NamedTuple

import olefile

from campaigns.importing.refusals import ImportRefused
from campaigns.importing.sheets import Marks, Measure

BOF, EOF, FILEPASS, BOUNDSHEET, FORMULA, BOOL_OR_ERROR = 0x0809, 0x000A, 0x002F, 0x0085, 0x0006, 0x0205
CELLS = {
    0x0203,
    0x027E,
    0x00FD,
    0x0204,
    BOOL_OR_ERROR,
    0x0201,
    0x00D6,
    FORMULA,
}  # number, RK, text, truth or error, blank ...
SEVERAL = {0x00BD, 0x00BE}  # cells side by side: the last column stands at the end
# [MS-XLS] §2.5.10
ERRORS = {
    0x00: "#NULL!", 0x07: "#DIV/0!", 0x0F: "#VALUE!", 0x17: "#REF!", 0x1D: "#NAME?", 0x24: "#NUM!",
    0x2A: "#N/A", 0x2B: "#GETTING_DATA",
}  # fmt: skip
WORKSHEET = VISIBLE = 0
RESULT_IS_ERROR = 2
BIFF8 = 0x0600  # what Excel 97 and later write


@dataclass
class BiffSheet:
    """A sheet with its size and its marks."""

    name: str
    is_visible: bool
    size: Measure = field(default_factory=Measure)
    marks: Marks = field(default_factory=Marks)


def read_sheets(file: IO[bytes]) -> list[BiffSheet]:
    """The worksheets, hidden ones too, in their order. Raises ImportRefused, or whatever damage brings."""
    file.seek(0)
    try:
        container = olefile.OleFileIO(file)
    except Exception as error:  # it tells of damage by several classes, ValueError among them
        raise ImportRefused("file", "The workbook is damaged: its container cannot be read.") from error
    with container:
        stream = _workbook(container)
    return [_measured(sheet, stream, position) for sheet, position in _listed(stream)]


def _workbook(container: olefile.OleFileIO) -> bytes:
    if container.exists("EncryptedPackage"):
        raise _locked()
    for name in ("Workbook", "Book"):
        if container.exists(name):
            content: bytes = container.openstream(name).read()
            return content
    raise ImportRefused("file", "The file is of a Microsoft Office program, but no Excel workbook.")


def _locked() -> ImportRefused:
    return ImportRefused("file", "The workbook is protected by a password. Save it without one.")


class _Record(NamedTuple):
    kind: int
    body: memoryview


def _records(stream: bytes, position: int) -> Iterator[_Record]:
    """The records of one substream, up to its end ([MS-XLS] §2.1.4)."""
    view = memoryview(stream)
    depth = 0
    while position + 4 <= len(stream):
        kind, length = struct.unpack_from("<HH", stream, position)
        yield _Record(kind, view[position + 4 : position + 4 + length])
        depth += (kind == BOF) - (kind == EOF)
        if depth <= 0:
            return
        position += 4 + length


def _listed(stream: bytes) -> Iterator[tuple[BiffSheet, int]]:
    """Each worksheet with where its records begin."""
    is_biff8 = struct.unpack_from("<H", stream, 4)[0] == BIFF8
    for record in _records(stream, 0):
        if record.kind == FILEPASS:
            raise _locked()
        if record.kind == BOUNDSHEET:
            position, state, kind = struct.unpack_from("<IBB", record.body)
            if kind == WORKSHEET:
                yield BiffSheet(_name(record.body[6:], is_biff8), state & 3 == VISIBLE), position


def _name(body: memoryview, is_biff8: bool) -> str:
    """A ShortXLUnicodeString ([MS-XLS] §2.5.240), or the bytes of Excel 95."""
    if not is_biff8:
        return bytes(body[1 : 1 + body[0]]).decode("cp1252", "replace")
    length, is_wide = body[0], body[1] & 1
    text = bytes(body[2 : 2 + length * (2 if is_wide else 1)])
    return text.decode("utf-16-le" if is_wide else "latin-1")


def _measured(sheet: BiffSheet, stream: bytes, position: int) -> BiffSheet:
    for record in _records(stream, position):
        if record.kind in CELLS or record.kind in SEVERAL:
            row, column = struct.unpack_from("<HH", record.body)
            last = (
                struct.unpack_from("<H", record.body, len(record.body) - 2)[0]
                if record.kind in SEVERAL
                else column
            )
            sheet.size.rows = max(sheet.size.rows, row + 1)
            sheet.size.columns = max(sheet.size.columns, last + 1)
            if record.kind == FORMULA:
                sheet.marks.add_formula(row + 1, column, stored=True)
            if (code := _error(record)) is not None:
                sheet.marks.add_error(row + 1, column, ERRORS.get(code, "an error"))
    return sheet


def _error(record: _Record) -> int | None:
    """The code of the error in a cell, of its own or as a formula's result ([MS-XLS] §2.5.11, §2.5.133)."""
    value = bytes(record.body[6:14])
    if record.kind == BOOL_OR_ERROR and len(value) > 1 and value[1]:
        return value[0]
    if record.kind == FORMULA and value[6:] == b"\xff\xff" and value[0] == RESULT_IS_ERROR:
        return value[2]
    return None
