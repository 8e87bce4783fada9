"""The two ways of saying no: to a whole file, and to one line of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class ImportRefused(Exception):
    """The file as a whole cannot be imported; nothing was changed.

    `field` is what the caller must put right: "file" or "mapping". `message` says how.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


class Fault(NamedTuple):
    """Why a line cannot be used; `column` is empty when the whole line is at fault."""

    column: str
    reason: str


class Line(NamedTuple):
    """One line of data as it stood in the file.

    `number` is where it begins as an editor or Excel counts, the header included. `cells` run parallel
    to the table's columns unless `fault` is set. `formulas` holds the positions of the cells that are
    formulas, each with whether its result is stored in the file.
    """

    number: int
    cells: list[str]
    fault: Fault | None = None
    formulas: Mapping[int, bool] | None = None


REFUSED, DUPLICATE, WARNING = "refused", "duplicate", "warning"


class Block(NamedTuple):
    """Lines of data without a fault or a formula: their numbers and, parallel to them, their cells."""

    numbers: Sequence[int]
    rows: Sequence[list[str]]


class Refusal(NamedTuple):
    """A line for the report: one that does not get in, or, as a warning, one that did and looks wrong."""

    line: int
    column: str
    reason: str
    cells: list[str]
    verdict: str = REFUSED


@dataclass(frozen=True)
class Table:
    """What a file holds: the names of its columns and its lines, read as they are asked for.

    A format gives many lines at once in a Block where it can, and a Line where there is more to say of it.
    """

    columns: tuple[str, ...]
    pieces: Iterator[Block | Line]

    @property
    def lines(self) -> Iterator[Line]:
        """The lines one by one; taken from the pieces."""
        for piece in self.pieces:
            if isinstance(piece, Block):
                yield from map(Line, piece.numbers, piece.rows)
            else:
                yield piece
