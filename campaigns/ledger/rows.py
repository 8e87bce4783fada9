"""The rows of a batch: what is due, what is about to leave, and what became of it."""

import json
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from campaigns.ledger.changes import Change, not_sent
from campaigns.ledger.functions import IN_DOUBT
from campaigns.ledger.leases import Lease, LeaseLost
from campaigns.ledger.steps import Cursor, batch_step, hold, insist, lengthen, recount, refusals, whole_step
from campaigns.models import Campaign

DECLARE_TRIES = 3


@dataclass(frozen=True, slots=True)
class Row:
    """One delivery that is due, joined with what is known of its recipient now."""

    id: int
    email: str
    message_id: str
    attempts: int
    recipient_id: int | None
    name: str
    timezone: str
    attributes: dict[str, Any]
    suppressed: str


def due_rows(lease: Lease) -> list[Row]:
    """Return the batch's deliveries that may be tried now, with suppressions as they are now.

    Those tried less often come first, so that one that always ends the connection holds up no other.
    """
    with batch_step() as cursor:
        cursor.execute(
            """
            SELECT delivery.id, delivery.email, delivery.message_id, delivery.attempts, recipient.id,
                   coalesce(recipient.name, ''), coalesce(recipient.timezone, ''),
                   coalesce(recipient.attributes, '{}')::text,
                   coalesce(suppression.reason, '')
              FROM campaigns_deliverylog AS delivery
              LEFT JOIN campaigns_recipient AS recipient ON recipient.id = delivery.recipient_id
              LEFT JOIN campaigns_suppression AS suppression ON suppression.email = lower(delivery.email)
             WHERE delivery.batch_id = %s AND delivery.status IN ('pending', 'deferred')
               AND (delivery.not_before IS NULL OR delivery.not_before <= clock_timestamp())
             ORDER BY delivery.attempts, delivery.id
            """,
            [lease.batch_id],
        )
        return [_row(values) for values in cursor.fetchall()]


def declare(lease: Lease, delivery_ids: Sequence[int], provider: str) -> set[int]:
    """Write down what is about to leave this process, and the lease's answers with it; renew the lease.

    Returns those that must not leave after all, because their address was suppressed or their recipient
    deleted since the batch was read; they have their answer. The others are in doubt from here to when
    their answers are written. It is one row of one batch that says so, and its commit waits for the disk:
    PostgreSQL forgets an asynchronous one when any of its processes is killed. Raises LeaseLost, or
    CampaignHeld when the campaign is not in progress any more. A database that is away is waited for, and
    then tried DECLARE_TRIES times in all.
    """
    tries = 0
    while True:
        since = time.monotonic()
        try:
            held_back = _declare(lease, delivery_ids, provider)
        except (OperationalError, InterfaceError):
            # committed or not, nothing of these has left: that is their answer
            lease.unsure = True
            connection.close()
            record(lease, [not_sent(delivery_id) for delivery_id in delivery_ids])
            tries += 1
            if tries == DECLARE_TRIES:
                raise
        else:
            lease.written()
            lease.renewed(since)
            return held_back


def _declare(lease: Lease, delivery_ids: Sequence[int], provider: str) -> set[int]:
    (held_back,) = whole_step(
        lease,
        "SELECT pg_temp.declare_leaving(%s, %s, %s, %s::bigint[], %s, %s::json)",
        [
            lease.batch_id,
            lease.token,
            float(settings.LEASE_SECONDS),
            _as_array(delivery_ids),
            provider,
            _as_json(lease.answers.values()),
        ],
    )
    return set(held_back)


def record(lease: Lease, changes: Sequence[Change] = ()) -> None:
    """Write the lease's answers, and these: what became of deliveries that were declared. Raises LeaseLost.

    A database that is away is waited for as long as the lease lasts: the answers are known, and lost with
    this process.
    """
    since = time.monotonic()
    lease.answer(changes)

    def step(cursor: Cursor) -> None:
        leaving = hold(cursor, lease)
        left = leaving - write_answers(cursor, lease, leaving)
        cursor.execute(
            "UPDATE campaigns_batch SET leaving = %s::bigint[] WHERE id = %s", [list(left), lease.batch_id]
        )
        lengthen(cursor, lease)
        recount(cursor, lease.batch_id)

    insist(lease, step)
    lease.written()
    lease.renewed(since)


