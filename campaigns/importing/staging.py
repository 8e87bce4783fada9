"""Rows on their way: into a temporary table as they are read, then into the audience in one statement."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

import orjson
from django.db import connection

from campaigns.importing.mapping import Columns
from campaigns.importing.refusals import DUPLICATE, Refusal
from campaigns.importing.validating import Row
from campaigns.models import OnExisting, Recipient

RECIPIENTS = Recipient._meta.db_table
CHUNK = 10_000


class Written(NamedTuple):
    """What became of the distinct addresses of a file."""

    created: int
    updated: int
    unchanged: int


def create() -> None:
    """An empty table that only this connection sees, in place of one that an interrupted import left."""
    drop()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            CREATE TEMPORARY TABLE import_rows (
                line bigint, email text, typed text, name text, timezone text, attributes jsonb
            )
            """
        )


def drop() -> None:
    """Drop the table, if there is one."""
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS pg_temp.import_rows")


def add(rows: Iterable[Row]) -> None:
    """Copy rows into the table."""
    with connection.cursor() as cursor, cursor.copy("COPY pg_temp.import_rows FROM STDIN") as copy:
        for row in rows:
            copy.write_row((*row[:5], orjson.dumps(row.attributes).decode()))


def set_duplicates_apart() -> int:
    """Take out every row whose address stood in the file before, and return how many there were.

    They are kept in a table of their own for `duplicates`.
    """
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE pg_temp.import_rows")
        cursor.execute("DROP TABLE IF EXISTS pg_temp.import_duplicates")
        cursor.execute(
            """
            CREATE TEMPORARY TABLE import_duplicates AS
            SELECT later.*, first.line AS first_line
            FROM pg_temp.import_rows later
            JOIN (
                SELECT lower(email) AS address, min(line) AS line
                FROM pg_temp.import_rows GROUP BY 1 HAVING count(*) > 1
            ) first ON lower(later.email) = first.address AND later.line > first.line
            """
        )
        duplicates: int = cursor.rowcount
        if duplicates:
            cursor.execute(
                "DELETE FROM pg_temp.import_rows USING pg_temp.import_duplicates twin"
                " WHERE import_rows.line = twin.line"
            )
    return duplicates


def duplicates(columns: Columns) -> Iterator[Refusal]:
    """The rows that were set apart, by line, with their original cells."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT line, first_line, typed, name, timezone, attributes::text"
            " FROM pg_temp.import_duplicates ORDER BY line"
        )
        for line, first, typed, name, timezone, attributes in cursor:
            cells = [""] * len(columns.names)
            cells[columns.email] = typed
            if columns.name is not None:
                cells[columns.name] = name
            if columns.timezone is not None:
                cells[columns.timezone] = timezone
            for key, value in orjson.loads(attributes).items():
                cells[columns.attributes[key]] = value
            reason = f"The address stands in line {first} already."
            yield Refusal(line, columns.called(columns.email), reason, cells, DUPLICATE)


def write(audience_id: int, columns: Columns, on_existing: str, *, now: datetime) -> Written:
    """Insert the new addresses and treat the known ones as `on_existing` says.

    An update takes over the fields that the file has a column for, and adds its attributes to those the
    recipient has. Call it inside a transaction.
    """
    with connection.cursor() as cursor:
        # Two imports into one audience: the second waits here instead of in a deadlock on its rows.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"audience {audience_id}"])
        cursor.execute("SELECT count(*) FROM pg_temp.import_rows")
        total: int = cursor.fetchone()[0]
        # xmax is 0 in a row that was inserted, and the updater's transaction in one that was updated
        cursor.execute(
            f"""
            WITH written AS (
                INSERT INTO {RECIPIENTS} AS known
                    (audience_id, email, name, timezone, attributes, created_at, updated_at)
                SELECT %(audience)s, email, name, timezone, attributes, %(now)s, %(now)s
                FROM pg_temp.import_rows ORDER BY lower(email)
                ON CONFLICT (audience_id, lower(email)) {_on_conflict(columns, on_existing)}
                RETURNING xmax = 0 AS created
            )
            SELECT count(*) FILTER (WHERE created), count(*) FILTER (WHERE NOT created) FROM written
            """,  # noqa: S608  only names of our own
            {"audience": audience_id, "now": now},
        )
        created, updated = cursor.fetchone()
    return Written(created, updated, total - created - updated)


def foresee(audience_id: int, columns: Columns, on_existing: str) -> Written:
    """What `write` would do, without doing it."""
    changes = _changes(columns, "staged") if on_existing == OnExisting.UPDATE else "false"
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT count(*) FILTER (WHERE known.id IS NULL),
                   count(*) FILTER (WHERE known.id IS NOT NULL AND ({changes})),
                   count(*) FILTER (WHERE known.id IS NOT NULL AND NOT ({changes}))
            FROM pg_temp.import_rows staged
            LEFT JOIN {RECIPIENTS} known
                ON known.audience_id = %s AND lower(known.email) = lower(staged.email)
            """,  # noqa: S608  only names of our own
            [audience_id],
        )
        return Written(*cursor.fetchone())


def _values(columns: Columns, source: str) -> dict[str, str]:
    """What an update sets, each column with its expression."""
    values = {"attributes": f"known.attributes || {source}.attributes"}
    if columns.name is not None:
        values["name"] = f"{source}.name"
    if columns.timezone is not None:
        values["timezone"] = f"{source}.timezone"
    return values


def _changes(columns: Columns, source: str) -> str:
    values = _values(columns, source)
    return " OR ".join(f"known.{name} IS DISTINCT FROM {value}" for name, value in values.items())


def _on_conflict(columns: Columns, on_existing: str) -> str:
    if on_existing == OnExisting.SKIP:
        return "DO NOTHING"
    values = _values(columns, "EXCLUDED")
    assignments = ", ".join(f"{name} = {value}" for name, value in values.items())
    return (
        f"DO UPDATE SET {assignments}, updated_at = EXCLUDED.updated_at WHERE {_changes(columns, 'EXCLUDED')}"
    )
