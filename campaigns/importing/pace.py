"""How fast an import is, and when it will be done."""

from typing import NamedTuple

WRITING = 2.0  # how much longer it takes to write a row than to read it


class Pace(NamedTuple):
    """Rows a second, from the file into the audience, and the seconds that are left."""

    rate: float
    eta: float


def pace(*, elapsed: float, total: int, read: int, to_write: int, written: int) -> Pace | None:
    """The pace of a run that has read and written so many rows in `elapsed` seconds; None before it has any.

    `to_write` counts what is to be written in this run, and `written` what of it is: an import that goes on
    where another process left it reads all rows, and writes those that are left.
    """
    done = read + WRITING * written
    if not done or elapsed <= 0:
        return None
    whole = max(total, read) + WRITING * max(to_write, written)
    seconds = elapsed * whole / done
    return Pace(rate=max(total, read) / seconds, eta=seconds - elapsed)