def rule_out(lease: Lease, changes: Sequence[Change]) -> None:
    """Write the answers of deliveries that are not to be sent at all. Raises LeaseLost."""
    with batch_step() as cursor:
        if hold(cursor, lease).intersection(change.delivery_id for change in changes):
            raise LeaseLost(lease, "something that is leaving was to be ruled out")
        _write(cursor, lease, changes)
        recount(cursor, lease.batch_id)


def write_answers(cursor: Cursor, lease: Lease, leaving: Collection[int], *, strict: bool = True) -> set[int]:
    """Write the lease's answers in a step that holds the batch, and return whose they are.

    Only what is leaving can be answered, and only this lease's steps change what is. So an answer that is
    not awaited, after the connection broke in the step before, was written by that step: its commit was
    made, and only the word of it lost. Else, if `strict`, it raises LeaseLost.
    """
    awaited = [change for delivery_id, change in lease.answers.items() if delivery_id in leaving]
    if strict and len(awaited) != len(lease.answers) and not lease.unsure:
        raise LeaseLost(lease, f"{len(awaited)} of {len(lease.answers)} answers were awaited")
    if awaited:
        _write(cursor, lease, awaited)
    return {change.delivery_id for change in awaited}


def cancel_open_rows(campaign: Campaign) -> None:
    """Cancel what has not left in batches that nobody holds; a held one follows when it is given back.

    What is in doubt from an earlier attempt, and was to be sent again, becomes unconfirmed.
    """
    with batch_step() as cursor:
        cursor.execute(
            """
            SELECT id FROM campaigns_batch
             WHERE campaign_id = %s AND lease_until IS NULL AND (pending > 0 OR deferred > 0)
             ORDER BY id FOR UPDATE
            """,
            [campaign.pk],
        )
        batches = [row[0] for row in cursor.fetchall()]
        cursor.execute(
            f"""
            WITH closed AS (
                UPDATE campaigns_deliverylog AS delivery
                   SET status = CASE WHEN {IN_DOUBT} THEN 'unconfirmed' ELSE 'cancelled' END,
                       reason = 'the campaign was cancelled', not_before = NULL
                 WHERE batch_id = ANY(%s::bigint[]) AND status IN ('pending', 'deferred')
                RETURNING batch_id, status
            ), counts AS (
                SELECT batch_id, count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
                       count(*) FILTER (WHERE status = 'unconfirmed') AS unconfirmed
                  FROM closed GROUP BY batch_id
            )
            UPDATE campaigns_batch AS batch
               SET cancelled = batch.cancelled + counts.cancelled,
                   unconfirmed = batch.unconfirmed + counts.unconfirmed,
                   pending = 0, deferred = 0, published_at = NULL, not_before = NULL
              FROM counts WHERE batch.id = counts.batch_id
            """,  # noqa: S608  # a constant of this module
            [batches],
        )


def _row(values: tuple[Any, ...]) -> Row:
    *plain, attributes, suppressed = values
    # not by orjson, to which a number of more than 64 bits is a float, or an error
    return Row(*(*plain, json.loads(attributes), suppressed))


def _write(cursor: Cursor, lease: Lease, changes: Collection[Change]) -> None:
    """Write these changes in a step that holds the batch. Raises LeaseLost unless every row is open."""
    with refusals(lease):
        cursor.execute(
            "SELECT pg_temp.write_answers(%s, %s::bigint[], %s::json)",
            [lease.batch_id, _as_array(change.delivery_id for change in changes), _as_json(changes)],
        )


def _as_json(changes: Iterable[Change]) -> str:
    """Return the changes as the functions of the session read them."""
    return orjson.dumps(
        [
            {
                "id": change.delivery_id,
                "status": change.status.value,
                "reason": change.reason.replace("\0", ""),
                "provider_message_id": change.provider_message_id.replace("\0", ""),
                "again_after": None if change.again_after is None else change.again_after.total_seconds(),
                "attempts": change.attempts,
                "doubts": change.doubts,
            }
            for change in changes
        ]
    ).decode()


def _as_array(ids: Iterable[int]) -> str:
    """Return ids as PostgreSQL writes an array, which costs a tenth of psycopg's own way."""
    return f"{{{','.join(map(str, ids))}}}"
