"""Cells that a spreadsheet would take for formulas, made harmless in what we write, and read as they were.

OWASP's advice on CSV injection: an apostrophe before =, +, -, @, tab and carriage return. Apostrophes that
stand before one of those get another one, so that reading undoes writing whatever the cell was.
"""

import re
from collections.abc import Sequence

FORMULA = re.compile(r"'*[=+\-@\t\r]")


def escape(cell: str) -> str:
    """The cell as text for a spreadsheet."""
    return f"'{cell}" if FORMULA.match(cell) else cell


def escape_apostrophe(cell: str) -> str:
    """The same for a workbook in which every cell is text: only what `unescape` would take for escaped."""
    return f"'{cell}" if cell.startswith("'") and FORMULA.match(cell) else cell


def unescape(cells: Sequence[str]) -> list[str]:
    """The cells of a line as they were before `escape`."""
    return [cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell for cell in cells]
