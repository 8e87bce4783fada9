"""The two ways of saying no: to a whole file, and to one line of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class ImportRefused(Exception):
    """The file as a whole cannot be imported; nothing was changed.

    `field` is what the caller must put right: "file", "mapping", "sheet" or "encoding". `message` says how.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


REFUSED, DUPLICATE, WARNING, SUPPRESSED = "refused", "duplicate", "warning", "suppressed"


class Fault(NamedTuple):
    """Why a line cannot be used; `column` is empty when the whole line is at fault."""

    column: str
    reason: str
    verdict: str = REFUSED


class Line(NamedTuple):
    """One line of data as it stood in the file.

    `number` is where it begins as an editor or Excel counts, the header included. `cells` run parallel
    to the table's columns unless `fault` is set. `formulas` holds the positions of the cells that are
    formulas, each with whether its result is stored in the file, `errors` those of the cells that show an
    error of the spreadsheet, such as #N/A, each with that error; such a cell is empty.
    """

    number: int
    cells: list[str]
    fault: Fault | None = None
    formulas: Mapping[int, bool] | None = None
    errors: Mapping[int, str] | None = None

    @property
    def is_blank(self) -> bool:
        """Whether nobody has put anything into it."""
        return not (self.fault or self.formulas or self.errors or any(map(str.strip, self.cells)))


class Block(NamedTuple):
    """Lines of data with nothing but their cells: their numbers and, parallel to them, those cells."""

    numbers: Sequence[int]
    rows: Sequence[list[str]]


class Refusal(NamedTuple):
    """A line for the report: one that does not get in, or one that does, with a word of warning."""

    line: int
    column: str
    reason: str
    cells: list[str]
    verdict: str = REFUSED


@dataclass(frozen=True)
class Reading:
    """How a file was read, for people to see; what does not apply is empty."""

    format: str
    encoding: str = ""
    delimiter: str = ""
    member: str = ""
    """The file in the archive."""
    sheet: str = ""
    sheets: tuple[str, ...] = ()
    """All visible sheets of the workbook."""
    unread: tuple[str, ...] = ()
    """Sheets with a column of addresses too, which this import leaves out."""
    engine: str = ""
    """What read a workbook, if it was not the usual reader."""

    def as_dict(self) -> dict[str, str | list[str]]:
        """What applies, for JSON."""
        values = {
            name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()
        }
        return {name: value for name, value in values.items() if value}

    @classmethod
    def of_dict(cls, values: Mapping[str, str | list[str]]) -> "Reading":
        """What `as_dict` gave."""
        known = {"format": ""} | {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**known)  # type: ignore[arg-type]  # as_dict wrote them

    def __str__(self) -> str:
        parts = [self.format, self.encoding, self.delimiter and f"columns separated by {self.delimiter}"]
        parts.append(self.member and f"unpacked {self.member}")
        parts.append(self.sheet and f'sheet "{self.sheet}" of {len(self.sheets)}')
        parts.append(self.engine and f"read by {self.engine}")
        sentence = ", ".join(filter(None, parts))
        left_out = ", ".join(f'"{name}"' for name in self.unread)
        return f"{sentence}; addresses are also in {left_out}, not read" if left_out else sentence


@dataclass(frozen=True)
class Table:
    """What a file holds: the names of its columns and its lines, read as they are asked for.

    A format gives many lines at once in a Block where it can, and a Line where there is more to say of it.
    """

    columns: tuple[str, ...]
    pieces: Iterator[Block | Line]
    reading: Reading
    sample: tuple[Line, ...] = ()
    """The first of the lines, which come again in `pieces`."""

    @property
    def lines(self) -> Iterator[Line]:
        """The lines one by one; taken from the pieces."""
        for piece in self.pieces:
            yield from lines_of(piece)


def lines_of(piece: Block | Line) -> Iterator[Line]:
    """A piece as lines."""
    if isinstance(piece, Block):
        yield from map(Line, piece.numbers, piece.rows)
    else:
        yield piece
