"""What a dead worker or a lost message left behind; run by the minute tick, harmless to run at any time."""

from datetime import timedelta

from django.db.models import Q
from django.db.models.functions import Now

from campaigns import dispatch, ledger, lifecycle
from campaigns.importing import jobs
from campaigns.models import Batch, Campaign, CampaignStatus

SETTLING_TIME = timedelta(seconds=30)  # a message younger than this may be on its way


def take_back_expired_leases() -> list[int]:
    """Free the batches whose worker let its lease run out and return their campaigns.

    Raises RowsMissing for batches that lost rows, which stay as they are; their campaigns' status says so.
    """
    try:
        freed = ledger.take_back_expired()
    except ledger.RowsMissing as missing:
        for campaign_id in set(missing.campaigns.values()):
            lifecycle.remark(campaign_id, reason=_words(missing, campaign_id))
        raise
    for campaign_id in freed:
        lifecycle.remark(campaign_id, reason="")
    return freed


def _words(missing: ledger.RowsMissing, campaign_id: int) -> str:
    ids = [batch for batch, campaign in missing.campaigns.items() if campaign == campaign_id]
    numbers = Batch.objects.filter(id__in=ids).order_by("number").values_list("number", flat=True)
    named = ", ".join(map(str, numbers))
    return f"rows of batch {named} are missing; it is not sent before they are restored."


def forget_lost_messages(held: int) -> int:
    """Compare what was published with the `held` messages that wait at the broker; return how many came back.

    As many as are missing, the oldest first, are noted as unpublished, so that they are published again.
    Publishing one that was not lost is harmless: the second message finds the batch taken or done. It is
    held from then on, so that a queue cannot be doubled tick after tick.
    """
    published = Batch.objects.filter(
        Q(pending__gt=0) | Q(deferred__gt=0),
        published_at__isnull=False,
        lease_until=None,
        campaign__status=CampaignStatus.IN_PROGRESS,
    )
    # The young count, too: they are among the held, and would hide as many that are lost.
    missing = published.count() - held
    if missing <= 0:
        return 0
    settled = published.filter(published_at__lt=Now() - SETTLING_TIME).order_by("published_at")
    lost = list(settled.values_list("id", flat=True)[:missing])
    dispatch.forget_published(lost)
    return len(lost)


def unfinished_campaigns() -> list[int]:
    """Return the campaigns that may need messages, an end, or their open rows cancelled."""
    running = Q(status=CampaignStatus.IN_PROGRESS)
    cancelled = Q(status=CampaignStatus.CANCELLED) & (Q(batches__pending__gt=0) | Q(batches__deferred__gt=0))
    return list(
        Campaign.objects.filter(running | cancelled).distinct().order_by("id").values_list("id", flat=True)
    )


def interrupted_imports() -> list[int]:
    """Return the imports that are not finished and that no live worker has."""
    return jobs.interrupted()
