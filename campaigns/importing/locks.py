"""Who works on an import: whoever holds its lock in PostgreSQL.

An advisory lock of the session goes with the connection, and so with the process, however that ends; no
lease has to run out. It needs a session of its own: no transaction pooling between us and PostgreSQL.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import Error, connection

NAMESPACE = 0x6D61_696C  # "mail"; the upper half of the key, so that other users of such locks stay apart


@contextmanager
def held(job_id: int) -> Iterator[bool]:
    """Hold the lock of an import; False when somebody else does."""
    key = (NAMESPACE << 32) | job_id
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [key])
        mine: bool = cursor.fetchone()[0]
    try:
        yield mine
    finally:
        if mine:
            _release(key)


def held_by_anybody() -> set[int]:
    """The ids of the imports whose lock is held."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT objid::bigint FROM pg_locks
            WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND classid::bigint = %s
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            """,
            [NAMESPACE],
        )
        return {job_id for (job_id,) in cursor}


def _release(key: int) -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [key])
    except Error:
        connection.close()  # broken, or in a failed transaction: the lock goes with the session
