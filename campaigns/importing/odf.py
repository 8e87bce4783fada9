"""An OpenDocument spreadsheet's XML (ISO/IEC 26300-3), as far as it must be known before it is parsed."""

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from campaigns.importing.sheets import LONGEST_ERROR, MOST_CELLS, Marks, Measure, parse, parser

CONTENT = "content.xml"
CELLS = ("table:table-cell", "table:covered-table-cell")
# What a formula shows that came to nothing (OpenFormula §5.12, and LibreOffice's own by number); its cell may
# hold anything as its value.
ERROR = re.compile(r"#(N/A|DIV/0!|REF!|NAME\?|VALUE!|NUM!|NULL!)|Err:\d+")


@dataclass
class OdfSheet:
    """A sheet with its size and its marks."""

    name: str
    style: str
    is_visible: bool = True
    size: Measure = field(default_factory=Measure)
    marks: Marks = field(default_factory=Marks)


def read_sheets(archive: zipfile.ZipFile) -> list[OdfSheet]:
    """The sheets, hidden ones too, in the order of the file. Raises ImportRefused."""
    reader = _Reader()
    with archive.open(CONTENT) as xml:
        parse(reader.parser(), xml)
    for sheet in reader.sheets:
        sheet.is_visible = sheet.style not in reader.hidden
    return reader.sheets


@dataclass
class _Reader:
    """Follows the elements; positions count repeated rows and cells, sizes only those with a value."""

    sheets: list[OdfSheet] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)
    depth: int = 0
    style: str = ""
    row: int = 0
    rows: int = 1
    column: int = 0
    cell: Mapping[str, str] = field(default_factory=dict)
    shown: str | None = None  # of a cell that may be an error; None of any other
    in_comment: bool = False

    def parser(self) -> expat.XMLParserType:
        found = parser()
        found.StartElementHandler = self._start
        found.EndElementHandler = self._end
        found.CharacterDataHandler = self._text
        return found

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        match tag:
            case "style:style":
                self.style = attributes.get("style:name", "")
            case "style:table-properties" if attributes.get("table:display") == "false":
                self.hidden.add(self.style)
            case "table:table":
                self.depth += 1
                if self.depth == 1:
                    name, style = attributes.get("table:name", ""), attributes.get("table:style-name", "")
                    self.sheets.append(OdfSheet(name, style))
                    self.row = 0
            case "table:table-row" if self.depth == 1:
                self.rows = _count(attributes, "table:number-rows-repeated")
                self.column = 0
            case "office:annotation":
                self.in_comment = True
            case _ if tag in CELLS and self.depth == 1:
                self.cell = attributes
                self.shown = "" if _is_error(attributes) or "table:formula" in attributes else None

    def _text(self, text: str) -> None:
        if self.shown is not None and not self.in_comment and len(self.shown) < LONGEST_ERROR:
            self.shown += text

    def _end_cell(self) -> None:
        sheet, attributes = self.sheets[-1], self.cell
        repeated = _count(attributes, "table:number-columns-repeated")
        if any(name.startswith(("office:", "table:formula")) for name in attributes):
            sheet.size.rows = max(sheet.size.rows, self.row + self.rows)
            sheet.size.columns = max(sheet.size.columns, self.column + repeated)
        if self.shown is not None and sheet.size.cells <= MOST_CELLS:  # or the file will be refused
            self._mark(sheet.marks, range(self.column, self.column + repeated))
        self.column += repeated
        self.shown = None

    def _mark(self, marks: Marks, columns: range) -> None:
        shown = (self.shown or "").strip()
        is_error = _is_error(self.cell) or ERROR.fullmatch(shown)
        stored = any(name.startswith("office:") for name in self.cell)
        for row in range(self.row + 1, self.row + self.rows + 1):
            for column in columns:
                if "table:formula" in self.cell:
                    marks.add_formula(row, column, stored=stored)
                if is_error:
                    marks.add_error(row, column, shown)

    def _end(self, tag: str) -> None:
        if tag == "table:table":
            self.depth -= 1
        elif tag == "table:table-row" and self.depth == 1:
            self.row += self.rows
        elif tag == "office:annotation":
            self.in_comment = False
        elif tag in CELLS and self.depth == 1:
            self._end_cell()


def _is_error(attributes: Mapping[str, str]) -> bool:
    return attributes.get("calcext:value-type") == "error"


def _count(attributes: Mapping[str, str], name: str) -> int:
    return max(1, int(attributes.get(name, "1")))
