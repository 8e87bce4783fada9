"""A worksheet's XML (ECMA-376 part 1 §18.3), as far as an import must know it before it is parsed.

Excel readers give the values of cells only. Whether a cell is a formula or an error, and how large the grid
is that the reader would lay out in memory, stands in the XML alone.
"""

import re
import string
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import IO
from xml.parsers import expat

from campaigns.importing.refusals import ImportRefused

CHUNK = 1 << 20
# How the programs that write workbooks begin a row and a cell, and how XML would let them. References of any
# length: calamine believes XYZXYZ1 too. An expression that begins with plain letters finds its places twice
# as fast, so what stands before them is looked at afterwards.
CELL = re.compile(rb"""c r="(?<=[<:]c r=")([A-Za-z]+\d+)\"""")
ROW = re.compile(rb"""row r="(?<=[<:]row r=")(\d+)\"""")
ANY_CELL, ANY_ROW = re.compile(rb"[<:]c[\s/>]"), re.compile(rb"[<:]row[\s/>]")
DIGITS, LETTERS = string.digits.encode(), string.ascii_letters.encode()
FORMULA = re.compile(rb"[<:]f[\s/>]")
ERROR = re.compile(rb"""=\s*["']e["']""")
MOST_CELLS = 6_000_000  # calamine lays out the whole used range: 33 bytes a cell, 200 MB
LONGEST_ERROR = 30  # characters; the longest that Excel shows is #GETTING_DATA


@dataclass
class Marks:
    """The cells of a sheet that have more to them than a value: row (from 1) -> column (from 0)."""

    formulas: dict[int, dict[int, bool]] = field(default_factory=dict)
    """Whether the result of a formula is stored."""
    errors: dict[int, dict[int, str]] = field(default_factory=dict)
    """What a cell shows that has an error, such as #N/A."""

    def add_formula(self, row: int, column: int, *, stored: bool) -> None:
        """Note a formula."""
        self.formulas.setdefault(row, {})[column] = stored

    def add_error(self, row: int, column: int, shown: str) -> None:
        """Note an error."""
        self.errors.setdefault(row, {})[column] = shown[:LONGEST_ERROR]


@dataclass
class Measure:
    """The used range of a sheet, and whether there may be marks in it."""

    rows: int = 0
    columns: int = 0
    left: int | None = None
    """The first column with a cell, from 0."""
    is_marked: bool = False

    @property
    def cells(self) -> int:
        """What a reader would lay out; rows without a cell are gone through too."""
        return self.rows * max(1, self.columns)


@dataclass(frozen=True)
class Sheet:
    """A visible worksheet: its name and where its XML is in the archive."""

    name: str
    path: str


def visible_sheets(archive: zipfile.ZipFile) -> list[Sheet]:
    """The worksheets that a person sees on opening the workbook, in its order."""
    targets = {
        attributes["Id"]: _path(attributes.get("Target", ""))
        for name, attributes in _elements(archive, "xl/_rels/workbook.xml.rels")
        if name == "Relationship" and attributes.get("Type", "").endswith("/worksheet")
    }
    sheets = []
    for name, attributes in _elements(archive, "xl/workbook.xml"):
        target = targets.get(next((v for k, v in attributes.items() if k.split(":")[-1] == "id"), ""))
        if name == "sheet" and target and attributes.get("state", "visible") == "visible":
            sheets.append(Sheet(attributes["name"], target))
    return sheets


def measure(archive: zipfile.ZipFile, sheet: Sheet) -> Measure:
    """The size of a sheet. One that is written as usual is not parsed, which would take ten times as long."""
    return _skimmed(archive, sheet) or _read(archive, sheet).size


def marks(archive: zipfile.ZipFile, sheet: Sheet) -> Marks:
    """The formulas and errors in a sheet."""
    return _read(archive, sheet).marks


def _skimmed(archive: zipfile.ZipFile, sheet: Sheet) -> Measure | None:
    """The size by the references alone; None where a row or a cell has none in the usual place."""
    found = Measure()
    columns: set[bytes] = set()
    with archive.open(sheet.path) as xml:
        for data in _whole_tags(xml):
            references, numbers = CELL.findall(data), ROW.findall(data)
            are_usual = _are_all(references, b"c", ANY_CELL, data) and _are_all(
                numbers, b"row", ANY_ROW, data
            )
            if not are_usual or b"\0" in data:  # or it is UTF-16
                return None
            cells = b" ".join(references)  # taken apart as one text: there may be millions
            columns.update(cells.translate(None, DIGITS).split())
            rows = {*cells.translate(None, LETTERS).split(), *numbers}
            found.rows = max(found.rows, max(map(int, rows), default=0))
            found.is_marked = found.is_marked or _may_have_marks(data)
    positions = [_column_index(name.decode()) for name in columns]
    found.columns, found.left = max(positions, default=-1) + 1, min(positions, default=None)
    return found


