"""The rows of a batch: what is due, what is about to leave, and what became of it."""

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import orjson
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from campaigns.ledger.changes import Change, not_sent
from campaigns.ledger.functions import IN_DOUBT
from campaigns.ledger.leases import Lease, LeaseLost
from campaigns.ledger.steps import (
    as_array,
    batch_step,
    hold,
    insist,
    recount,
    refusals,
    single_step,
    whole_step,
)
from campaigns.models import Campaign

DECLARE_TRIES = 3


class Row(NamedTuple):
    """One delivery that is due, joined with what is known of its recipient now."""

    id: int
    email: str
    message_id: str
    attempts: int
    recipient_id: int | None
    name: str
    timezone: str
    suppressed: str
    attributes: dict[str, Any]


def due_rows(lease: Lease) -> list[Row]:
    """Return the batch's deliveries that may be tried now, with suppressions as they are now.

    Those tried less often come first, so that one that always ends the connection holds up no other.
    """
    with single_step() as cursor:
        cursor.execute(
            """
            SELECT delivery.id, delivery.email, delivery.message_id, delivery.attempts, recipient.id,
                   coalesce(recipient.name, ''), coalesce(recipient.timezone, ''),
                   coalesce(suppression.reason, ''), coalesce(recipient.attributes, '{}')::text
              FROM campaigns_deliverylog AS delivery
              LEFT JOIN campaigns_recipient AS recipient ON recipient.id = delivery.recipient_id
              LEFT JOIN campaigns_suppression AS suppression ON suppression.email = lower(delivery.email)
             WHERE delivery.batch_id = %s AND delivery.status IN ('pending', 'deferred')
               AND (delivery.not_before IS NULL OR delivery.not_before <= clock_timestamp())
             ORDER BY delivery.attempts, delivery.id
            """,
            [lease.batch_id],
        )
        found = cursor.fetchall()
    # parsed all at once; and not by orjson, to which a number of more than 64 bits is a float, or an error
    attributes = json.loads(f"[{','.join([values[-1] for values in found])}]")
    return [Row._make([*values[:-1], own]) for values, own in zip(found, attributes, strict=True)]


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
    row = whole_step(
        "SELECT pg_temp.declare_leaving(%s, %s, %s, %s::bigint[], %s, %s::bigint[], %s::json)",
        [
            lease.batch_id,
            lease.token,
            float(settings.LEASE_SECONDS),
            as_array(delivery_ids),
            provider,
            *answers_of(lease),
        ],
        lease=lease,
    )
    return set(row[0]) if row else set()


def record(lease: Lease, changes: Sequence[Change] = ()) -> None:
    """Write the lease's answers, and these: what became of deliveries that were declared. Raises LeaseLost.

    A database that is away is waited for as long as the lease lasts: the answers are known, and lost with
    this process. Only what is leaving can be answered, and only this lease's steps change what is. So an
    answer that is not awaited, after the connection broke in the step before, was written by that step:
    its commit was made, and only the word of it lost.
    """
    since = time.monotonic()
    lease.answer(changes)
    insist(
        lease,
        lambda: whole_step(
            "SELECT pg_temp.record_answers(%s, %s, %s, %s::bigint[], %s::json, %s)",
            [
                lease.batch_id,
                lease.token,
                float(settings.LEASE_SECONDS),
                *answers_of(lease),
                not lease.unsure,
            ],
            lease=lease,
        ),
    )
    lease.written()
    lease.renewed(since)


def rule_out(lease: Lease, changes: Sequence[Change]) -> None:
    """Write the answers of deliveries that are not to be sent at all. Raises LeaseLost."""
    with batch_step() as cursor:
        if hold(cursor, lease).intersection(change.delivery_id for change in changes):
            raise LeaseLost(lease, "something that is leaving was to be ruled out")
        with refusals(lease):
            cursor.execute(
                "SELECT pg_temp.write_answers(%s, '', %s::bigint[], %s::json)",
                [lease.batch_id, as_array(change.delivery_id for change in changes), _as_json(changes)],
            )
        recount(cursor, lease.batch_id)


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


def answers_of(lease: Lease) -> tuple[str, str]:
    """Return the lease's answers as the functions of the session read them: whose they are, and what."""
    return as_array(lease.answers), _as_json(lease.answers.values())


def _as_json(changes: Iterable[Change]) -> str:
    return orjson.dumps([_as_object(change) for change in changes]).decode()


def _as_object(change: Change) -> dict[str, object]:
    """Return what is to be said of a change; what is not said is as of a mail that was accepted."""
    said: dict[str, object] = {
        "id": change.delivery_id,
        "provider_message_id": change.provider_message_id.replace("\0", ""),
    }
    if not change.is_mere_acceptance:
        said |= {
            "status": change.status.value,
            "reason": change.reason.replace("\0", ""),
            "again_after": None if change.again_after is None else change.again_after.total_seconds(),
            "attempts": change.attempts,
            "doubts": change.doubts,
        }
    return said
