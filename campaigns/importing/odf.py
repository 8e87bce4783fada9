"""An OpenDocument spreadsheet's XML (ISO/IEC 26300-3), as far as it must be known before it is parsed."""

import zipfile
from dataclasses import dataclass, field
from xml.parsers import expat

from campaigns.importing.sheets import Measure, parse, parser

CONTENT = "content.xml"


@dataclass
class OdfSheet:
    """A sheet with its size and its formula cells, as `sheets.formulas` gives them."""

    name: str
    style: str
    is_visible: bool = True
    size: Measure = field(default_factory=Measure)
    formulas: dict[int, dict[int, bool]] = field(default_factory=dict)


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

    def parser(self) -> expat.XMLParserType:
        found = parser()
        found.StartElementHandler = self._start
        found.EndElementHandler = self._end
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
            case "table:table-cell" | "table:covered-table-cell" if self.depth == 1:
                self._cell(attributes)

    def _cell(self, attributes: dict[str, str]) -> None:
        sheet = self.sheets[-1]
        repeated = _count(attributes, "table:number-columns-repeated")
        if "table:formula" in attributes:
            stored = any(name.startswith("office:") for name in attributes)
            sheet.size.has_formulas = True
            sheet.formulas.setdefault(self.row + 1, {})[self.column] = stored
        if any(name.startswith(("office:", "table:formula")) for name in attributes):
            sheet.size.rows = max(sheet.size.rows, self.row + self.rows)
            sheet.size.columns = max(sheet.size.columns, self.column + repeated)
        self.column += repeated

    def _end(self, tag: str) -> None:
        if tag == "table:table":
            self.depth -= 1
        elif tag == "table:table-row" and self.depth == 1:
            self.row += self.rows


def _count(attributes: dict[str, str], name: str) -> int:
    return max(1, int(attributes.get(name, "1")))
