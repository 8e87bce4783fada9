"""Many lines at once: the verdicts of `validating`, several times faster, as rows for PostgreSQL's COPY.

A line that is in every way usual is taken column by column, together with thousands of others; each other
line goes to `validating` by itself, which decides. So this module may only ever say yes, and only to what
`validating` would take as it stands and without a word.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import compress
from operator import attrgetter
from typing import NamedTuple

import orjson

from campaigns.addresses import DOT_ATOM, LONGEST, domain_name
from campaigns.importing.mapping import Columns
from campaigns.importing.refusals import Block, Line, Refusal
from campaigns.importing.validating import LONGEST_NAME, Row, known_zone, validator
from campaigns.importing.warnings import ERROR_TEXTS, Warner, warner

USUAL_LOCAL = re.compile(f"(?!=){DOT_ATOM.pattern}")  # an address that begins with = is a formula
UNKNOWN = "?"
MOST_KNOWN = 65_536  # domains or zones kept in memory


class Judged(NamedTuple):
    """What was found in some lines.

    `read` counts those with any text, `staged` holds the rows to store in the text format of COPY (line,
    email, typed, name, timezone, attributes), `reported` what the report says of them, by line.
    """

    read: int
    staged: bytes
    reported: list[Refusal]


class Judge:
    """Judges the pieces of one file; `warn_about` is passed on to `warner`."""

    def __init__(self, columns: Columns, *, longest_cell: int, warn_about: Collection[str] = ()) -> None:
        self._columns = columns
        self._longest_cell = longest_cell
        self._judge_one = validator(columns, longest_cell=longest_cell, warn_about=warn_about)
        self._warn = warner(warn_about) if "role" in warn_about else None
        self._domains = _Domains(warner(warn_about))
        self._zones = _Zones()
        self._row = _row_format(columns)

    def __call__(self, piece: Block | Line) -> Judged:
        if isinstance(piece, Line):
            return self._one_by_one([piece])
        block, odd = self._set_apart(piece)
        if not block.rows:
            return self._one_by_one(odd)
        cells = [list(map(str.strip, column)) for column in zip(*block.rows, strict=True)]
        if self._has_unusual_cells(cells):
            return self._one_by_one(map(Line, piece.numbers, piece.rows))
        return self._by_column(block, cells, odd)

    def _set_apart(self, block: Block) -> tuple[Block, list[Line]]:
        """The lines with as many cells as there are columns, and the others."""
        width = len(self._columns.names)
        fits = [len(row) == width for row in block.rows]
        if all(fits):
            return block, []
        fitting = Block(list(compress(block.numbers, fits)), list(compress(block.rows, fits)))
        return fitting, _not(fits, block)

    def _has_unusual_cells(self, cells: list[list[str]]) -> bool:
        return any(max(map(len, column)) > self._longest_cell or "\0" in "".join(column) for column in cells)

    def _by_column(self, block: Block, cells: list[list[str]], odd: list[Line]) -> Judged:
        columns = self._columns
        typed = cells[columns.email]
        none = [""] * len(typed)
        emails = self._emails(typed)
        names = none if columns.name is None else cells[columns.name]
        zones = none
        if columns.timezone is not None:
            zones = list(map(self._zones.__getitem__, cells[columns.timezone]))
        attributes = [cells[position] for position in columns.attributes.values()]
        usual = _without_errors(_usual(emails, names, zones), [names, *attributes])
        texts = [emails, typed, names, zones, *attributes]
        staged = self._staged(block.numbers, texts, usual)
        if not all(usual):
            odd += _not(usual, block)
            odd.sort(key=attrgetter("number"))
        others = self._one_by_one(odd)
        return Judged(sum(usual) + others.read, staged + others.staged, others.reported)

    def _emails(self, typed: list[str]) -> list[str]:
        """Each address as it is to be stored, or "" where it is not a usual one."""
        is_usual, domains = USUAL_LOCAL.fullmatch, self._domains
        emails = [
            f"{local}@{name}" if (name := domains[domain]) and is_usual(local) else ""
            for local, _, domain in [text.rpartition("@") for text in typed]
        ]
        if max(map(len, emails)) > LONGEST:
            emails = [email if len(email) <= LONGEST else "" for email in emails]
        if warn := self._warn:
            emails = ["" if email and warn(email) else email for email in emails]
        return emails

    def _staged(self, numbers: Sequence[int], texts: list[list[str]], usual: list[bool]) -> bytes:
        """The usual rows in the text format of COPY. `texts` are the columns of ROW and of the attributes."""
        if not any(usual):
            return b""
        if not all(usual):
            numbers = list(compress(numbers, usual))
            texts = [list(compress(column, usual)) for column in texts]
        emails, typed, names, zones, *values = texts
        columns = (emails, typed, _escaped(names), zones, *map(_json_texts, values))
        return "".join(map(self._row.__mod__, zip(numbers, *columns, strict=True))).encode()

    def _one_by_one(self, lines: Iterable[Line]) -> Judged:
        judgements = [judgement for line in lines if (judgement := self._judge_one(line)) is not None]
        rows = [judgement for judgement in judgements if isinstance(judgement, Row)]
        return Judged(len(judgements), "".join(map(_copied, rows)).encode(), list(_reported(judgements)))


def _not(chosen: list[bool], block: Block) -> list[Line]:
    """The lines of a block that are not chosen."""
    others = [not is_chosen for is_chosen in chosen]
    return list(map(Line, compress(block.numbers, others), compress(block.rows, others)))


def _usual(emails: list[str], names: list[str], zones: list[str]) -> list[bool]:
    """Which lines have an address, a name and a zone that need no second look."""
    usual = [email != "" and zone != UNKNOWN for email, zone in zip(emails, zones, strict=True)]
    if max(map(len, names)) > LONGEST_NAME or not "".join(names).isprintable():
        return [
            is_usual and len(name) <= LONGEST_NAME and name.isprintable()
            for is_usual, name in zip(usual, names, strict=True)
        ]
    return usual


def _without_errors(usual: list[bool], columns: Iterable[list[str]]) -> list[bool]:
    """Which of these lines have no name of an error in the columns."""
    for column in columns:
        if "#" in "".join(column):
            usual = [
                is_usual and cell not in ERROR_TEXTS for is_usual, cell in zip(usual, column, strict=True)
            ]
    return usual


def _reported(judgements: Iterable[Row | Refusal]) -> Iterator[Refusal]:
    for judgement in judgements:
        reported = judgement if isinstance(judgement, Refusal) else judgement.warning
        if reported:
            yield reported


class _Domains(dict[str, str]):
    """Each domain as it is to be stored; "" for one that is refused or warned of."""

    def __init__(self, warn: Warner) -> None:
        super().__init__()
        self._warn = warn

    def __missing__(self, domain: str) -> str:
        if len(self) >= MOST_KNOWN:
            self.clear()
        name = domain_name(domain)
        self[domain] = "" if name and self._warn(f"x@{name}") else name
        return self[domain]


class _Zones(dict[str, str]):
    """Each time zone by its name; UNKNOWN for what is none."""

    def __missing__(self, text: str) -> str:
        if len(self) >= MOST_KNOWN:
            self.clear()
        zone = known_zone(text)
        self[text] = UNKNOWN if zone is None else zone
        return self[text]


def _row_format(columns: Columns) -> str:
    """A row of the text format of COPY, with a gap for each value."""
    members = (f'{_json_text(key)}:"%s"' for key in columns.attributes)
    return "%d\t%s\t%s\t%s\t%s\t{" + ",".join(members).replace("\\", "\\\\") + "}\n"


def _json_text(text: str) -> str:
    return orjson.dumps(text).decode().replace("%", "%%")


def _json_texts(texts: list[str]) -> list[str]:
    """Each text as it stands between the quotes of JSON, its backslashes doubled for COPY."""
    # Between two of them stands `","`, and nowhere else, since a quote in a text has a backslash before it.
    return orjson.dumps(texts).decode()[2:-2].replace("\\", "\\\\").split('","')


def _escaped(texts: list[str]) -> list[str]:
    """Printable texts, their backslashes doubled for COPY."""
    return [text.replace("\\", "\\\\") for text in texts] if "\\" in "".join(texts) else texts


def _copied(row: Row) -> str:
    """One row in the text format of COPY."""
    attributes = orjson.dumps(row.attributes).decode()
    cells = (str(row.line), row.email, row.typed, row.name, row.timezone, attributes)
    return "\t".join(cell.translate(_ESCAPES) for cell in cells) + "\n"


_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
