"""The first row: what the columns are called."""

import re
from collections.abc import Sequence

from campaigns.importing.refusals import ImportRefused

ADDRESS = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")
LONGEST_ADDRESS = 320  # characters; matching takes the square of them where it fails
LONGEST_NAME = 200

# What a report puts before the original columns; it can be corrected and imported again.
REPORT_COLUMNS = ("line", "verdict", "column", "reason")


def looks_like_address(text: str) -> bool:
    """Whether a cell is probably an address, at a glance."""
    return len(text) <= LONGEST_ADDRESS and ADDRESS.fullmatch(text) is not None


def is_report(names: Sequence[str]) -> bool:
    """Whether these are the columns of a report."""
    return tuple(names[: len(REPORT_COLUMNS)]) == REPORT_COLUMNS


def column_names(cells: Sequence[str], *, most: int) -> tuple[str, ...]:
    """The names of the columns, without white space around them.

    Raises ImportRefused("file") when the row cannot be a header: an address in it, too many columns, a
    column without a name or with another one's. The columns that a report begins with do not count.
    """
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    _refuse_data(names)
    own = len(REPORT_COLUMNS) if is_report(names) else 0
    if len(names) - own > most:
        raise ImportRefused("file", f"The file has {len(names)} columns; an import takes at most {most}.")
    for position, name in enumerate(names, start=1):
        _refuse_unusable(position, name)
    _refuse_repeated(names, own)
    return tuple(names)


def listed(names: Sequence[str], *, most: int = 20) -> str:
    """The names for a sentence: quoted, separated by commas, cut after `most`."""
    shown = ", ".join(f'"{name}"' for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _refuse_data(names: Sequence[str]) -> None:
    for name in names:
        if looks_like_address(name):
            raise ImportRefused(
                "file",
                f'The first row must name the columns, but holds an address ("{name[:80]}"). '
                'Put a header row such as "email,name" above it.',
            )


def _refuse_unusable(position: int, name: str) -> None:
    if not name:
        raise ImportRefused("file", f"Column {position} has no name in the header row.")
    if len(name) > LONGEST_NAME:
        raise ImportRefused(
            "file", f"The name of column {position} is longer than {LONGEST_NAME} characters."
        )
    if "\0" in name:
        raise ImportRefused(
            "file",
            f"The name of column {position} contains a NUL byte. The file may be UTF-16 without its mark; "
            "save it as UTF-8.",
        )


def _refuse_repeated(names: Sequence[str], own: int) -> None:
    first: dict[str, int] = {}
    for position, name in enumerate(names[own:], start=own + 1):
        key = name.casefold()
        if key in first:
            raise ImportRefused(
                "file",
                f'Columns {first[key]} and {position} have the same name, "{name}". Each needs its own.',
            )
        first[key] = position
