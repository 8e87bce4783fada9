"""From a due campaign to batches in the queue: who is written to is decided once, in one transaction."""

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

from django.conf import settings
from django.db import Error, connection, transaction
from django.db.models import Count, Q
from django.db.models.functions import Now

from campaigns import attachments, ledger, lifecycle, preflight, progress, timing
from campaigns.importing import jobs
from campaigns.ledger.steps import whole_step
from campaigns.models import Batch, Campaign, CampaignStatus, DeliveryLog, DeliveryStatus, Timing

logger = logging.getLogger(__name__)

SOON = timedelta(seconds=60)  # from one tick to the next; what comes in it is published ahead

_OPEN = Q(pending__gt=0) | Q(deferred__gt=0)


class LedgerBroken(Exception):
    """The ledger of a campaign does not add up, so it is not called finished; a defect, to be looked at."""


def start_due(*, now: datetime) -> list[int]:
    """Start the campaigns whose time has come and return their ids; one that cannot be sent fails."""
    due = Campaign.objects.filter(status=CampaignStatus.SCHEDULED, scheduled_at__lte=now)
    return [
        campaign_id
        for campaign_id in due.order_by("scheduled_at").values_list("id", flat=True)
        if _start(campaign_id, now)
    ]


def _start(campaign_id: int, now: datetime) -> bool:
    try:
        lifecycle.start(campaign_id, now=now)
    except preflight.CampaignNotReady as problem:
        return _fail(campaign_id, str(problem), now)
    except lifecycle.TransitionRefused:
        return False  # another tick, or its operator, was faster
    except Error:
        raise
    except Exception as error:
        # whatever is odd about one campaign must not keep the others from starting
        logger.exception("campaign %s could not be started", campaign_id)
        return _fail(campaign_id, f"It could not be started: {error!r}", now)
    return True


def _fail(campaign_id: int, reason: str, now: datetime) -> bool:
    """Let the campaign fail, unless somebody was faster; False, for it was not started."""
    with suppress(lifecycle.TransitionRefused):
        lifecycle.fail(campaign_id, reason=reason, now=now)
    return False


def build_ledger(campaign_id: int, *, now: datetime) -> None:
    """Write one row for each recipient, in batches, and keep the template as it is now.

    Done once: a second call, at the same moment or later, finds it done and changes nothing. A campaign
    that turns out not to be sendable fails with the reason. While an import is half written into the audience
    nothing is done yet.
    """
    try:
        with transaction.atomic():
            campaign = Campaign.objects.select_for_update().get(id=campaign_id)
            if campaign.status != CampaignStatus.IN_PROGRESS or campaign.ledger_built_at:
                return
            if campaign.timing == Timing.GIVEN:
                return  # whoever starts it writes its rows: `start_with_moments`
            if jobs.is_half_written(campaign.audience_id):
                return  # the other half would be left out for good; the tick comes back
            preflight.check(campaign)
            by_zone = campaign.timing == Timing.RECIPIENT_LOCAL
            _freeze(campaign, timing.write_rows_by_zone if by_zone else timing.write_rows_at_once, now)
    except preflight.CampaignNotReady as problem:
        _fail(campaign_id, str(problem), now)


def start_with_moments(
    campaign: Campaign, moments: Iterable[tuple[int, datetime | None]], *, now: datetime
) -> None:
    """Start a stored campaign of the timing `given`, to these recipients, each mail at its own moment.

    `moments` are pairs of a recipient's id and when its mail may leave, None for at once. All in one
    transaction, or nothing; a campaign that has its ledger already is left alone. Raises TransitionRefused,
    CampaignNotReady.
    """
    with transaction.atomic():
        locked = Campaign.objects.select_for_update().get(id=campaign.pk)
        if locked.ledger_built_at:
            return
        if locked.status != CampaignStatus.IN_PROGRESS:
            lifecycle.start(locked.pk, now=now)
            locked.refresh_from_db()
        _freeze(locked, partial(timing.write_rows, moments=moments), now)


def _freeze(campaign: Campaign, write_rows: Callable[[Campaign], int], now: datetime) -> None:
    """Keep what the campaign says as it is now, and write its rows."""
    campaign.subject, campaign.html, campaign.text = preflight.parts_of(campaign)
    attachments.freeze(campaign)
    campaign.ledger_built_at = now
    campaign.ledger_size = write_rows(campaign)
    campaign.save(update_fields=["subject", "html", "text", "ledger_built_at", "ledger_size"])