def _are_all(found: list[bytes], name: bytes, expression: re.Pattern[bytes], data: bytes) -> bool:
    """Whether these are all elements of that name, which the expression finds."""
    # to count whatever begins like one takes a fifth of the time, and mostly there is nothing else
    return len(found) == _count(name, data) or len(found) == len(expression.findall(data))


def _may_have_marks(data: bytes) -> bool:
    is_formula = _count(b"f", data) and FORMULA.search(data)
    is_error = (b'"e"' in data or b"'e'" in data) and ERROR.search(data)
    return bool(is_formula or is_error)


def _count(name: bytes, data: bytes) -> int:
    """How often something begins like a tag of that name, with or without a prefix."""
    return data.count(b"<" + name) + data.count(b":" + name)


def _whole_tags(xml: IO[bytes]) -> Iterator[bytes]:
    """The text in pieces, each cut before a tag."""
    tail = b""
    while chunk := xml.read(CHUNK):
        head, bracket, rest = chunk.rpartition(b"<")
        if bracket:
            yield tail + head
            tail = bracket + rest
        else:
            tail += rest
    yield tail


def _read(archive: zipfile.ZipFile, sheet: Sheet) -> "_SheetReader":
    reader = _SheetReader()
    with archive.open(sheet.path) as xml:
        parse(reader.parser(), xml)
    return reader


@dataclass
class _SheetReader:
    """Follows rows and cells as calamine does: one without a reference comes behind the one before it."""

    size: Measure = field(default_factory=Measure)
    marks: Marks = field(default_factory=Marks)
    row: int = 0
    column: int = -1
    kind: str = ""
    is_formula: bool = False
    in_value: bool = False
    has_value: bool = False
    shown: str = ""

    def parser(self) -> expat.XMLParserType:
        found = parser()
        found.StartElementHandler = self._start
        found.EndElementHandler = self._end
        found.CharacterDataHandler = self._text
        return found

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = _local(tag)
        if name == "row":
            self._reach(int(attributes.get("r", self.row + 1)), -1)
        elif name == "c":
            self._begin_cell(attributes.get("r", ""))
            self.kind, self.shown = attributes.get("t", ""), ""
            self.is_formula = self.has_value = False
            self.size.is_marked = self.size.is_marked or self.kind == "e"
        elif name == "f":
            self.size.is_marked = self.is_formula = True
        elif name == "v":
            self.in_value = True

    def _begin_cell(self, reference: str) -> None:
        letters = reference.rstrip(string.digits)
        if letters:
            self._reach(int(reference[len(letters) :]), _column_index(letters))
        else:
            self._reach(self.row, self.column + 1)

    def _reach(self, row: int, column: int) -> None:
        self.row, self.column = row, column
        self.size.rows = max(self.size.rows, row)
        self.size.columns = max(self.size.columns, column + 1)
        if column >= 0 and (self.size.left is None or column < self.size.left):
            self.size.left = column

    def _text(self, text: str) -> None:
        if self.in_value:
            self.has_value = True
            if self.kind == "e" and len(self.shown) < LONGEST_ERROR:
                self.shown += text

    def _end(self, tag: str) -> None:
        name = _local(tag)
        if name == "v":
            self.in_value = False
            # a formula whose result is the empty text has <v></v> and the type "str"
            self.has_value = self.has_value or self.kind == "str"
        elif name == "c":
            if self.is_formula:
                self.marks.add_formula(self.row, self.column, stored=self.has_value)
            if self.kind == "e" and self.has_value:
                self.marks.add_error(self.row, self.column, self.shown)


def _path(target: str) -> str:
    return target.lstrip("/") if target.startswith("/") else f"xl/{target.removeprefix('./')}"


@lru_cache(maxsize=100)
def _local(tag: str) -> str:
    return tag.rpartition(":")[2]


def _column_index(letters: str) -> int:
    """0 for A, 25 for Z, 26 for AA."""
    index = 0
    for letter in letters.upper():
        index = index * 26 + ord(letter) - 64
    return index - 1


def _elements(archive: zipfile.ZipFile, path: str) -> list[tuple[str, dict[str, str]]]:
    found: list[tuple[str, dict[str, str]]] = []
    reader = parser()
    reader.StartElementHandler = lambda tag, attributes: found.append((_local(tag), attributes))
    with archive.open(path) as xml:
        parse(reader, xml)
    return found


def parser() -> expat.XMLParserType:
    """A parser that refuses document types."""
    found = expat.ParserCreate()
    found.StartDoctypeDeclHandler = _refuse_doctype
    return found


def _refuse_doctype(*_: object) -> None:
    """Workbooks have no document type; only an entity bomb needs one."""
    raise ImportRefused("file", "The workbook declares XML entities, which Excel never does.")


def parse(reader: expat.XMLParserType, xml: IO[bytes]) -> None:
    """Run `reader` over the whole of `xml`. Raises ImportRefused where that is no XML."""
    try:
        while chunk := xml.read(CHUNK):
            reader.Parse(chunk, False)
        reader.Parse(b"", True)
    except expat.ExpatError as error:
        raise ImportRefused("file", f"The workbook is damaged: {error}.") from error
