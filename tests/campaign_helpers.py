"""Short ways to say what a test of sending begins with and looks at."""

from datetime import UTC, datetime, timedelta

from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from campaigns import delivery, dispatch, ledger, lifecycle, progress
from campaigns.delivery import Handled
from campaigns.models import Batch, Campaign, DeliveryLog
from campaigns.providers import Line

NOW = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)

_COUNTS = ("pending", "deferred", "sent", "failed", "suppressed", "unconfirmed", "cancelled")


def clock() -> datetime:
    return datetime.now(UTC)


def started(campaign: Campaign) -> list[int]:
    """Start the campaign, build its ledger and return its batches' ids, unpublished."""
    lifecycle.start(campaign.pk, now=clock())
    dispatch.build_ledger(campaign.pk, now=clock())
    return list(Batch.objects.filter(campaign=campaign).order_by("number").values_list("id", flat=True))


def send(batch_id: int, line: Line) -> Handled | None:
    return delivery.send_batch(batch_id, owner="a test", line=line)


def counts(campaign: Campaign) -> dict[str, int]:
    """Return the counts that are not zero, after checking that they add up and match the rows."""
    current = progress.of(campaign.pk)
    assert current.adds_up
    found = {name: count for name in _COUNTS if (count := getattr(current, name))}
    rows: dict[str, int] = {}
    for status in DeliveryLog.objects.filter(campaign=campaign).values_list("status", flat=True):
        rows[status] = rows.get(status, 0) + 1
    assert rows == found
    return found


def row(email: str) -> DeliveryLog:
    return DeliveryLog.objects.get(email=email)


def leave_in_doubt(batch_id: int, *emails: str) -> None:
    """Declare these mails, or all of the batch, in the name of a worker that then dies."""
    rows = DeliveryLog.objects.filter(batch=batch_id)
    lease = ledger.claim(batch_id, "a worker that dies")
    assert lease is not None
    chosen = rows.filter(email__in=emails) if emails else rows
    ledger.declare(lease, list(chosen.values_list("id", flat=True)), "smtp")
    Batch.objects.filter(id=batch_id).update(lease_until=F("lease_until") - timedelta(days=1))
    ledger.take_back_expired()


def somebody_waits_for_a_lock() -> bool:
    """Say whether a session of PostgreSQL waits for a lock that another one holds."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_locks WHERE NOT granted")
        return bool(cursor.rowcount)


def let_time_pass(batch_id: int) -> None:
    """Make everything that waits due now."""
    DeliveryLog.objects.filter(batch=batch_id, not_before__isnull=False).update(not_before=Now())
    Batch.objects.filter(id=batch_id).update(not_before=None)