def next_batches(campaign_id: int) -> list[int]:
    """Return the batches to publish now and note them as published.

    At most CAMPAIGN_WINDOW batches of a campaign are in the queue at a time, so that a campaign of a
    million cannot hold up a small one. It is filled up when a quarter of it is free, not batch by batch:
    each time costs a connection to the broker.
    """
    least = max(settings.CAMPAIGN_WINDOW // 4, 1)
    if settings.CAMPAIGN_WINDOW - _published(campaign_id) < least:
        return []  # as after most batches: nothing is locked to find that out
    due = "(not_before IS NULL OR not_before <= clock_timestamp())"
    return sorted(_to_publish(campaign_id, due, least=least))


def _published(campaign_id: int) -> int:
    """Return how many of the campaign's batches are in the queue or being worked on."""
    (count,) = whole_step(
        """
        SELECT count(*) FROM campaigns_batch
         WHERE campaign_id = %s AND (pending > 0 OR deferred > 0) AND published_at IS NOT NULL
        """,
        [campaign_id],
    ) or (0,)
    return int(count)


def soon_batches(campaign_id: int) -> dict[int, int]:
    """Return the batches whose moment comes within SOON, each with the whole seconds until then.

    They are noted as published at that moment, when their messages arrive, within what CAMPAIGN_WINDOW
    leaves room for. So they need not wait for the tick that comes after it.
    """
    soon = f"clock_timestamp() + interval '{SOON.total_seconds()} seconds'"
    return _to_publish(campaign_id, f"not_before > clock_timestamp() AND not_before <= {soon}", least=1)


def _to_publish(campaign_id: int, due: str, *, least: int) -> dict[int, int]:
    """Note batches that are `due` as published, and return them with the seconds until they may be sent.

    None unless the campaign's window has room for `least` of them.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        # one at a time, each seeing what the one before has published
        cursor.execute(
            "SELECT 1 FROM campaigns_campaign WHERE id = %s AND status = 'in_progress' FOR NO KEY UPDATE",
            [campaign_id],
        )
        if cursor.fetchone() is None:
            return {}
        cursor.execute(
            f"""
            WITH room AS (
                SELECT greatest(%(window)s - count(*), 0) AS places FROM campaigns_batch
                 WHERE campaign_id = %(campaign)s AND (pending > 0 OR deferred > 0)
                   AND published_at IS NOT NULL
            ), next AS MATERIALIZED (
                SELECT id FROM campaigns_batch
                 WHERE campaign_id = %(campaign)s AND (pending > 0 OR deferred > 0)
                   AND published_at IS NULL AND lease_until IS NULL AND {due}
                 ORDER BY number
                 LIMIT (SELECT CASE WHEN places >= %(least)s THEN places ELSE 0 END FROM room)
                   FOR UPDATE SKIP LOCKED
            )
            UPDATE campaigns_batch AS batch SET published_at = greatest(clock_timestamp(), not_before)
              FROM next WHERE batch.id = next.id
            RETURNING batch.id,
                      coalesce(greatest(ceil(extract(epoch FROM not_before - clock_timestamp())), 0), 0)::int
            """,  # noqa: S608  # a condition of this module
            {"window": settings.CAMPAIGN_WINDOW, "least": least, "campaign": campaign_id},
        )
        return dict(cursor.fetchall())


def note_published(batch_id: int) -> bool:
    """Note that a message about this batch, which rests, is under way; False when somebody has it already."""
    resting = Batch.objects.filter(_OPEN, id=batch_id, published_at=None, lease_until=None)
    return bool(resting.update(published_at=Now()))


def is_to_end(campaign_id: int) -> bool:
    """Say whether `finalize` would find something to do: nothing is open, or what is open is cancelled."""
    found = whole_step(
        """
        SELECT campaign.status = %s
               OR NOT EXISTS (SELECT 1 FROM campaigns_batch
                               WHERE campaign_id = campaign.id AND (pending > 0 OR deferred > 0))
              AND NOT EXISTS (SELECT 1 FROM campaigns_batch
                               WHERE campaign_id = campaign.id AND lease_until IS NOT NULL)
          FROM campaigns_campaign AS campaign WHERE campaign.id = %s
        """,
        [CampaignStatus.CANCELLED.value, campaign_id],
    )
    return found is not None and bool(found[0])


def forget_published(batch_ids: Iterable[int]) -> None:
    """Note that these batches are in no queue after all, so that they are published again."""
    Batch.objects.filter(id__in=list(batch_ids), lease_until=None).update(published_at=None)


def finalize(campaign_id: int, *, now: datetime) -> None:
    """Finish a campaign whose last batch is done; cancel what a cancelled one has left. Else nothing.

    Raises LedgerBroken unless there are as many rows as the ledger was built with, and the counters say of
    them what they say themselves; the campaign then stays in progress, and its status says why.
    """
    campaign = Campaign.objects.get(id=campaign_id)
    if campaign.status == CampaignStatus.CANCELLED:
        ledger.cancel_open_rows(campaign)
        return
    if not _is_done(campaign):
        return
    broken = ""
    with transaction.atomic(), suppress(lifecycle.TransitionRefused):  # somebody was faster
        # an operator may be making mails pending again: settling waits for this lock, or is seen below
        campaign = Campaign.objects.select_for_update().get(id=campaign_id)
        if not _is_done(campaign):
            return
        done = progress.of(campaign_id)
        broken = _fault(done)
        if broken:
            lifecycle.remark(campaign_id, reason=broken)
        elif done.came_to_nothing:
            lifecycle.fail(campaign_id, reason="Not one mail was accepted; see the delivery log.", now=now)
        else:
            lifecycle.complete(campaign_id, now=now)
    if broken:
        raise LedgerBroken(f"campaign {campaign_id}: {broken}")


def _is_done(campaign: Campaign) -> bool:
    in_progress = campaign.status == CampaignStatus.IN_PROGRESS and campaign.ledger_built_at is not None
    return in_progress and not _has_work(campaign.pk)


def _fault(done: progress.Progress) -> str:
    """Say in what the audience at the start, the counters and the rows disagree; '' when they agree."""
    if not done.adds_up:
        return f"{done.total:,} mails were to be sent, but the batches account for {done.counted:,}."
    rows = DeliveryLog.objects.filter(campaign_id=done.id).order_by()
    found = dict(rows.values_list("status").annotate(Count("id")))
    disagreeing = [
        f"{getattr(done, status):,} {status} by the batches, {found.get(status, 0):,} by the delivery log"
        for status in DeliveryStatus.values
        if getattr(done, status) != found.get(status, 0)
    ]
    return f"{'; '.join(disagreeing)}." if disagreeing else ""


def _has_work(campaign_id: int) -> bool:
    """Say whether a batch of the campaign has open rows or is being worked on."""
    batches = Batch.objects.filter(campaign_id=campaign_id)
    return batches.filter(_OPEN).exists() or batches.filter(lease_until__isnull=False).exists()
