"""Which column is the address, which the name, which the time zone; the others become attributes."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from unicodedata import normalize

from campaigns.importing.headers import listed, looks_like_address
from campaigns.importing.refusals import ImportRefused, Line

FIELDS = ("email", "name", "timezone")
SPELLINGS = Path(__file__).parent / "spellings"
BY_NAME, NO_NAME = "by the column's name", "no column has such a name"
MOST = 0.5  # of the first rows


@dataclasses.dataclass(frozen=True)
class Columns:
    """Positions in a line: of the fields (None where the file has no such column) and the attributes."""

    names: tuple[str, ...]
    email: int
    name: int | None
    timezone: int | None
    attributes: dict[str, int]
    reasons: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Why each field is where it is, in words."""

    def called(self, position: int) -> str:
        """The header above a position."""
        return self.names[position]


def resolve(names: Sequence[str], explicit: Mapping[str, str], sample: Iterable[Line] = ()) -> Columns:
    """Where each field is; `explicit` is {field: header}, an empty header meaning "in no column".

    What is not given follows from the names of the columns, and the address, where no name tells it, from the
    `sample`, the first lines. Raises ImportRefused: "mapping" for one that does not fit the file, "file" when
    no column, or more than one, looks like the address.
    """
    chosen = _explicit(names, explicit)
    reasons = {name: _reason(names, name, position) for name, position in chosen.items()}
    for name in FIELDS:
        if name not in explicit:
            chosen[name] = _guess(names, name, taken=chosen.values())
            reasons[name] = BY_NAME if chosen[name] is not None else NO_NAME
    if "email" not in explicit:
        chosen["email"], reasons["email"] = _checked(names, chosen, sample, reasons["email"])
    if chosen["email"] is None:
        if "email" in explicit:
            raise ImportRefused("mapping", f"email: say in which column it is. They are {listed(names)}.")
        raise ImportRefused(
            "file",
            f"No column looks like the e-mail address. The columns are {listed(names)}. "
            'Name one of them "email", or say which it is in the mapping.',
        )
    return Columns(
        names=tuple(names),
        email=chosen["email"],
        name=chosen["name"],
        timezone=chosen["timezone"],
        attributes=_attributes(names, taken=chosen.values()),
        reasons=reasons,
    )


def has_email_column(
    names: Sequence[str], explicit: Mapping[str, str] | None = None, sample: Iterable[Line] = ()
) -> bool:
    """Whether an import of such columns would know the address."""
    names = [name.strip() for name in names]
    if explicit and explicit.get("email"):
        return _find(names, explicit["email"]) is not None
    if any(_normal(name) in _spellings("email") for name in names):
        return True
    return _by_content(names, sample, taken=()) is not None


def is_export(names: Sequence[str]) -> bool:
    """Whether these are the columns of an export of ours."""
    return tuple(names[: len(FIELDS)]) == FIELDS


def attribute_key(name: str) -> str:
    """The name by which templates call a column: `First Name` is {{ First_Name }}, `2024` is {{ _2024 }}."""
    kept = "".join(letter if f"_{letter}".isidentifier() else " " for letter in name)
    key = "_".join(kept.split()).strip("_") or "_"
    return key if key.isidentifier() else f"_{key}"


def _explicit(names: Sequence[str], explicit: Mapping[str, str]) -> dict[str, int | None]:
    chosen: dict[str, int | None] = {}
    for field, header in explicit.items():
        if field not in FIELDS:
            raise ImportRefused("mapping", f'"{field}" is not a field; the fields are {listed(FIELDS)}.')
        position = _find(names, header) if header else None
        if header and position is None:
            raise ImportRefused(
                "mapping", f'{field}: the file has no column "{header}". Its columns are {listed(names)}.'
            )
        if position is not None and position in chosen.values():
            raise ImportRefused("mapping", f'Two fields are mapped to the column "{header}".')
        chosen[field] = position
    return chosen


def _find(names: Sequence[str], header: str) -> int | None:
    wanted = header.strip().casefold()
    return next((position for position, name in enumerate(names) if name.casefold() == wanted), None)


def _guess(names: Sequence[str], name: str, *, taken: Iterable[int | None]) -> int | None:
    free = {position: _normal(header) for position, header in enumerate(names) if position not in taken}
    if is_export(names):  # in which attributes may be spelt like fields
        position = FIELDS.index(name)
        return position if position in free else None
    for spelling in _spellings(name):
        found = [position for position, normal in free.items() if normal == spelling]
        if len(found) > 1:
            both = listed([names[position] for position in found])
            raise ImportRefused(
                "file", f"The columns {both} could each be the {name}; name one in the mapping."
            )
        if found:
            return found[0]
    return None


def _reason(names: Sequence[str], name: str, position: int | None) -> str:
    """Why a field is where somebody said: for the name's sake, or only because it was said."""
    if position is None:
        return "as you said"
    return BY_NAME if _normal(names[position]) in _spellings(name) else "as you said"


def _checked(
    names: Sequence[str], chosen: Mapping[str, int | None], sample: Iterable[Line], reason: str
) -> tuple[int | None, str]:
    """The column of addresses with the reason for it, after a look at what the columns hold."""
    lines = list(sample)
    named = chosen["email"]
    if named is not None and _share(lines, named) != 0:
        return named, reason
    others = [position for name, position in chosen.items() if name != "email"]
    found = _by_content(names, lines, taken=others)
    if found is None:
        return named, reason
    return found, "most of its first rows are addresses"


def _by_content(names: Sequence[str], sample: Iterable[Line], *, taken: Iterable[int | None]) -> int | None:
    """The column in which most of the first rows are addresses, unless several are alike in that."""
    lines = list(sample)
    shares = {
        position: _share(lines, position) or 0 for position in range(len(names)) if position not in taken
    }
    best = max(shares.values(), default=0)
    found = [position for position, share in shares.items() if share == best]
    return found[0] if best > MOST and len(found) == 1 else None


def _share(lines: Sequence[Line], position: int) -> float | None:
    """Which part of a column's cells with text look like addresses; None where it has no such cells."""
    cells = [line.cells[position].strip() for line in lines if not line.fault and position < len(line.cells)]
    filled = [cell for cell in cells if cell]
    return sum(map(looks_like_address, filled)) / len(filled) if filled else None


@cache
def _spellings(name: str) -> tuple[str, ...]:
    spellings = (SPELLINGS / f"{name}.txt").read_text(encoding="utf-8").split(";")
    return tuple(filter(None, map(_normal, spellings)))


def _normal(name: str) -> str:
    """`E-mail Address` and `e_mail address` are both `emailaddress`, in whatever form of Unicode."""
    return "".join(filter(str.isalnum, normalize("NFKC", name).casefold()))


def _attributes(names: Sequence[str], *, taken: Iterable[int | None]) -> dict[str, int]:
    attributes: dict[str, int] = {}
    for position in range(len(names)):
        if position in taken:
            continue
        key = attribute_key(names[position])
        if key in attributes:
            other = names[attributes[key]]
            raise ImportRefused(
                "file",
                f'The columns "{other}" and "{names[position]}" would both be {{{{ {key} }}}} in a template; '
                "rename one.",
            )
        attributes[key] = position
    return attributes
