"""Which column is the address, which the name, which the time zone; the others become attributes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from campaigns.importing.headers import listed
from campaigns.importing.refusals import ImportRefused

FIELDS = ("email", "name", "timezone")

# How the columns are called in many places, in plain spelling; the first that a file has wins.
SPELLINGS = {
    "email": """
        email; email address; email id; mail; mail address; mail id; email addr; user email; contact email;
        customer email; subscriber email; recipient email; primary email; personal email; work email;
        business email; email 1; correo; correo electrónico; correo electronico; emailadresse; mailadresse;
        courriel; adresse email; adresse mail; adresse électronique; adresse electronique;
        endereço de email; indirizzo email; posta elettronica; epost; epostadress; epostadresse; eposta;
        emailadres; ईमेल; ईमेल पता; почта; электронная почта; メール; メールアドレス; 邮箱; 电子邮件; 邮件;
        البريد الإلكتروني
    """,
    "name": """
        name; full name; display name; contact name; customer name; recipient name; subscriber name;
        nombre; nombre completo; nom; nom complet; vollständiger name; nome; nome completo; naam; नाम; имя;
        姓名; 名前
    """,
    "timezone": """
        timezone; tz; timezone name; iana timezone; zona horaria; fuseau horaire; fuso horário; zeitzone
    """,
}

# What a report of refused rows puts before the original columns; it can be corrected and imported again.
REPORT_COLUMNS = ("line", "verdict", "column", "reason")


@dataclass(frozen=True)
class Columns:
    """Positions in a line: of the fields (None where the file has no such column) and the attributes."""

    names: tuple[str, ...]
    email: int
    name: int | None
    timezone: int | None
    attributes: dict[str, int]

    def called(self, position: int) -> str:
        """The header above a position."""
        return self.names[position]


def resolve(names: Sequence[str], explicit: Mapping[str, str]) -> Columns:
    """Where each field is; `explicit` is {field: header}, an empty header meaning "in no column".

    Raises ImportRefused: "mapping" for one that does not fit the file, "file" when no column, or more
    than one, looks like the address.
    """
    chosen = _explicit(names, explicit)
    for field in FIELDS:
        if field not in explicit:
            chosen[field] = _guess(names, field, taken=chosen.values())
    email = chosen["email"]
    if email is None:
        raise ImportRefused(
            "file",
            f"No column looks like the e-mail address. The columns are {listed(names)}. "
            'Name one of them "email", or say which it is in the mapping.',
        )
    return Columns(
        names=tuple(names),
        email=email,
        name=chosen["name"],
        timezone=chosen["timezone"],
        attributes=_attributes(names, taken=chosen.values()),
    )


def has_email_column(names: Sequence[str], explicit: Mapping[str, str]) -> bool:
    """Whether an import of such columns would know the address."""
    names = [name.strip() for name in names]
    if explicit.get("email"):
        return _find(names, explicit["email"]) is not None
    return any(_normal(name) in _spellings("email") for name in names)


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


def _guess(names: Sequence[str], field: str, *, taken: Iterable[int | None]) -> int | None:
    free = {position: _normal(name) for position, name in enumerate(names) if position not in taken}
    for spelling in _spellings(field):
        found = [position for position, normal in free.items() if normal == spelling]
        if len(found) > 1:
            both = listed([names[position] for position in found])
            raise ImportRefused(
                "file", f"The columns {both} could each be the {field}; name one in the mapping."
            )
        if found:
            return found[0]
    return None


@cache
def _spellings(field: str) -> tuple[str, ...]:
    return tuple(_normal(spelling) for spelling in SPELLINGS[field].split(";"))


def _normal(name: str) -> str:
    """`E-mail Address` and `e_mail address` are both `emailaddress`."""
    return "".join(filter(str.isalnum, name.casefold()))


def _attributes(names: Sequence[str], *, taken: Iterable[int | None]) -> dict[str, int]:
    own = len(REPORT_COLUMNS) if tuple(names[: len(REPORT_COLUMNS)]) == REPORT_COLUMNS else 0
    attributes: dict[str, int] = {}
    for position in range(own, len(names)):
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
