"""One line of a file: a row to store, or a refusal that says what to correct."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import NamedTuple
from zoneinfo import available_timezones

from campaigns.addresses import BadAddress, parse_address, trim
from campaigns.importing.mapping import Columns
from campaigns.importing.refusals import REFUSED, WARNING, Fault, Line, Refusal
from campaigns.importing.warnings import ERROR_TEXTS, warner

LONGEST_NAME = 200
MOST_SHOWN = 5  # cells with an error


class Row(NamedTuple):
    """A recipient to be stored. `typed` is the address as the file has it, `warning` goes to the report."""

    line: int
    email: str
    typed: str
    name: str
    timezone: str
    attributes: dict[str, str]
    warning: Refusal | None = None


class _Bad(Exception):
    """The line is refused; carries its Fault."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.fault = Fault(column, reason)


def validator(
    columns: Columns, *, longest_cell: int, warn_about: Collection[str] = ()
) -> Callable[[Line], Row | Refusal | None]:
    """A function that judges a line; None for one without any text, which counts for nothing.

    `warn_about` is passed on to `warner`.
    """
    warn = warner(warn_about)

    def judge(line: Line) -> Row | Refusal | None:
        if line.fault:
            return Refusal(line.number, line.fault.column, line.fault.reason, line.cells, line.fault.verdict)
        errors = [*_read_as_empty(line, columns), *_written_out(line, columns)]
        try:
            row = _row(line, columns, longest_cell)
        except _Bad as bad:
            return _reported(line, [bad.fault, *errors])
        if row is None:
            return None
        reason = warn(row.email)
        flaws = [Fault(columns.called(columns.email), reason)] if reason else []
        if flaws or errors:
            return row._replace(warning=_reported(line, [*flaws, *errors], WARNING))
        return row

    return judge


def _reported(line: Line, faults: Sequence[Fault], verdict: str = REFUSED) -> Refusal:
    """All that is wrong with a line, at the first column."""
    return Refusal(
        line.number, faults[0].column, " ".join(fault.reason for fault in faults), line.cells, verdict
    )


def _read_as_empty(line: Line, columns: Columns) -> list[Fault]:
    """What is to be said of the cells that show an error, the address's apart: nothing, or one thing."""
    errors = {position: shown for position, shown in (line.errors or {}).items() if position != columns.email}
    return _of_errors("An error is read as empty", errors, columns)


def _written_out(line: Line, columns: Columns) -> list[Fault]:
    """The same for the cells that hold the name of an error as a text."""
    if "#" not in "".join(line.cells):
        return []
    others = enumerate(map(str.strip, line.cells[: len(columns.names)]))
    errors = {
        position: text for position, text in others if text in ERROR_TEXTS and position != columns.email
    }
    return _of_errors("The name of an error is taken for a text", errors, columns)


def _of_errors(what: str, errors: Mapping[int, str], columns: Columns) -> list[Fault]:
    if not errors:
        return []
    shown = [f'"{columns.called(position)}" shows {error}' for position, error in errors.items()]
    more = f" and {len(shown) - MOST_SHOWN} more" if len(shown) > MOST_SHOWN else ""
    reason = f"{what}: {', '.join(shown[:MOST_SHOWN])}{more}. Write the value there."
    return [Fault(columns.called(min(errors)), reason)]


def _row(line: Line, columns: Columns, longest_cell: int) -> Row | None:
    if line.is_blank:
        return None
    text = "".join(line.cells)
    cells = [cell.strip() for cell in _fitted(line.cells, columns)]
    if len(text) > longest_cell or "\0" in text:
        _refuse_cells(cells, columns, longest_cell)
    if line.errors and columns.email in line.errors:
        shown = line.errors[columns.email]
        raise _Bad(columns.called(columns.email), f"The cell shows the error {shown} instead of an address.")
    if line.formulas:
        _refuse_formulas(line.formulas, columns)
    return Row(
        line.number,
        _email(cells[columns.email], columns),
        cells[columns.email],
        "" if columns.name is None else _name(cells[columns.name], columns.called(columns.name)),
        "" if columns.timezone is None else _zone(cells[columns.timezone], columns.called(columns.timezone)),
        {key: cells[position] for key, position in columns.attributes.items()},
    )


def _fitted(cells: list[str], columns: Columns) -> list[str]:
    """As many cells as columns. Empty ones at the end may go; a missing one may be any of them."""
    width = len(columns.names)
    if len(cells) == width:
        return cells
    if len(cells) < width or "".join(cells[width:]).strip():
        cells_there = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
        raise _Bad("", f"The line has {cells_there}, the header {width}.")
    return cells[:width]


def _refuse_cells(cells: list[str], columns: Columns, longest: int) -> None:
    for position, cell in enumerate(cells):
        if len(cell) > longest:
            raise _Bad(columns.called(position), f"The cell has {len(cell)} characters; at most {longest}.")
        if "\0" in cell:
            raise _Bad(columns.called(position), "The cell contains a NUL byte.")


def _refuse_formulas(formulas: Mapping[int, bool], columns: Columns) -> None:
    for position, stored in formulas.items():
        if position == columns.email:
            result = "" if stored else " without a stored result, so it reads as empty"
            raise _Bad(columns.called(position), f"The address is a formula{result}. Paste it as a value.")
        if not stored:
            raise _Bad(
                columns.called(position),
                "The cell is a formula without a stored result, so it reads as empty. "
                "Open the file in Excel and save it, or paste the value.",
            )


def _email(text: str, columns: Columns) -> str:
    if text.startswith("="):
        raise _Bad(columns.called(columns.email), "The address is a formula. Paste it as a value.")
    try:
        return parse_address(trim(text))
    except BadAddress as error:
        raise _Bad(columns.called(columns.email), str(error)) from None


def _name(text: str, column: str) -> str:
    if len(text) > LONGEST_NAME:
        raise _Bad(column, f"The name has {len(text)} characters; at most {LONGEST_NAME} are allowed.")
    if not text.isprintable() and any(ord(character) < 32 or character == "\x7f" for character in text):
        # it goes into the To: header, where a line break would begin another header (RFC 5322 §2.2)
        raise _Bad(column, "The name contains a line break or another control character.")
    return text


def known_zone(text: str) -> str | None:
    """The IANA name for a time zone written in any case; "" for none given, None for what is no zone."""
    return _zones().get(text.casefold()) if text else ""


def _zone(text: str, column: str) -> str:
    zone = known_zone(text)
    if zone is None:
        raise _Bad(column, f'"{text[:80]}" is not a time zone; write it like Asia/Kolkata.')
    return zone


@cache
def _zones() -> dict[str, str]:
    """The IANA names by their lower-case spelling; reading the directory costs 10 ms."""
    return {name.casefold(): name for name in available_timezones()}
