"""What an operator can do with a campaign: change its state, then say what should be looked at.

The admin, the API and the command line call these and nothing else.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError
from django.db import transaction

from campaigns import lifecycle, preflight, settling, tasks, trial
from campaigns.addresses import BadAddress, parse_address, trim
from campaigns.ledger import Ruling
from campaigns.models import Campaign, CampaignStatus, Decision
from users.models import User

EDITABLE = frozenset((CampaignStatus.DRAFT, CampaignStatus.SCHEDULED))
ENDED = frozenset((CampaignStatus.COMPLETED, CampaignStatus.FAILED, CampaignStatus.CANCELLED))


class NoLongerEditable(Exception):
    """A campaign that has begun is neither changed nor deleted."""

    def __init__(self, status: str) -> None:
        super().__init__(
            f"A campaign that is {CampaignStatus(status).label.lower()} can no longer be changed or deleted."
        )
        self.status = status


class CampaignEnded(Exception):
    """A campaign that has ended sends no test mails: its template may say something else by now."""

    def __init__(self, status: str) -> None:
        super().__init__(f"A campaign that is {CampaignStatus(status).label.lower()} sends no tests.")
        self.status = status


class QueueAway(Exception):
    """The queue does not answer, and what was asked for is kept nowhere else."""

    def __init__(self) -> None:
        super().__init__("The queue does not answer, so no test mail was sent. Try again in a minute.")


def may_edit(status: str) -> bool:
    """Say whether a campaign in `status` may be changed or deleted: not once sending has begun."""
    return status in EDITABLE


def may_send_test(status: str) -> bool:
    """Say whether a campaign in `status` may send test mails."""
    return status not in ENDED


def create(fields: dict[str, Any], *, now: datetime) -> Campaign:
    """Store a draft. Raises CampaignNotReady for a start time in the past."""
    campaign = Campaign()
    apply(campaign, fields, now=now)
    campaign.save(force_insert=True)
    return campaign


def edit(campaign_id: int, changes: dict[str, Any], *, now: datetime) -> Campaign:
    """Set fields of a campaign that has not begun, and return it.

    Raises NoLongerEditable; CampaignNotReady for a new start time in the past, and when it is scheduled and
    could not be sent any more.
    """
    with transaction.atomic():
        campaign = _editable(campaign_id)
        apply(campaign, changes, now=now)
        campaign.save(update_fields=[*changes, "updated_at"])
    return campaign


def apply(campaign: Campaign, changes: dict[str, Any], *, now: datetime) -> None:
    """Set fields of a campaign in memory. Raises CampaignNotReady, and it is not to be stored then."""
    before = campaign.scheduled_at
    for name, value in changes.items():
        setattr(campaign, name, value)
    scheduled = campaign.status == CampaignStatus.SCHEDULED
    if campaign.scheduled_at != before and (campaign.scheduled_at or scheduled):
        preflight.check_start_time(campaign.scheduled_at, now=now)
    if scheduled:
        preflight.check(campaign)


def delete(campaign_id: int) -> None:
    """Delete a campaign that has not begun. Raises NoLongerEditable."""
    with transaction.atomic():
        _editable(campaign_id).delete()


def schedule(
    campaign_id: int, *, now: datetime, scheduled_at: datetime | None = None, timezone: str | None = None
) -> None:
    """Let the campaign start by itself. Raises TransitionRefused, CampaignNotReady."""
    lifecycle.schedule(campaign_id, scheduled_at=scheduled_at, timezone=timezone, now=now)


def unschedule(campaign_id: int, *, now: datetime) -> None:
    """Take the start time back. Raises TransitionRefused."""
    lifecycle.unschedule(campaign_id)


def start(campaign_id: int, *, now: datetime) -> None:
    """Begin sending at once. Raises TransitionRefused, CampaignNotReady."""
    lifecycle.start(campaign_id, now=now)
    _look_at(campaign_id)


def pause(campaign_id: int, *, now: datetime) -> None:
    """Let nothing more leave. Raises TransitionRefused."""
    lifecycle.pause(campaign_id)


def resume(campaign_id: int, *, now: datetime) -> None:
    """Go on where it was paused. Raises TransitionRefused."""
    lifecycle.resume(campaign_id)
    _look_at(campaign_id)


def cancel(campaign_id: int, *, now: datetime) -> None:
    """Stop for good; what was sent stays sent. Raises TransitionRefused."""
    lifecycle.cancel(campaign_id, now=now)
    transaction.on_commit(lambda: tasks.hint(tasks.finalize_campaign, campaign_id))


def settle_deliveries(
    delivery_ids: Collection[int], decision: Decision, *, by: User, note: str = "", now: datetime
) -> int:
    """Decide what becomes of unconfirmed deliveries, all or none; return how many.

    Raises what `settling.settle_deliveries` does.
    """
    campaign_ids = settling.settle_deliveries(delivery_ids, _ruling(decision, by, note, now))
    for campaign_id in campaign_ids:
        _look_at(campaign_id)
    return len(set(delivery_ids))


def settle_campaign(campaign_id: int, decision: Decision, *, by: User, note: str = "", now: datetime) -> int:
    """Decide what becomes of all unconfirmed deliveries of a campaign, batch by batch; return how many.

    Raises what `settling.settle_campaign` does.
    """
    settled = settling.settle_campaign(campaign_id, _ruling(decision, by, note, now))
    _look_at(campaign_id)
    return settled


def may_settle(user: User | AnonymousUser) -> bool:
    """Say whether the user may decide about unconfirmed deliveries."""
    return user.is_active and user.is_staff and user.has_perm("campaigns.change_deliverylog")


def send_test(campaign_id: int, addresses: Sequence[str]) -> None:
    """Queue test mails to up to ten addresses.

    Raises CampaignEnded, ValidationError naming the address that is none, CampaignNotReady for a campaign
    that cannot be composed, QueueAway: nothing remembers a test mail that was not queued.
    """
    campaign = Campaign.objects.select_related("template", "audience").get(id=campaign_id)
    if not may_send_test(campaign.status):
        raise CampaignEnded(campaign.status)
    if not 1 <= len(addresses) <= trial.MAX_ADDRESSES:
        raise ValidationError({"emails": f"Give 1 to {trial.MAX_ADDRESSES} addresses, not {len(addresses)}."})
    to = [_parsed(address) for address in addresses]
    preflight.check_composition(campaign)
    if not tasks.hint(tasks.send_test, campaign_id, to):
        raise QueueAway


def _parsed(address: str) -> str:
    try:
        return parse_address(trim(address))
    except BadAddress as problem:
        raise ValidationError({"emails": f"{address!r} cannot be used: {problem}"}) from problem


def _editable(campaign_id: int) -> Campaign:
    """Lock the campaign, so that it cannot start half-way through a change."""
    campaign = Campaign.objects.select_for_update().get(id=campaign_id)
    if not may_edit(campaign.status):
        raise NoLongerEditable(campaign.status)
    return campaign


def _ruling(decision: Decision, by: User, note: str, now: datetime) -> Ruling:
    return Ruling(decision, by.pk, by.email, note, now)


def _look_at(campaign_id: int) -> None:
    transaction.on_commit(lambda: tasks.hint(tasks.start_campaign_send, campaign_id))
