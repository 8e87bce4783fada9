"""What an import would make of a file, from its first lines, before anything is written."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

from campaigns.addresses import folded
from campaigns.importing.limits import Limits
from campaigns.importing.mapping import FIELDS, Columns, resolve
from campaigns.importing.reading import open_table
from campaigns.importing.refusals import DUPLICATE, ImportRefused, Line, Reading, Refusal, Table
from campaigns.importing.validating import Row, validator

ACCEPTED = "accepted"
LONGEST_SHOWN = 200  # characters of a cell


class Found(NamedTuple):
    """Where a field is, by the name of the column or "" for none, and why there."""

    field: str
    column: str
    reason: str


class Shown(NamedTuple):
    """One line and what would become of it; with no `reason` it is simply accepted."""

    line: int
    cells: list[str]
    verdict: str
    column: str
    reason: str


@dataclass(frozen=True)
class Preview:
    """How a file is read, its columns, what each becomes, and its first lines.

    `attributes` has the name of each remaining column in templates. With `problem`, which says why no mapping
    fits, there are no `fields` and the lines are not judged.
    """

    reading: Reading
    columns: tuple[str, ...]
    fields: tuple[Found, ...]
    attributes: Mapping[str, str]
    rows: tuple[Shown, ...]
    problem: ImportRefused | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "reading": self.reading.as_dict(),
            "columns": list(self.columns),
            "mapping": [found._asdict() for found in self.fields],
            "attributes": dict(self.attributes),
            "rows": [row._asdict() for row in self.rows],
        }

    def as_lines(self) -> Iterator[str]:
        """For a person at a terminal."""
        yield f"Read as {self.reading}."
        for found in self.fields:
            where = f'in column "{found.column}"' if found.column else "in no column"
            yield f"  {found.field:<10}{where}, {found.reason}"
        for column, key in self.attributes.items():
            yield f'  attribute {{{{ {key} }}}} in column "{column}"'
        for row in self.rows:
            reason = f" ({row.reason})" if row.reason else ""
            yield f"  line {row.line}: {row.verdict}{reason}: {' | '.join(row.cells)[:120]}"


def preview(
    name: str,
    file: IO[bytes],
    *,
    size: int,
    mapping: Mapping[str, str],
    sheet: str = "",
    encoding: str = "",
    warn_about: Collection[str] = (),
    most: int = 10,
) -> Preview:
    """The preview of a file (see `open_table`), with at most so many lines. Raises ImportRefused."""
    with open_table(
        name, file, size=size, mapping=mapping, sheet=sheet, encoding=encoding, only_sample=True
    ) as table:
        lines = [line for line in table.sample if not line.is_blank][:most]
        try:
            columns = resolve(table.columns, mapping, table.sample)
        except ImportRefused as refused:
            return _without_mapping(table, lines, refused)
    return Preview(
        reading=table.reading,
        columns=table.columns,
        fields=tuple(_found(columns)),
        attributes={columns.called(position): key for key, position in columns.attributes.items()},
        rows=tuple(_judged(lines, columns, warn_about)),
    )


def _without_mapping(table: Table, lines: Sequence[Line], problem: ImportRefused) -> Preview:
    rows = tuple(Shown(line.number, _cut(line.cells), "", "", "") for line in lines)
    return Preview(table.reading, table.columns, (), {}, rows, problem)


def _found(columns: Columns) -> Iterable[Found]:
    positions = {"email": columns.email, "name": columns.name, "timezone": columns.timezone}
    for field in FIELDS:
        position = positions[field]
        yield Found(field, "" if position is None else columns.called(position), columns.reasons[field])


def _judged(lines: Iterable[Line], columns: Columns, warn_about: Collection[str]) -> Iterable[Shown]:
    judge = validator(columns, longest_cell=Limits.of_settings().cell, warn_about=warn_about)
    first: dict[str, int] = {}
    for line in lines:
        judgement = judge(line)
        if judgement is None:
            continue
        if isinstance(judgement, Row):
            judgement = _of_row(judgement, columns, first)
        verdict, column, reason = ACCEPTED, "", ""
        if judgement:
            verdict, column, reason = judgement.verdict, judgement.column, judgement.reason
        yield Shown(line.number, _cut(line.cells), verdict, column, reason)


def _of_row(row: Row, columns: Columns, first: dict[str, int]) -> Refusal | None:
    """What the report would say of a row; `first` has the lines of the addresses so far."""
    known = first.setdefault(folded(row.email), row.line)
    if known == row.line:
        return row.warning
    reason = f"The address stands in line {known} already."
    return Refusal(row.line, columns.called(columns.email), reason, [], DUPLICATE)


def _cut(cells: Sequence[str]) -> list[str]:
    return [cell if len(cell) <= LONGEST_SHOWN else f"{cell[:LONGEST_SHOWN]}..." for cell in cells]
