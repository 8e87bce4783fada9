"""The rows of a batch: what is due, what is about to leave, and what became of it."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.backends.utils import CursorWrapper

from campaigns.ledger.leases import Lease
from campaigns.ledger.steps import batch_step, expect_rows, insist, lengthen, recount
from campaigns.models import Campaign, DeliveryStatus


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


@dataclass(frozen=True, slots=True)
class Change:
    """What to write into one delivery; `attempts` and `doubts` are what to add to its counts.

    `again_after` says how long a deferred one waits, from the moment it is written.
    """

    delivery_id: int
    status: DeliveryStatus
    reason: str = ""
    provider_message_id: str = ""
    again_after: timedelta | None = None
    attempts: int = 0
    doubts: int = 0


def due_rows(lease: Lease) -> list[Row]:
    """Return the batch's deliveries that may be tried now, with suppressions as they are now.

    Those tried less often come first, so that one that always ends the connection holds up no other.
    """
    with connection.cursor() as cursor:
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
    """Write down what is about to leave this process, and renew the lease.

    Returns those that must not leave after all, because their address was suppressed or their recipient
    deleted since the batch was read; they have their answer. The others are in doubt from here to
    `record`. The commit waits for the disk: PostgreSQL forgets an asynchronous one when any of its
    processes is killed. Raises LeaseLost, or CampaignHeld when the campaign is not in progress any more.
    """
    since = time.monotonic()
    with batch_step() as cursor:
        lengthen(cursor, lease, running=True)
        held_back = _hold_back(cursor, lease, delivery_ids)
        leaving = [delivery_id for delivery_id in delivery_ids if delivery_id not in held_back]
        cursor.execute(
            """
            UPDATE campaigns_deliverylog
               SET declared_token = %s, provider = %s, attempts = attempts + 1,
                   attempted_at = clock_timestamp()
             WHERE id = ANY(%s) AND batch_id = %s AND status IN ('pending', 'deferred')
               AND declared_token IS NULL
            """,
            [lease.token, provider, leaving, lease.batch_id],
        )
        expect_rows(cursor, len(leaving), lease)
    lease.renewed(since)
    return held_back


def record(lease: Lease, changes: Sequence[Change], *, declared: bool = True) -> None:
    """Write what became of deliveries that were declared, or not, and count the batch anew.

    Raises LeaseLost, also when a commit whose acknowledgement was lost turns out to have been made.

    A database that is away is waited for as long as the lease lasts: the answers are known, and lost with
    this process.
    """
    since = time.monotonic()

    def step(cursor: CursorWrapper) -> None:
        lengthen(cursor, lease, running=False)
        _write(cursor, lease, changes, lease.token if declared else None)
        recount(cursor, lease.batch_id)

    insist(lease, step)
    lease.renewed(since)


def cancel_open_rows(campaign: Campaign) -> None:
    """Cancel what has not left in batches that nobody holds; a held one follows when it is given back."""
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
            """
            UPDATE campaigns_deliverylog
               SET status = 'cancelled', reason = 'the campaign was cancelled', not_before = NULL
             WHERE batch_id = ANY(%s) AND status IN ('pending', 'deferred')
            """,
            [batches],
        )
        cursor.execute(
            """
            UPDATE campaigns_batch
               SET cancelled = cancelled + pending + deferred, pending = 0, deferred = 0,
                   published_at = NULL, not_before = NULL
             WHERE id = ANY(%s)
            """,
            [batches],
        )


def _row(values: tuple[Any, ...]) -> Row:
    *plain, attributes, suppressed = values
    return Row(*(*plain, json.loads(attributes), suppressed))


def _hold_back(cursor: CursorWrapper, lease: Lease, delivery_ids: Sequence[int]) -> set[int]:
    """Settle those of these rows that must not be mailed any more, and return their ids."""
    cursor.execute(
        """
        UPDATE campaigns_deliverylog AS delivery
           SET status = CASE WHEN suppression.email IS NULL THEN 'cancelled' ELSE 'suppressed' END,
               reason = coalesce('the address is suppressed: ' || suppression.reason,
                                 'the recipient was deleted'),
               not_before = NULL
          FROM campaigns_deliverylog AS asked
          LEFT JOIN campaigns_suppression AS suppression ON suppression.email = lower(asked.email)
         WHERE asked.id = ANY(%s) AND asked.batch_id = %s AND delivery.id = asked.id
           AND delivery.status IN ('pending', 'deferred') AND delivery.declared_token IS NULL
           AND (suppression.email IS NOT NULL OR asked.recipient_id IS NULL)
        RETURNING delivery.id
        """,
        [list(delivery_ids), lease.batch_id],
    )
    held_back = {row[0] for row in cursor.fetchall()}
    if held_back:
        recount(cursor, lease.batch_id)
    return held_back


def _write(
    cursor: CursorWrapper, lease: Lease, changes: Sequence[Change], declared_token: int | None
) -> None:
    columns = list(
        zip(
            *(
                (
                    change.delivery_id,
                    str(change.status),
                    change.reason.replace("\0", ""),
                    change.provider_message_id.replace("\0", ""),
                    None if change.again_after is None else change.again_after.total_seconds(),
                    change.attempts,
                    change.doubts,
                )
                for change in changes
            ),
            strict=True,
        )
    )
    cursor.execute(
        """
        UPDATE campaigns_deliverylog AS delivery
           SET status = change.status, reason = change.reason,
               not_before = clock_timestamp() + change.again_after * interval '1 second',
               provider_message_id = change.provider_message_id, declared_token = NULL,
               attempts = greatest(delivery.attempts + change.attempts, 0),
               doubts = delivery.doubts + change.doubts,
               sent_at = CASE WHEN change.status = 'sent' THEN clock_timestamp() END
          FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::float8[], %s::int[], %s::int[])
            AS change(id, status, reason, provider_message_id, again_after, attempts, doubts)
         WHERE delivery.id = change.id AND delivery.batch_id = %s
           AND delivery.status IN ('pending', 'deferred')
           AND delivery.declared_token IS NOT DISTINCT FROM %s
        """,
        [*(list(column) for column in columns), lease.batch_id, declared_token],
    )
    expect_rows(cursor, len(changes), lease)
