"""Rows on their way: into a temporary table as they are read, then into the audience, chunk by chunk.

The table is this connection's own and goes with it. An import that was interrupted stages its rows anew: the
same file gives the same rows.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

import orjson
from django.db import IntegrityError, connection, transaction

from campaigns.importing.mapping import Columns
from campaigns.importing.refusals import DUPLICATE, SUPPRESSED, Refusal
from campaigns.models import OnExisting, Recipient, Suppression, SuppressionReason

RECIPIENTS = Recipient._meta.db_table
SUPPRESSIONS = Suppression._meta.db_table
KNOWN_ADDRESS = "recipient_email_unique_in_audience"
ROW = "line, email, typed, name, timezone, attributes"
MESSAGE = 1 << 17  # bytes of rows that are sent at once


class Written(NamedTuple):
    """What became of distinct addresses of a file."""

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
    """Drop the tables, if they are there."""
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS pg_temp.import_rows, pg_temp.import_duplicates")


@contextmanager
def copying() -> Iterator[Callable[[bytes], None]]:
    """A function that adds rows, given in the text format of COPY in the order of ROW.

    While Python reads on, PostgreSQL stores what it was given. Until the end nothing else can be asked of it.
    """
    stumbled = None
    waiting = bytearray()  # a row by itself would be sent as a message of its own
    with connection.cursor() as cursor, cursor.copy(f"COPY pg_temp.import_rows ({ROW}) FROM STDIN") as copy:

        def add(rows: bytes) -> None:
            waiting.extend(rows)
            if len(waiting) >= MESSAGE:
                copy.write(bytes(waiting))
                waiting.clear()

        try:
            yield add
            copy.write(bytes(waiting))
        except Exception as error:
            # a COPY that is broken off breaks the caller's transaction, if there is one: end it as it should
            stumbled = error
    if stumbled:
        raise stumbled


def close() -> None:
    """Make ready for reading what was added."""
    with connection.cursor() as cursor:
        # the rows lie by line, so this takes a few pages and finds a chunk without looking at the others
        cursor.execute("CREATE INDEX ON pg_temp.import_rows USING brin (line) WITH (pages_per_range = 16)")
        cursor.execute("ANALYZE pg_temp.import_rows (line)")


def set_duplicates_apart() -> int:
    """Take out every row whose address stood in the file before, and return how many there were.

    They are kept in a table of their own for `duplicates`.
    """
    with connection.cursor() as cursor:
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


def remarks(columns: Columns) -> Iterator[Refusal]:
    """For the report: the rows that were set apart, and those whose address is not mailed, by line.

    They have their original cells. They are read as they come, since there may be a million; until the last
    is taken nothing else can be asked of the connection.
    """
    why = " ".join(f"WHEN '{reason.value}' THEN '{reason.label}'" for reason in SuppressionReason)
    statement = f"""
        SELECT {ROW}, '{DUPLICATE}', 'The address stands in line ' || first_line || ' already.'
        FROM pg_temp.import_duplicates
        UNION ALL
        SELECT line, staged.email, typed, name, timezone, attributes, '{SUPPRESSED}',
            'The address is kept and not mailed: ' || CASE reason {why} ELSE reason END || '.'
        FROM pg_temp.import_rows staged JOIN {SUPPRESSIONS} known ON known.email = lower(staged.email)
        ORDER BY 1
        """  # noqa: S608  only names and labels of our own
    with connection.cursor() as cursor, cursor.copy(f"COPY ({statement}) TO STDOUT") as copy:
        copy.set_types(["int8", *["text"] * 7])
        for line, _, typed, name, timezone, attributes, verdict, reason in copy.rows():
            cells = [""] * len(columns.names)
            cells[columns.email] = typed
            if columns.name is not None:
                cells[columns.name] = name
            if columns.timezone is not None:
                cells[columns.timezone] = timezone
            for key, value in orjson.loads(attributes).items():
                cells[columns.attributes[key]] = value
            yield Refusal(line, columns.called(columns.email), reason, cells, verdict)


def count_suppressed() -> int:
    """How many rows have an address that is not mailed."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT count(*) FROM pg_temp.import_rows staged
            JOIN {SUPPRESSIONS} known ON known.email = lower(staged.email)
            """  # noqa: S608  only names of our own
        )
        return int(cursor.fetchone()[0])


def count() -> tuple[int, int]:
    """How many rows there are, and the last one's line (0 when there are none)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*), coalesce(max(line), 0) FROM pg_temp.import_rows")
        rows, last = cursor.fetchone()
    return rows, last


def is_empty(audience_id: int) -> bool:
    """Whether the audience has no recipient."""
    return not Recipient.objects.filter(audience_id=audience_id).exists()


def lock_audience(audience_id: int) -> None:
    """Let two imports into one audience take turns with their chunks, and not meet in a deadlock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"audience {audience_id}"])


def insert(audience_id: int, *, after: int, through: int, now: datetime) -> Written | None:
    """Insert a chunk of lines, as `write` does, into an audience that knows none of the addresses.

    That takes two thirds of the time. None when it knew one after all; then nothing was done.
    """
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL work_mem = '32MB'")  # so that a chunk is sorted in memory
            cursor.execute(*_insertion("pg_temp.import_rows", audience_id, after, through, now))
            return Written(cursor.rowcount, 0, 0)
    except IntegrityError as error:
        if KNOWN_ADDRESS in str(error):
            return None
        raise


def write(
    audience_id: int, columns: Columns, on_existing: str, *, after: int, through: int, now: datetime
) -> Written:
    """Insert the new addresses of a chunk of lines and treat the known ones as `on_existing` says.

    The chunk begins behind line `after` and ends with line `through`. An update takes over the fields that
    the file has a column for, and adds its attributes to those the recipient has. Call it inside a
    transaction.
    """
    insertion, values = _insertion("chunk", audience_id, after, through, now)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL work_mem = '32MB'")
        # xmax is 0 in a row that was inserted, and the updater's transaction in one that was updated
        cursor.execute(
            f"""
            WITH chunk AS MATERIALIZED (
                SELECT * FROM pg_temp.import_rows WHERE line > %(after)s AND line <= %(through)s
            ), written AS (
                {insertion}
                ON CONFLICT (audience_id, lower(email)) {_on_conflict(columns, on_existing)}
                RETURNING xmax = 0 AS created
            )
            SELECT (SELECT count(*) FROM chunk),
                count(*) FILTER (WHERE created), count(*) FILTER (WHERE NOT created) FROM written
            """,  # noqa: S608  only names of our own
            values,
        )
        total, created, updated = cursor.fetchone()
    return Written(created, updated, total - created - updated)


def _insertion(
    source: str, audience_id: int, after: int, through: int, now: datetime
) -> tuple[str, dict[str, int | datetime]]:
    """The statement that inserts a chunk, in the order of the index, which then grows page by page."""
    statement = f"""
        INSERT INTO {RECIPIENTS} AS known
            (audience_id, email, name, timezone, attributes, created_at, updated_at)
        SELECT %(audience)s, email, name, timezone, attributes, %(now)s, %(now)s
        FROM {source} WHERE line > %(after)s AND line <= %(through)s ORDER BY lower(email)
        """  # noqa: S608  only names of our own
    return statement, {"audience": audience_id, "now": now, "after": after, "through": through}


def foresee(audience_id: int, columns: Columns, on_existing: str) -> Written:
    """What `write` would do with all rows, without doing it."""
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
