"""Files that we wrote ourselves, our reports and exports, as the tables they were written from.

They are known by the first names in their header, whether they come as the CSV they were or saved as a
workbook. In other files a cell is what it is, an apostrophe at its front included.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from campaigns.importing.escaping import unescape
from campaigns.importing.headers import REPORT_COLUMNS, is_report
from campaigns.importing.mapping import is_export
from campaigns.importing.refusals import DUPLICATE, Block, Fault, Line, Table, lines_of

Mark = TypeVar("Mark")

OWN = len(REPORT_COLUMNS)
VERDICT = REPORT_COLUMNS.index("verdict")


def as_written_from(table: Table) -> Table:
    """The table with its cells as they were before `escape`, and of a report the original columns."""
    if is_report(table.columns):
        columns = tuple(unescape(table.columns[OWN:]))
        return replace(table, columns=columns, pieces=_of_report(table.pieces, columns))
    if is_export(table.columns):
        return replace(table, columns=tuple(unescape(table.columns)), pieces=_unescaped(table.pieces))
    return table


def _unescaped(pieces: Iterator[Block | Line]) -> Iterator[Block | Line]:
    for piece in pieces:
        if isinstance(piece, Line):
            yield piece._replace(cells=unescape(piece.cells))
        else:
            yield piece._replace(rows=[unescape(row) if "'" in "".join(row) else row for row in piece.rows])


def _of_report(pieces: Iterator[Block | Line], columns: Sequence[str]) -> Iterator[Line]:
    for piece in pieces:
        for line in lines_of(piece):
            yield _original(line, columns)


def _original(line: Line, columns: Sequence[str]) -> Line:
    """A line of a report as the line that it is about."""
    if line.fault and len(line.cells) == 1:  # as it stood in the file, since it could not be cut into cells
        return line
    own, cells = line.cells[:OWN], unescape(line.cells[OWN:])
    found = Line(
        line.number,
        cells,
        line.fault or _fault(own, cells, columns),
        _moved(line.formulas),
        _moved(line.errors),
    )
    if found.is_blank and "".join(own).strip():
        there = (
            "The line has nothing behind the columns with which a report begins. Fill it in, or delete it."
        )
        return found._replace(cells=cells or own, fault=Fault("", there))
    return found


def _moved(marked: Mapping[int, Mark] | None) -> dict[int, Mark] | None:
    """The marks of a report by the positions that their cells had in the original file."""
    moved = {position - OWN: mark for position, mark in (marked or {}).items() if position >= OWN}
    return moved or None


def _fault(own: Sequence[str], cells: Sequence[str], columns: Sequence[str]) -> Fault | None:
    """Why a line of a report stays out, whatever its cells say.

    The first line with an address is in the audience, and a later one must not take its place. And where a
    byte was that is not of the file's encoding, the report has only a mark.
    """
    if own[VERDICT:] and own[VERDICT].strip().casefold() == DUPLICATE and "".join(cells).strip():
        reason = "The address stands in the first file already. To import the line, empty its verdict."
        return Fault("", reason, DUPLICATE)
    for name, cell in zip(columns, cells, strict=False):  # a line may have too few cells, or too many
        if "\ufffd" in cell:
            reason = (
                "The cell has U+FFFD in place of a byte that could not be read. Write what belongs there."
            )
            return Fault(name, reason)
    return None
