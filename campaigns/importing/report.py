"""errors.csv: every line that did not get in, or looks wrong, with the reason and its original cells.

It can be corrected and imported again: the importer knows its first columns and leaves them out (origins).
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from io import TextIOWrapper
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path
from typing import IO

import orjson

from campaigns.importing.escaping import escape, unescape
from campaigns.importing.headers import REPORT_COLUMNS
from campaigns.importing.limits import Limits
from campaigns.importing.refusals import DUPLICATE, WARNING, Refusal

CUT = "... ({:,} more characters)"


class Spool:
    """Lines for the report set down as they come up, in `path`, so that a million of them need no memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self.refused = 0
        self.duplicates = 0
        self.warnings = 0

    def add(self, refusal: Refusal) -> None:
        """Set one down. Lines come in their order."""
        self._file.write(orjson.dumps(list(refusal)) + b"\n")
        if refusal.verdict == WARNING:
            self.warnings += 1
        elif refusal.verdict == DUPLICATE:
            self.duplicates += 1
        else:
            self.refused += 1

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Refusal]:
        self._file.flush()
        with self._path.open("rb") as file:
            yield from (Refusal(*orjson.loads(line)) for line in file)


def write_report(path: Path, names: Sequence[str], *sources: Iterable[Refusal], longest_cell: int) -> int:
    """Write the refusals of all sources, each ordered by line, into one file ordered by line.

    It is UTF-8 with a mark, by which Excel knows it.

    Returns how many warnings are among them: one of a line that turned out to be a duplicate is left out.
    """
    warnings = 0
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*REPORT_COLUMNS, *map(escape, names)])
        for refusal in _settled(merge(*sources, key=attrgetter("line"))):
            warnings += refusal.verdict == WARNING
            cells = [_cut(cell, longest_cell) for cell in refusal.cells]
            writer.writerow(
                [refusal.line, *map(escape, (refusal.verdict, refusal.column, refusal.reason, *cells))]
            )
    return warnings


def _settled(refusals: Iterable[Refusal]) -> Iterator[Refusal]:
    """A duplicate is not in the audience, so nothing else is to be said of it."""
    for _, group in groupby(refusals, key=attrgetter("line")):
        of_line = list(group)
        yield from [found for found in of_line if found.verdict == DUPLICATE] or of_line


def _cut(cell: str, longest: int) -> str:
    return cell if len(cell) <= longest else cell[:longest] + CUT.format(len(cell) - longest)


def first_refusals(report: IO[bytes], most: int) -> list[Refusal]:
    """The first lines of a report, for showing them."""
    csv.field_size_limit(max(csv.field_size_limit(), Limits.of_settings().cell + len(CUT) + 20))
    rows = map(unescape, csv.reader(TextIOWrapper(report, encoding="utf-8-sig", newline="")))
    next(rows, None)
    return [
        Refusal(int(line), column, reason, cells, verdict)
        for line, verdict, column, reason, *cells in islice(rows, most)
    ]
