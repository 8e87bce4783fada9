"""The steps of the delivery ledger: each one conditional, each its own short transaction.

Every statement that writes for a worker names the lease it was given. Whoever lost the lease writes
nothing. Leases are judged by the database's clock, the only one that all workers share.
"""

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper

from campaigns import retries
from campaigns.models import Campaign, CampaignStatus, DeliveryStatus
from campaigns.providers import Outcome, Verdict

_RECONNECT_SECONDS = 0.5
_LEASE_MARGIN = 5.0  # seconds by which a worker gives its lease up before the database does


class LeaseLost(Exception):
    """Another worker, or nobody, holds this batch now; nothing may be sent or written for it."""


class CampaignHeld(Exception):
    """The campaign was paused or cancelled; what has not left stays where it is."""


@dataclass(slots=True)
class Lease:
    """The right to work on one batch until it runs out.

    `_good_until` is on this process's monotonic clock, which goes on while the process is stopped.
    """

    batch_id: int
    campaign_id: int
    token: int
    failures: int
    _good_until: float = field(repr=False)

    def is_good(self, *, for_seconds: float = 0.0) -> bool:
        """Say, without asking the database, whether the lease is certain to be held for that long still."""
        return time.monotonic() + for_seconds < self._good_until

    def renewed(self, since: float) -> None:
        """Count the lease anew from `since`, a moment before it was renewed."""
        self._good_until = _good_until(since)


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
    """What to write into one delivery; `attempts` is what to add to its count."""

    delivery_id: int
    status: DeliveryStatus
    reason: str = ""
    provider_message_id: str = ""
    not_before: datetime | None = None
    attempts: int = 0


