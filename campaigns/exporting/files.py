"""A table as the bytes of a file, piece by piece."""

import csv
import io
import re
import zipfile
from collections.abc import Callable, Iterator
from itertools import islice
from xml.sax.saxutils import escape as escape_xml

from campaigns.exporting.table import Table
from campaigns.importing.escaping import escape, escape_apostrophe

CHUNK = 2_000  # rows in a piece
MOST_ROWS = 1_048_576  # of a worksheet, its header included (ECMA-376)
UNWRITABLE = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")  # in XML 1.0, or in a cell

PARTS = {
    "[Content_Types].xml": (
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Override PartName="/xl/workbook.xml" ContentType='
        '"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>'
        '<Override PartName="/xl/worksheets/sheet1.xml" ContentType='
        '"application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>'
    ),
    "_rels/.rels": (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="rId1" Target="xl/workbook.xml" Type='
        '"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"/></Relationships>'
    ),
    "xl/workbook.xml": (
        '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" '
        'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">'
        '<sheets><sheet name="Recipients" sheetId="1" r:id="rId1"/></sheets></workbook>'
    ),
    "xl/_rels/workbook.xml.rels": (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="rId1" Target="worksheets/sheet1.xml" Type='
        '"http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet"/></Relationships>'
    ),
}
SHEET = "xl/worksheets/sheet1.xml"
DECLARATION = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'


def as_csv(table: Table) -> Iterator[bytes]:
    """UTF-8 with a mark, by which Excel knows it; cells that it would take for formulas are escaped."""
    text = io.StringIO()
    writer = csv.writer(text)
    text.write("\ufeff")
    writer.writerow(map(escape, table.header))
    while rows := list(islice(table.rows, CHUNK)):
        writer.writerows([map(escape, row) for row in rows])
        yield _taken(text).encode()
    yield _taken(text).encode()


def as_xlsx(table: Table) -> Iterator[bytes]:
    """A workbook in which every cell is text, so that nothing is a formula or loses its zeros.

    The table has to have less than MOST_ROWS rows.
    """
    stream = _Stream()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, xml in PARTS.items():
            archive.writestr(name, DECLARATION + xml)
        with archive.open(SHEET, "w", force_zip64=True) as sheet:
            for xml in _sheet(table):
                sheet.write(xml.encode())
                yield stream.taken()
    yield stream.taken()


def _sheet(table: Table) -> Iterator[str]:
    yield (
        f'{DECLARATION}<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
        f"<sheetData>{_row(table.header)}"
    )
    while rows := list(islice(table.rows, CHUNK)):
        yield "".join(map(_row, rows))
    yield "</sheetData></worksheet>"


def _row(cells: list[str]) -> str:
    texts = map(_xml, map(escape_apostrophe, cells))
    written = (f'<c t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>' for text in texts)
    return f"<row>{''.join(written)}</row>"


def _xml(text: str) -> str:
    """The text of a cell; what XML cannot hold is written as Excel does, `_x000D_` (ECMA-376 §22.9.2.19)."""
    if UNWRITABLE.search(text):
        text = UNWRITABLE.sub(lambda found: f"_x{ord(found[0]):04X}_", text)
    return escape_xml(text)


def _taken(text: io.StringIO) -> str:
    """What was written, which is gone from `text` thereafter."""
    written = text.getvalue()
    text.seek(0)
    text.truncate()
    return written


class _Stream(io.RawIOBase):
    """Takes what an archive writes, from the front to the back, until it is taken away."""

    def __init__(self) -> None:
        super().__init__()
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # only bytes are ever written
        self._written += data
        return len(data)

    def taken(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


FORMATS: dict[str, tuple[str, Callable[[Table], Iterator[bytes]]]] = {
    "csv": ("text/csv; charset=utf-8", as_csv),
    "xlsx": ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", as_xlsx),
}
