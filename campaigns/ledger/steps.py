"""What the ledger's steps are made of."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import psycopg
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction

from campaigns.ledger.functions import COUNTED, HELD, LOST, equipped
from campaigns.ledger.leases import CampaignHeld, Hold, Lease, LeaseLost
from campaigns.models import CampaignStatus

Cursor = psycopg.Cursor[tuple[Any, ...]]

_RECONNECT_SECONDS = 0.5


@contextmanager
def batch_step() -> Iterator[Cursor]:
    """One short transaction; every step locks its batch first, so that steps cannot deadlock."""
    raw = equipped()
    with transaction.atomic(), connection.wrap_database_errors, psycopg.Cursor(raw) as cursor:
        yield cursor


def whole_step(
    statement: str, values: Sequence[object], *, lease: Hold | None = None
) -> tuple[Any, ...] | None:
    """Do what is one statement, and its own transaction; return the first row that it answers, if any.

    It is prepared, as are all that follow each batch or every few mails. Raises LeaseLost and CampaignHeld
    where a function of the session does, which is called for a lease.
    """
    with single_step(lease) as cursor:
        return cursor.execute(statement, values).fetchone()


@contextmanager
def single_step(lease: Hold | None = None) -> Iterator[Cursor]:
    """A step of one statement, which needs no other word to begin and to commit."""
    raw = equipped()
    # inside somebody's transaction, a refusal is to undo no more than this step
    undone = transaction.atomic() if connection.in_atomic_block else nullcontext()
    refused = refusals(lease) if lease else nullcontext()
    with undone, connection.wrap_database_errors, psycopg.Cursor(raw) as cursor, refused:
        yield cursor


@contextmanager
def refusals(lease: Hold) -> Iterator[None]:
    """Raise LeaseLost or CampaignHeld where a function of the session refuses the step."""
    try:
        yield
    except psycopg.Error as error:
        why = error.diag.message_primary or ""
        if error.sqlstate == LOST:
            raise LeaseLost(lease, why) from error
        if error.sqlstate == HELD:
            raise CampaignHeld(why) from error
        raise


def insist(lease: Hold, step: Callable[[], object]) -> None:
    """Do a step, and again after a lost connection as long as the lease is good, and once more after that."""
    last = False
    while True:
        try:
            step()
            return
        except (OperationalError, InterfaceError):
            lease.unsure = True
            connection.close()
            if last:
                raise
            last = not lease.is_good()
            time.sleep(_RECONNECT_SECONDS)  # PostgreSQL is restarting; the answers are in hand


def hold(cursor: Cursor, lease: Lease, *, running: bool = False) -> set[int]:
    """Lock the batch for the rest of the step and return which deliveries are leaving under this lease.

    Raises LeaseLost; with `running` also when the lease has run out, and CampaignHeld when the campaign is
    not in progress any more.
    """
    cursor.execute(
        """
        SELECT leaving, lease_until > clock_timestamp() FROM campaigns_batch
         WHERE id = %s AND lease_token = %s AND lease_until IS NOT NULL
           FOR UPDATE
        """,
        [lease.batch_id, lease.token],
    )
    found = cursor.fetchone()
    if found is None:
        raise LeaseLost(lease)
    leaving, in_time = found
    if running:
        _insist_on_campaign(cursor, lease)
    if running and not in_time:
        raise LeaseLost(lease)
    return set(leaving)


def _insist_on_campaign(cursor: Cursor, lease: Lease) -> None:
    """Raise CampaignHeld unless it is in progress, by what was committed before the batch was held."""
    cursor.execute("SELECT status FROM campaigns_campaign WHERE id = %s", [lease.campaign_id])
    (status,) = cursor.fetchone() or ("gone",)
    if status != CampaignStatus.IN_PROGRESS:
        raise CampaignHeld(f"the campaign is {status}")


def lengthen(cursor: Cursor, lease: Lease) -> None:
    """Lengthen the lease of a batch that is held in this step."""
    cursor.execute(
        "UPDATE campaigns_batch SET lease_until = clock_timestamp() + %s * interval '1 second' WHERE id = %s",
        [settings.LEASE_SECONDS, lease.batch_id],
    )


def policy() -> tuple[int, float]:
    """Return up to how many attempts, and after how many seconds, what is in doubt is tried again."""
    resends = settings.UNCONFIRMED_POLICY == "resend"
    return settings.RETRY_MAX_ATTEMPTS if resends else 0, float(settings.RETRY_BASE_SECONDS)


def recount(cursor: Cursor, batch_id: int, *, worked_on: bool = True) -> None:
    """Set the batch's counters to what its rows say; a CHECK holds that they add up to its size.

    `worked_on` says whether a worker did it, which counts in the speed that the status shows.
    """
    cursor.execute(
        f"""
        UPDATE campaigns_batch
           SET {COUNTED},
               recorded_at = CASE WHEN %s THEN clock_timestamp() ELSE recorded_at END
         WHERE id = %s
        """,  # noqa: S608  # a constant of ours
        [worked_on, batch_id],
    )


def as_array(ids: Iterable[int]) -> str:
    """Return ids as PostgreSQL writes an array, which costs a tenth of psycopg's own way."""
    return f"{{{','.join(map(str, ids))}}}"