def claim(batch_id: int, owner: str) -> Lease | None:
    """Take a batch that is due, free and of a running campaign; None when there is nothing to take."""
    since = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE campaigns_batch AS batch
               SET lease_token = lease_token + 1, lease_owner = %s,
                   lease_until = clock_timestamp() + %s * interval '1 second'
              FROM campaigns_campaign AS campaign
             WHERE batch.id = %s AND campaign.id = batch.campaign_id AND campaign.status = %s
               AND batch.lease_until IS NULL AND (batch.pending > 0 OR batch.deferred > 0)
               AND (batch.not_before IS NULL OR batch.not_before <= clock_timestamp())
            RETURNING batch.campaign_id, batch.lease_token, batch.failures
            """,
            [owner, settings.LEASE_SECONDS, batch_id, CampaignStatus.IN_PROGRESS],
        )
        row = cursor.fetchone()
        if row is None:
            _forget_hint(cursor, batch_id)
            return None
    campaign_id, token, failures = row
    return Lease(batch_id, campaign_id, token, failures, _good_until(since))


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
    with _batch_step() as cursor:
        _renew(cursor, lease, running=True)
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
        _expect_rows(cursor, len(leaving), lease)
    lease.renewed(since)
    return held_back


def renew(lease: Lease) -> bool:
    """Lengthen the lease while a slow provider is waited for; False when it is lost or the campaign held."""
    since = time.monotonic()
    try:
        with _batch_step() as cursor:
            _renew(cursor, lease, running=True)
    except (LeaseLost, CampaignHeld):
        return False
    except (OperationalError, InterfaceError):
        connection.close()
        return lease.is_good()
    lease.renewed(since)
    return True


def record(lease: Lease, changes: Sequence[Change]) -> None:
    """Write what became of deliveries, and count the batch anew. Raises LeaseLost.

    A database that is away is waited for as long as the lease lasts: the answers are known, and lost with
    this process.
    """
    since = time.monotonic()

    def step(cursor: CursorWrapper) -> None:
        _renew(cursor, lease, running=False)
        _write(cursor, lease, changes)
        _recount(cursor, lease.batch_id)

    _insist(lease, step)
    lease.renewed(since)


def release(lease: Lease, *, trouble: str = "", wait: timedelta | None = None, failed: bool = False) -> None:
    """Give the batch back; what was declared and has no answer becomes unconfirmed.

    With `wait` nobody takes the batch before that time has passed; otherwise it is due at once if
    something is pending, and else when its first deferred delivery is. `failed` adds to its failures in a
    row. Raises LeaseLost.
    """
    seconds = wait.total_seconds() if wait else 0.0

    def step(cursor: CursorWrapper) -> None:
        _lock(cursor, lease)
        _close_declared(cursor, lease.batch_id, lease.token)
        _recount(cursor, lease.batch_id)
        cursor.execute(
            """
            UPDATE campaigns_batch AS batch
               SET lease_until = NULL, lease_owner = '', published_at = NULL, trouble = %s,
                   failures = CASE WHEN %s THEN failures + 1 ELSE 0 END,
                   not_before = CASE
                       WHEN %s THEN clock_timestamp() + %s * interval '1 second'
                       WHEN pending > 0 THEN NULL
                       ELSE (SELECT min(delivery.not_before) FROM campaigns_deliverylog AS delivery
                              WHERE delivery.batch_id = batch.id AND delivery.status = 'deferred') END
             WHERE id = %s
            """,
            [trouble.replace("\0", ""), failed, wait is not None, seconds, lease.batch_id],
        )

    _insist(lease, step)


def take_back_expired() -> list[int]:
    """End the leases that have run out and return their batches' campaigns, each once.

    Undeclared rows are as they were; declared ones become unconfirmed. The token is raised, so that the
    worker that held the lease, should it wake up, can write nothing.
    """
    campaigns: set[int] = set()
    while True:
        with _batch_step() as cursor:
            cursor.execute(
                """
                UPDATE campaigns_batch
                   SET lease_until = NULL, lease_owner = '', published_at = NULL,
                       lease_token = lease_token + 1,
                       trouble = 'the worker ' || lease_owner || ' did not finish this batch'
                 WHERE id = (SELECT id FROM campaigns_batch
                              WHERE lease_until < clock_timestamp()
                              ORDER BY lease_until LIMIT 1 FOR UPDATE SKIP LOCKED)
                RETURNING id, campaign_id, lease_token - 1
                """
            )
            row = cursor.fetchone()
            if row is None:
                return sorted(campaigns)
            batch_id, campaign_id, token = row
            _close_declared(cursor, batch_id, token)
            _recount(cursor, batch_id)
        campaigns.add(campaign_id)


def cancel_open_rows(campaign: Campaign) -> None:
    """Cancel what has not left in batches that nobody holds; a held one follows when it is given back."""
    with _batch_step() as cursor:
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


def change_for(
    outcome: Outcome, *, attempts: int, now: datetime, jitter: Callable[[], float] = random.random
) -> Change:
    """Translate a provider's outcome into what the ledger keeps.

    `attempts` counts the tries of this delivery, this one included; `jitter` is that of `retries.backoff`.
    """
    match outcome.verdict:
        case Verdict.ACCEPTED:
            return Change(outcome.delivery_id, DeliveryStatus.SENT, "", outcome.provider_message_id)
        case Verdict.REFUSED:
            return Change(outcome.delivery_id, DeliveryStatus.FAILED, outcome.reason)
        case Verdict.UNSENT:
            return Change(outcome.delivery_id, DeliveryStatus.PENDING, outcome.reason, attempts=-1)
        case Verdict.DEFERRED:
            return _again_or(DeliveryStatus.FAILED, outcome, attempts, now, jitter)
        case Verdict.UNCONFIRMED if settings.UNCONFIRMED_POLICY == "resend":
            return _again_or(DeliveryStatus.UNCONFIRMED, outcome, attempts, now, jitter)
        case Verdict.UNCONFIRMED:
            return Change(outcome.delivery_id, DeliveryStatus.UNCONFIRMED, outcome.reason)


def _again_or(
    last: DeliveryStatus, outcome: Outcome, attempts: int, now: datetime, jitter: Callable[[], float]
) -> Change:
    """Defer the delivery, or call it `last` when it has been tried often enough."""
    again_at = retries.next_attempt(
        attempts,
        now=now,
        maximum=settings.RETRY_MAX_ATTEMPTS,
        base=timedelta(seconds=settings.RETRY_BASE_SECONDS),
        jitter=jitter,
    )
    if again_at is None:
        return Change(outcome.delivery_id, last, f"{outcome.reason} (after {attempts} attempts)")
    return Change(outcome.delivery_id, DeliveryStatus.DEFERRED, outcome.reason, not_before=again_at)


def _row(values: tuple[Any, ...]) -> Row:
    *plain, attributes, suppressed = values
    return Row(*(*plain, json.loads(attributes), suppressed))


def _good_until(since: float) -> float:
    return since + float(settings.LEASE_SECONDS) - _LEASE_MARGIN


@contextmanager
def _batch_step() -> Iterator[CursorWrapper]:
    """One short transaction; every step locks its batch first, so that steps cannot deadlock."""
    with transaction.atomic(), connection.cursor() as cursor:
        yield cursor


def _insist(lease: Lease, step: Callable[[CursorWrapper], None]) -> None:
    """Do a step, and again after a lost connection, as long as the lease is good.

    A commit of which only the acknowledgement was lost is found out: the rows are then not as the step
    expects them.
    """
    while True:
        try:
            with _batch_step() as cursor:
                step(cursor)
            return
        except (OperationalError, InterfaceError):
            if not lease.is_good():
                raise
            connection.close()
            time.sleep(_RECONNECT_SECONDS)


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
        _recount(cursor, lease.batch_id)
    return held_back


def _lock(cursor: CursorWrapper, lease: Lease) -> None:
    cursor.execute(
        """
        SELECT 1 FROM campaigns_batch
         WHERE id = %s AND lease_token = %s AND lease_until IS NOT NULL FOR UPDATE
        """,
        [lease.batch_id, lease.token],
    )
    if cursor.fetchone() is None:
        raise LeaseLost(lease)


def _renew(cursor: CursorWrapper, lease: Lease, *, running: bool) -> None:
    """Lengthen the lease; with `running`, only before it ran out and while the campaign is in progress."""
    _lock(cursor, lease)
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
        raise LeaseLost(lease) if status == CampaignStatus.IN_PROGRESS else CampaignHeld(status)


def _expect_rows(cursor: CursorWrapper, expected: int, lease: Lease) -> None:
    if cursor.rowcount != expected:
        raise LeaseLost(f"{lease}: {cursor.rowcount} of {expected} rows were as this worker had read them")


def _write(cursor: CursorWrapper, lease: Lease, changes: Sequence[Change]) -> None:
    columns = list(
        zip(
            *(
                (
                    change.delivery_id,
                    str(change.status),
                    change.reason.replace("\0", ""),
                    change.provider_message_id.replace("\0", ""),
                    change.not_before,
                    change.attempts,
                )
                for change in changes
            ),
            strict=True,
        )
    )
    cursor.execute(
        """
        UPDATE campaigns_deliverylog AS delivery
           SET status = change.status, reason = change.reason, not_before = change.not_before,
               provider_message_id = change.provider_message_id, declared_token = NULL,
               attempts = greatest(delivery.attempts + change.attempts, 0),
               sent_at = CASE WHEN change.status = 'sent' THEN clock_timestamp() END
          FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::int[])
            AS change(id, status, reason, provider_message_id, not_before, attempts)
         WHERE delivery.id = change.id AND delivery.batch_id = %s
           AND delivery.status IN ('pending', 'deferred')
        """,
        [*(list(column) for column in columns), lease.batch_id],
    )
    _expect_rows(cursor, len(changes), lease)


def _close_declared(cursor: CursorWrapper, batch_id: int, token: int) -> None:
    """Settle what left under a lease that ended without an answer: in doubt, so by policy."""
    cursor.execute(
        """
        UPDATE campaigns_deliverylog
           SET declared_token = NULL,
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


def _recount(cursor: CursorWrapper, batch_id: int) -> None:
    """Set the batch's counters to what its rows say; a CHECK holds that they add up to its size."""
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
               recorded_at = clock_timestamp()
         WHERE id = %s
        """,
        [batch_id],
    )


def _forget_hint(cursor: CursorWrapper, batch_id: int) -> None:
    """Note that the message about a batch that could not be taken is used up."""
    cursor.execute(
        "UPDATE campaigns_batch SET published_at = NULL WHERE id = %s AND lease_until IS NULL", [batch_id]
    )
