"""Settling what is unconfirmed: an operator decides what the system cannot know.

Of each mail that left without a recorded answer somebody may say that it arrived, that it is to be sent
again, or that it is given up. Each decision is kept with who made it and when.
"""

from collections.abc import Collection, Iterable, Sequence

from django.db import transaction

from campaigns import ledger, lifecycle, progress
from campaigns.ledger import Ruling
from campaigns.models import Batch, Campaign, CampaignStatus, Decision, DeliveryLog

LONGEST_NOTE = 2_000  # characters
MOST_NAMED = 1_000  # deliveries in one transaction; more are settled as a whole campaign, batch by batch


class NotUnconfirmed(Exception):
    """Deliveries were named that are not unconfirmed, or not any more; nothing was settled."""

    def __init__(self, delivery_ids: Sequence[int]) -> None:
        named = ", ".join(map(str, delivery_ids))
        super().__init__(f"Nothing was settled, because these deliveries are not unconfirmed: {named}.")
        self.delivery_ids = list(delivery_ids)


class TooManyNamed(Exception):
    """So many deliveries are not settled by name."""

    def __init__(self, count: int) -> None:
        super().__init__(
            f"Name up to {MOST_NAMED:,} deliveries at a time, not {count:,}; "
            "all unconfirmed mails of a campaign can be settled together."
        )


class CampaignCancelled(Exception):
    """Nothing more leaves in a cancelled campaign; its mails can be counted as sent or given up.

    `settled` mails had been settled before it was cancelled.
    """

    def __init__(self, campaign_id: int, settled: int = 0) -> None:
        before = f" {settled:,} mails had been settled before." if settled else ""
        super().__init__(
            f"Campaign {campaign_id} was cancelled, so nothing of it is sent again; count its mails as "
            f"sent or give them up.{before}"
        )
        self.settled = settled


def settle_deliveries(delivery_ids: Collection[int], ruling: Ruling) -> list[int]:
    """Settle the named deliveries, all or none, in one transaction; return their campaigns' ids.

    Raises NotUnconfirmed naming those that are something else or nothing, CampaignCancelled for
    `send_again` in a cancelled campaign, TooManyNamed.
    """
    asked = set(delivery_ids)
    if len(asked) > MOST_NAMED:
        raise TooManyNamed(len(asked))
    found = list(DeliveryLog.objects.filter(id__in=asked).values_list("id", "batch_id", "campaign_id"))
    batch_ids = sorted({batch_id for _, batch_id, _ in found})
    campaign_ids = sorted({campaign_id for _, _, campaign_id in found})
    with transaction.atomic():
        settled = ledger.settle(batch_ids, sorted(delivery_id for delivery_id, _, _ in found), ruling)
        if left := asked.difference(settled):
            raise NotUnconfirmed(sorted(left))
        for campaign_id in campaign_ids:
            _settle_campaign_status(campaign_id, ruling.decision)
    return campaign_ids


def settle_campaign(campaign_id: int, ruling: Ruling) -> int:
    """Settle every delivery of the campaign that is unconfirmed now; return how many were.

    Batch by batch, each in its own short transaction, so that workers are never held up for long. All
    or nothing is therefore kept per batch: what was settled before an error stays settled, and a second
    call goes on with the rest. Raises CampaignCancelled for `send_again` in a cancelled campaign.
    """
    settled = 0
    _refuse_cancelled(campaign_id, Campaign.objects.get(id=campaign_id).status, ruling.decision, settled)
    for batch_id in _doubtful_batches(campaign_id):
        with transaction.atomic(durable=True):
            count = len(ledger.settle([batch_id], None, ruling))
            _settle_campaign_status(campaign_id, ruling.decision, settled)
        settled += count
    return settled


def _doubtful_batches(campaign_id: int) -> Iterable[int]:
    batches = Batch.objects.filter(campaign_id=campaign_id, unconfirmed__gt=0)
    return list(batches.order_by("id").values_list("id", flat=True))


def _settle_campaign_status(campaign_id: int, decision: Decision, settled: int = 0) -> None:
    """Reopen a campaign that has ended, if it has mails to send again or ended otherwise than it is now.

    The lock makes this and `dispatch.finalize` follow one another, so that no campaign ends with mails
    pending. It is taken after those of batches, everywhere.
    """
    campaign = Campaign.objects.select_for_update().get(id=campaign_id)
    _refuse_cancelled(campaign_id, campaign.status, decision, settled)
    if not lifecycle.allows("reopen", campaign.status):
        return
    failed = campaign.status == CampaignStatus.FAILED
    if decision is Decision.SEND_AGAIN or progress.of(campaign_id).came_to_nothing != failed:
        lifecycle.reopen(campaign_id)


def _refuse_cancelled(campaign_id: int, status: str, decision: Decision, settled: int) -> None:
    if decision is Decision.SEND_AGAIN and status == CampaignStatus.CANCELLED:
        raise CampaignCancelled(campaign_id, settled)
