"""A task that summarises a table: rows, columns, what is missing, twice, or no address."""

import json
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from typing import IO, Any

import pandas as pd
from django.conf import settings

from campaigns.addresses import BadAddress, parse_address, trim
from campaigns.importing.reading import open_table
from campaigns.importing.refusals import ImportRefused
from campaigns.values import storable
from schedules.kinds.base import Kind, PayloadRefused, TaskFailed, Work, WorkResult, only
from users.models import User

MOST_ROWS = 1_000_000  # each is remembered by some 80 bytes, to find it again
MOST_CELLS = 20_000_000  # rows times columns: how long the work may take
MEMORY_AT_ONCE = 16 * 1024 * 1024  # bytes of the rows that are looked at together, roughly
CELL = 64  # bytes of a cell beside its characters
MOST_INLINE = 1024 * 1024  # characters of a table that stands in the payload
EXAMPLES = 5  # invalid addresses shown
_ADDRESSES = 0.5  # a column of which so many cells have an @ holds addresses


def _check(payload: Mapping[str, Any], user: User, file_name: str) -> dict[str, Any]:
    """Read {"content": "a,b\\n1,2"}, or nothing where a file comes with the task."""
    only(payload, "content", "rows")
    content, rows = payload.get("content"), payload.get("rows")
    given = [each for each in (file_name, content, rows) if each]
    if len(given) != 1:
        raise PayloadRefused(
            {"file": ['Give one of: a CSV or XLSX file (as multipart/form-data), "content", the text of a '
                      'CSV, or "rows", a list of objects.']}
        )  # fmt: skip
    if content is not None and not (isinstance(content, str) and len(content) <= MOST_INLINE):
        raise PayloadRefused({"content": [f"Give a text of at most {MOST_INLINE:,} characters."]})
    if rows is not None:
        _check_rows(rows)
    return dict(payload)


def _check_rows(rows: Any) -> None:
    """Raise PayloadRefused for what is no table, or one that is too large."""
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise PayloadRefused({"rows": ["Give a list of objects, one for each row."]})
    if problem := _too_large(len(rows), len(_names(rows))):
        raise PayloadRefused({"rows": [problem]})


def _names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names that the objects have, each once, in the order in which they come."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _too_large(rows: int, columns: int) -> str:
    """Say which limit a table is over; '' when it is over none."""
    if rows > MOST_ROWS:
        return f"Give at most {MOST_ROWS:,} rows."
    if columns > (most := settings.IMPORT_MAX_COLUMNS):
        return f"There are {columns:,} different columns; at most {most:,} are allowed."
    if rows * columns > MOST_CELLS:
        return f"Give at most {MOST_CELLS:,} cells, rows times columns."
    return ""


def _run(work: Work) -> WorkResult:
    summary = _Summary()
    for frame in _frames(work):
        summary.add(frame)
        work.still_ours()
    figures = summary.figures()
    file = work.folder / "summary.json"
    file.write_text(json.dumps(figures, indent=2, ensure_ascii=False))
    return WorkResult(figures, file)


def _frames(work: Work) -> Iterator[pd.DataFrame]:
    """Yield the table in pieces; every cell a text, '' where there is nothing. Raises TaskFailed."""
    if rows := work.payload.get("rows"):
        names = _names(rows)
        yield from _pieces(names, ([_text(row.get(name)) for name in names] for row in rows))
    elif work.file is not None:
        yield from _read(work.file_name, work.file, work.file.size)
    else:
        content = str(work.payload["content"]).encode()
        yield from _read("content.csv", BytesIO(content), len(content))


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value)  # NaN alone differs from itself


def _read(name: str, file: IO[bytes], size: int) -> Iterator[pd.DataFrame]:
    try:
        with open_table(name, file, size=size, mapping={}) as table:
            columns = [storable(name) for name in table.columns]
            width = len(columns)
            yield from _pieces(columns, ((line.cells + [""] * width)[:width] for line in table.lines))
    except ImportRefused as refused:
        raise TaskFailed(refused.message) from refused


def _pieces(columns: list[str], lines: Iterable[list[str]]) -> Iterator[pd.DataFrame]:
    """Yield lines of texts as frames, an empty one where there are none. Raises TaskFailed for too many."""
    rows = 0
    for piece in _batches(lines):
        rows += len(piece)
        if problem := _too_large(rows, len(columns)):
            raise TaskFailed(problem)
        yield pd.DataFrame(piece, index=range(len(piece)), columns=columns, dtype=str)
    if not rows:
        yield pd.DataFrame(columns=columns, dtype=str)


def _batches(lines: Iterable[list[str]]) -> Iterator[list[list[str]]]:
    """Part lines so that each part takes about so much memory, however wide its lines and long its cells."""
    batch: list[list[str]] = []
    room = MEMORY_AT_ONCE
    for line in lines:
        batch.append(line)
        room -= CELL * (len(line) + 1) + sum(map(len, line))
        if room <= 0:
            yield batch
            batch, room = [], MEMORY_AT_ONCE
    if batch:
        yield batch


class _Summary:
    """Adds up what is seen piece by piece, so that memory follows the number of rows by a few bytes each."""

    def __init__(self) -> None:
        self.rows = 0
        self.columns: list[str] = []
        self.missing: dict[str, int] = {}
        self.seen: set[int] = set()
        self.duplicates = 0
        self.addresses: dict[str, int] = {}
        self.invalid: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}

    def add(self, frame: pd.DataFrame) -> None:
        stripped = frame.apply(lambda column: column.str.strip()) if len(frame) else frame
        self.columns = [
            *self.columns,
            *(name for name in map(str, frame.columns) if name not in self.columns),
        ]
        self.rows += len(frame)
        for place, name in enumerate(map(str, frame.columns)):
            column = stripped.iloc[:, place]
            self.missing[name] = self.missing.get(name, 0) + int((column == "").sum())
            self._look_for_addresses(name, column)
        self._count_duplicates(stripped)

    def _count_duplicates(self, frame: pd.DataFrame) -> None:
        if not len(frame):
            return
        for value in pd.util.hash_pandas_object(frame, index=False).tolist():
            self.duplicates += value in self.seen
            self.seen.add(value)

    def _look_for_addresses(self, name: str, column: "pd.Series[str]") -> None:
        filled = column[column != ""]
        if name not in self.addresses and not (
            len(filled) and filled.str.contains("@", regex=False).mean() >= _ADDRESSES
        ):
            return
        self.addresses[name] = self.addresses.get(name, 0) + len(filled)
        bad = [text for text in filled if not _is_address(text)]
        self.invalid[name] = self.invalid.get(name, 0) + len(bad)
        self.examples.setdefault(name, []).extend(
            storable(text) for text in bad[: EXAMPLES - len(self.examples.get(name, []))]
        )

    def figures(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "columns": self.columns,
            "missing": self.missing,
            "duplicates": self.duplicates,
            "invalid_addresses": sum(self.invalid.values()),
            "addresses": {
                name: {"filled": filled, "invalid": self.invalid[name], "examples": self.examples[name]}
                for name, filled in self.addresses.items()
            },
        }


def _is_address(text: str) -> bool:
    try:
        parse_address(trim(text))
    except BadAddress:
        return False
    return True


PROCESS_DATA = Kind(
    "process_data",
    "Summarises a CSV or XLSX file: rows, columns, missing cells, duplicate rows, invalid addresses.",
    _check,
    _run,
    heavy=True,
)
