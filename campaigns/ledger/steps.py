"""What the ledger's steps are made of."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction

from campaigns.ledger.leases import CampaignHeld, Hold, Lease, LeaseLost
from campaigns.models import CampaignStatus

Cursor = psycopg.Cursor[tuple[Any, ...]]

_RECONNECT_SECONDS = 0.5


@contextmanager
def batch_step() -> Iterator[Cursor]:
    """One short transaction; every step locks its batch first, so that steps cannot deadlock.

    Its statements are prepared, once per connection: planning them costs more than running them, and
    Django's own cursors cannot do it.
    """
    with transaction.atomic():
        connection.ensure_connection()
        raw = connection.connection
        raw.prepare_threshold = 0
        with connection.wrap_database_errors, psycopg.Cursor(raw) as cursor:
            yield cursor


def insist(lease: Hold, step: Callable[[Cursor], None]) -> None:
    """Do a step, and again after a lost connection as long as the lease is good, and once more after that."""
    last = False
    while True:
        try:
            with batch_step() as cursor:
                step(cursor)
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
        SELECT batch.leaving, batch.lease_until > clock_timestamp(), campaign.status
          FROM campaigns_batch AS batch
          JOIN campaigns_campaign AS campaign ON campaign.id = batch.campaign_id
         WHERE batch.id = %s AND batch.lease_token = %s AND batch.lease_until IS NOT NULL
           FOR UPDATE OF batch
        """,
        [lease.batch_id, lease.token],
    )
    found = cursor.fetchone()
    if found is None:
        raise LeaseLost(lease)
    leaving, in_time, status = found
    if running and status != CampaignStatus.IN_PROGRESS:
        raise CampaignHeld(f"the campaign is {status}")
    if running and not in_time:
        raise LeaseLost(lease)
    return set(leaving)


def lengthen(cursor: Cursor, lease: Lease) -> None:
    """Lengthen the lease of a batch that is held in this step."""
    cursor.execute(
        "UPDATE campaigns_batch SET lease_until = clock_timestamp() + %s * interval '1 second' WHERE id = %s",
        [settings.LEASE_SECONDS, lease.batch_id],
    )


def close_leaving(cursor: Cursor, batch_id: int, delivery_ids: Collection[int]) -> None:
    """Settle what left and has no answer, now that its lease ends: it is in doubt, so by policy."""
    cursor.execute(
        """
        UPDATE campaigns_deliverylog
           SET doubts = doubts + 1, attempts = attempts + 1, attempted_at = clock_timestamp(),
               provider = (SELECT leaving_through FROM campaigns_batch WHERE id = %(batch)s),
               status = CASE WHEN %(resend)s AND attempts + 1 < %(maximum)s
                             THEN 'deferred' ELSE 'unconfirmed' END,
               not_before = CASE WHEN %(resend)s AND attempts + 1 < %(maximum)s
                                 THEN clock_timestamp() + %(base)s * interval '1 second' END,
               reason = 'it was leaving when its worker stopped; no answer was recorded'
         WHERE id = ANY(%(ids)s::bigint[]) AND batch_id = %(batch)s AND status IN ('pending', 'deferred')
        """,
        {
            "ids": list(delivery_ids),
            "batch": batch_id,
            "resend": settings.UNCONFIRMED_POLICY == "resend",
            "maximum": settings.RETRY_MAX_ATTEMPTS,
            "base": settings.RETRY_BASE_SECONDS,
        },
    )


def recount(cursor: Cursor, batch_id: int, *, worked_on: bool = True) -> None:
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
