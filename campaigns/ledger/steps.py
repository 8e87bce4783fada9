"""What the ledger's steps are made of."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper

from campaigns.ledger.leases import CampaignHeld, Lease, LeaseLost
from campaigns.models import CampaignStatus

_RECONNECT_SECONDS = 0.5


@contextmanager
def batch_step() -> Iterator[CursorWrapper]:
    """One short transaction; every step locks its batch first, so that steps cannot deadlock."""
    with transaction.atomic(), connection.cursor() as cursor:
        yield cursor


def insist(lease: Lease, step: Callable[[CursorWrapper], None]) -> None:
    """Do a step, and again after a lost connection, as long as the lease is good.

    A commit of which only the acknowledgement was lost is found out: the rows are then not as the step
    expects them.
    """
    while True:
        try:
            with batch_step() as cursor:
                step(cursor)
            return
        except (OperationalError, InterfaceError):
            if not lease.is_good():
                raise
            connection.close()
            time.sleep(_RECONNECT_SECONDS)  # PostgreSQL is restarting; the answers are in hand


def lock(cursor: CursorWrapper, lease: Lease) -> None:
    """Lock the batch for the rest of the step. Raises LeaseLost when it is held under this lease no more."""
    cursor.execute(
        """
        SELECT 1 FROM campaigns_batch
         WHERE id = %s AND lease_token = %s AND lease_until IS NOT NULL FOR UPDATE
        """,
        [lease.batch_id, lease.token],
    )
    if cursor.fetchone() is None:
        raise LeaseLost(lease)


def lengthen(cursor: CursorWrapper, lease: Lease, *, running: bool) -> None:
    """Lengthen the lease; with `running`, only before it ran out and while the campaign is in progress.

    Raises LeaseLost, CampaignHeld.
    """
    lock(cursor, lease)
    cursor.execute(
        """
        UPDATE campaigns_batch AS batch
           SET lease_until = clock_timestamp() + %s * interval '1 second'
          FROM campaigns_campaign AS campaign
         WHERE batch.id = %s AND campaign.id = batch.campaign_id
           AND (NOT %s OR (batch.lease_until > clock_timestamp() AND campaign.status = 'in_progress'))
        RETURNING 1
        """,
        [settings.LEASE_SECONDS, lease.batch_id, running],
    )
    if cursor.fetchone() is None:
        cursor.execute("SELECT status FROM campaigns_campaign WHERE id = %s", [lease.campaign_id])
        (status,) = cursor.fetchone()
        if status == CampaignStatus.IN_PROGRESS:
            raise LeaseLost(lease)
        raise CampaignHeld(f"the campaign is {status}")


def expect_rows(cursor: CursorWrapper, expected: int, lease: Lease) -> None:
    """Raise LeaseLost unless the last statement changed as many rows as this worker had read."""
    if cursor.rowcount != expected:
        raise LeaseLost(f"{lease}: {cursor.rowcount} of {expected} rows were as this worker had read them")


def close_declared(cursor: CursorWrapper, batch_id: int, token: int) -> None:
    """Settle what left under a lease that ended without an answer: in doubt, so by policy."""
    cursor.execute(
        """
        UPDATE campaigns_deliverylog
           SET declared_token = NULL, doubts = doubts + 1,
               status = CASE WHEN %(resend)s AND attempts < %(maximum)s
                             THEN 'deferred' ELSE 'unconfirmed' END,
               not_before = CASE WHEN %(resend)s AND attempts < %(maximum)s
                                 THEN clock_timestamp() + %(base)s * interval '1 second' END,
               reason = 'it was leaving when its worker stopped; no answer was recorded'
         WHERE batch_id = %(batch_id)s AND declared_token = %(token)s AND status IN ('pending', 'deferred')
        """,
        {
            "batch_id": batch_id,
            "token": token,
            "resend": settings.UNCONFIRMED_POLICY == "resend",
            "maximum": settings.RETRY_MAX_ATTEMPTS,
            "base": settings.RETRY_BASE_SECONDS,
        },
    )


def recount(cursor: CursorWrapper, batch_id: int, *, worked_on: bool = True) -> None:
    """Set the batch's counters to what its rows say; a CHECK holds that they add up to its size.

    `worked_on` says whether a worker did it, which counts in the speed that the status shows.
    """
    cursor.execute(
        """
        UPDATE campaigns_batch
           SET (pending, deferred, sent, failed, suppressed, unconfirmed, cancelled) = (
                   SELECT count(*) FILTER (WHERE status = 'pending'),
                          count(*) FILTER (WHERE status = 'deferred'),
                          count(*) FILTER (WHERE status = 'sent'),
                          count(*) FILTER (WHERE status = 'failed'),
                          count(*) FILTER (WHERE status = 'suppressed'),
                          count(*) FILTER (WHERE status = 'unconfirmed'),
                          count(*) FILTER (WHERE status = 'cancelled')
                     FROM campaigns_deliverylog WHERE batch_id = campaigns_batch.id),
               recorded_at = CASE WHEN %s THEN clock_timestamp() ELSE recorded_at END
         WHERE id = %s
        """,
        [worked_on, batch_id],
    )
