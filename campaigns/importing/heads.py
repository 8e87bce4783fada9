"""The beginning of a large workbook as a workbook of its own, so that it can be looked at in no time.

An engine parses a whole sheet before it gives its first row. For 100,000 rows that takes a second, at each
step of whoever looks at the file before importing it.
"""

import zipfile
from collections.abc import Iterable
from typing import IO

from campaigns.importing.sheets import Sheet

LONGEST = 1 << 20  # bytes of XML; mostly a few thousand rows
END_OF_ROW, END = b"</row>", b"</sheetData></worksheet>"
NOT_NEEDED = ("xl/worksheets/", "xl/media/", "xl/drawings/")


def write_head(archive: zipfile.ZipFile, visible: Iterable[Sheet], target: IO[bytes]) -> frozenset[str]:
    """Write a workbook with these sheets into `target`, and return the names of those that are cut short.

    Nothing is written where none is long enough for that. A sheet that is not written as usual is kept whole.
    """
    beginnings = {sheet: _beginning(archive, sheet) for sheet in visible}
    cut = frozenset(sheet.name for sheet, (_, is_cut) in beginnings.items() if is_cut)
    if cut:
        with zipfile.ZipFile(target, "w") as smaller:
            for name in {name: None for name in archive.namelist() if not name.startswith(NOT_NEEDED)}:
                smaller.writestr(name, archive.read(name))
            for path, xml in {sheet.path: xml for sheet, (xml, _) in beginnings.items()}.items():
                smaller.writestr(path, xml)
    return cut


def _beginning(archive: zipfile.ZipFile, sheet: Sheet) -> tuple[bytes, bool]:
    """The sheet's XML up to the end of some row, and whether that is not all of it."""
    with archive.open(sheet.path) as xml:
        beginning = xml.read(LONGEST)
        rows, end, _ = beginning.rpartition(END_OF_ROW)
        if end and xml.read(1):
            return rows + end + END, True
        return beginning + xml.read(), False
