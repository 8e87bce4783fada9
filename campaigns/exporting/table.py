"""An audience as a table: its fields, and a column for each attribute that any of its recipients has."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import orjson
from django.db import connection
from django.db.models.functions import Lower

from campaigns.importing.mapping import FIELDS
from campaigns.models import Audience, Recipient

CHUNK = 2_000  # rows fetched at a time


class Table(NamedTuple):
    """A header, and rows with as many cells, read as they are asked for."""

    header: list[str]
    rows: Iterator[list[str]]


def table(audience: Audience) -> Table:
    """The recipients of an audience in the order of their addresses.

    Texts are written as they are, other values of attributes as JSON; an attribute that somebody lacks is an
    empty cell.
    """
    keys = _keys(audience)
    return Table(_header(keys), _rows(audience, keys))


def _keys(audience: Audience) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT DISTINCT jsonb_object_keys(attributes) AS key FROM {Recipient._meta.db_table}"  # noqa: S608  a name of our own
            " WHERE audience_id = %s ORDER BY key",
            [audience.pk],
        )
        return [key for (key,) in cursor]


def _header(keys: Sequence[str]) -> list[str]:
    """The names of the columns; one that another has already, whatever its case, gets a number."""
    header = list(FIELDS)
    taken = set(FIELDS)
    for key in keys:
        name, number = key or "_", 1
        while name.casefold() in taken:
            number += 1
            name = f"{key} ({number})"
        header.append(name)
        taken.add(name.casefold())
    return header


def _rows(audience: Audience, keys: Sequence[str]) -> Iterator[list[str]]:
    found = Recipient.objects.filter(audience=audience).order_by(Lower("email"))
    values = found.values_list("email", "name", "timezone", "attributes")
    for email, name, timezone, attributes in values.iterator(chunk_size=CHUNK):
        yield [email, name, timezone, *(_text(attributes.get(key, "")) for key in keys)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
