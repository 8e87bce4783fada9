"""Taking a batch, keeping it, giving it back; and taking back what a dead worker held."""

import time
from datetime import timedelta

import psycopg
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction

from campaigns.ledger.leases import Lease, LeaseLost, RowsMissing, good_until
from campaigns.ledger.rows import answers_of
from campaigns.ledger.steps import (
    Cursor,
    as_array,
    batch_step,
    hold,
    insist,
    lengthen,
    policy,
    recount,
    single_step,
    whole_step,
)
from campaigns.models import CampaignStatus

_ADD_UP = "batch_counters_add_up"


def claim(batch_id: int, owner: str) -> Lease | None:
    """Take a batch that is due, free and of a running campaign; None when there is nothing to take."""
    since = time.monotonic()
    row = whole_step(
        """
        UPDATE campaigns_batch AS batch
           SET lease_token = lease_token + 1, lease_owner = %s,
               lease_until = clock_timestamp() + %s * interval '1 second'
          FROM campaigns_campaign AS campaign
         WHERE batch.id = %s AND campaign.id = batch.campaign_id AND campaign.status = %s
           AND batch.lease_until IS NULL AND (batch.pending > 0 OR batch.deferred > 0)
           AND (batch.not_before IS NULL OR batch.not_before <= clock_timestamp())
        RETURNING batch.campaign_id, campaign.ledger_built_at, batch.lease_token, batch.failures
        """,
        [owner, settings.LEASE_SECONDS, batch_id, CampaignStatus.IN_PROGRESS.value],
    )
    if row is None:
        _forget_hint(batch_id)
        return None
    campaign_id, built_at, token, failures = row
    return Lease(batch_id, campaign_id, built_at, token, failures, good_until(since))


def renew(lease: Lease) -> None:
    """Lengthen the lease of a batch that takes its time.

    Raises LeaseLost, also when the database is away and the lease may have run out; CampaignHeld.
    """
    since = time.monotonic()
    try:
        with batch_step() as cursor:
            hold(cursor, lease, running=True)
            lengthen(cursor, lease)
    except (OperationalError, InterfaceError) as error:
        connection.close()
        if not lease.is_good():
            raise LeaseLost(lease) from error
        return
    lease.renewed(since)


def release(lease: Lease, *, trouble: str = "", wait: timedelta | None = None, failed: bool = False) -> None:
    """Write the lease's answers and give the batch back; what left and has no answer is in doubt.

    With `wait` nobody takes the batch before that time has passed; otherwise it is due when the first of
    its open deliveries is, at once if one of them waits for nothing. `failed` adds to its failures in a
    row. Raises LeaseLost.
    """
    insist(
        lease,
        lambda: whole_step(
            "SELECT pg_temp.release_batch(%s, %s, %s::bigint[], %s::json, %s, %s, %s::float8, %s, %s)",
            [
                lease.batch_id,
                lease.token,
                *answers_of(lease),
                trouble.replace("\0", ""),
                failed,
                wait.total_seconds() if wait else None,
                *policy(),
            ],
            lease=lease,
        ),
    )
    lease.written()


def take_back_expired() -> list[int]:
    """End the leases that have run out and return their batches' campaigns, each once.

    Undeclared rows are as they were; declared ones become unconfirmed. The token is raised, so that the
    worker that held the lease, should it wake up, can write nothing. Raises RowsMissing when all others
    are free, if batches have lost rows: those are left as they are.
    """
    freed: set[int] = set()
    broken: dict[int, int] = {}
    while True:
        with batch_step() as cursor:
            found = _end_lease(cursor, except_for=list(broken))
            if found is None:
                break
            batch_id, campaign_id, leaving = found
            try:
                with transaction.atomic():
                    cursor.execute(
                        "SELECT pg_temp.close_leaving(%s, %s::bigint[], %s, %s)",
                        [batch_id, as_array(leaving), *policy()],
                    )
                    recount(cursor, batch_id, worked_on=False)
            except psycopg.errors.CheckViolation as error:
                if error.diag.constraint_name != _ADD_UP:
                    raise
                broken[batch_id] = campaign_id
                transaction.set_rollback(True)
            else:
                freed.add(campaign_id)
    if broken:
        raise RowsMissing(broken)
    return sorted(freed)


def _end_lease(cursor: Cursor, *, except_for: list[int]) -> tuple[int, int, list[int]] | None:
    """End the lease that ran out first; return its batch, its campaign, and what was leaving under it.

    Materialized, because the planner may run a subquery once for each row of the table, and then ends
    every lease at once, of which only one would be closed.
    """
    cursor.execute(
        """
        WITH expired AS MATERIALIZED (
            SELECT id, leaving FROM campaigns_batch
             WHERE lease_until < clock_timestamp() AND NOT id = ANY(%s::bigint[])
             ORDER BY lease_until LIMIT 1 FOR UPDATE SKIP LOCKED)
        UPDATE campaigns_batch AS batch
           SET lease_until = NULL, lease_owner = '', published_at = NULL, leaving = '{}',
               lease_token = lease_token + 1,
               trouble = 'the worker ' || split_part(lease_owner, ' ', 1) || ' did not finish this batch'
          FROM expired
         WHERE batch.id = expired.id
        RETURNING batch.id, batch.campaign_id, expired.leaving
        """,
        [except_for],
    )
    return cursor.fetchone()


def _forget_hint(batch_id: int) -> None:
    """Note that the message about a batch that could not be taken is used up."""
    with single_step() as cursor:
        cursor.execute(
            "UPDATE campaigns_batch SET published_at = NULL WHERE id = %s AND lease_until IS NULL", [batch_id]
        )
