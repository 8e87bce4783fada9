"""The states of a campaign and who may change them: this module is the only writer of Campaign.status.

    draft ⇄ scheduled → in_progress ⇄ paused
    in_progress → completed | failed → in_progress, when mails in doubt are settled
    draft | scheduled → failed, when what is to start by itself cannot
    draft | scheduled | in_progress | paused → cancelled

Each change is one conditional UPDATE, so of two callers at the same moment one is refused.
"""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from campaigns import preflight
from campaigns.models import Campaign, CampaignStatus, Recipient

_S = CampaignStatus

TRANSITIONS: dict[str, tuple[frozenset[CampaignStatus], CampaignStatus]] = {
    "schedule": (frozenset((_S.DRAFT, _S.SCHEDULED)), _S.SCHEDULED),
    "unschedule": (frozenset((_S.SCHEDULED,)), _S.DRAFT),
    "start": (frozenset((_S.DRAFT, _S.SCHEDULED)), _S.IN_PROGRESS),
    "pause": (frozenset((_S.IN_PROGRESS,)), _S.PAUSED),
    "resume": (frozenset((_S.PAUSED,)), _S.IN_PROGRESS),
    "reopen": (frozenset((_S.COMPLETED, _S.FAILED)), _S.IN_PROGRESS),
    "cancel": (frozenset((_S.DRAFT, _S.SCHEDULED, _S.IN_PROGRESS, _S.PAUSED)), _S.CANCELLED),
    "complete": (frozenset((_S.IN_PROGRESS,)), _S.COMPLETED),
    "fail": (frozenset((_S.DRAFT, _S.SCHEDULED, _S.IN_PROGRESS)), _S.FAILED),
}


class TransitionRefused(Exception):
    """A campaign cannot go from the state it is in to the one asked for."""

    def __init__(self, action: str, from_status: str, to_status: str) -> None:
        was, asked = CampaignStatus(from_status).label.lower(), CampaignStatus(to_status).label.lower()
        super().__init__(f"A campaign that is {was} cannot become {asked}.")
        self.action = action
        self.from_status = from_status
        self.to_status = to_status


def allows(action: str, status: str) -> bool:
    """Say whether `action` may be asked of a campaign in `status`."""
    return status in TRANSITIONS[action][0]


def schedule(campaign_id: int, *, scheduled_at: datetime | None, timezone: str | None, now: datetime) -> None:
    """Let the campaign start by itself at `scheduled_at`; without it, at the time it has already.

    Raises TransitionRefused; CampaignNotReady for a past time, an unknown zone or a campaign that
    cannot be sent.
    """
    with transaction.atomic():
        campaign = _locked(campaign_id, "schedule")
        start_at = scheduled_at or campaign.scheduled_at
        campaign.timezone = timezone or campaign.timezone
        preflight.check_start_time(start_at, now=now)
        preflight.check(campaign)
        _apply(campaign_id, "schedule", scheduled_at=start_at, timezone=campaign.timezone)


def unschedule(campaign_id: int) -> None:
    """Take the start time back; the campaign is a draft again. Raises TransitionRefused."""
    _apply(campaign_id, "unschedule", scheduled_at=None)


def start(campaign_id: int, *, now: datetime) -> None:
    """Begin sending. Raises TransitionRefused, CampaignNotReady."""
    with transaction.atomic():
        preflight.check(_locked(campaign_id, "start"))
        _apply(campaign_id, "start", started_at=now)


def pause(campaign_id: int) -> None:
    """Let nothing more leave. Raises TransitionRefused."""
    _apply(campaign_id, "pause")


def resume(campaign_id: int) -> None:
    """Go on sending what has not been sent. Raises TransitionRefused."""
    _apply(campaign_id, "resume")


def reopen(campaign_id: int) -> None:
    """Go on after the end, to send mails again or to judge anew how it ended. Raises TransitionRefused."""
    _apply(campaign_id, "reopen", finished_at=None)


def cancel(campaign_id: int, *, now: datetime) -> None:
    """Stop for good. Raises TransitionRefused."""
    _apply(campaign_id, "cancel", finished_at=now, unsent_total=_audience_size(campaign_id))


def complete(campaign_id: int, *, now: datetime) -> None:
    """Note that every recipient has a final answer. Raises TransitionRefused."""
    _apply(campaign_id, "complete", finished_at=now)


def fail(campaign_id: int, *, reason: str, now: datetime) -> None:
    """Note that the campaign came to nothing, and why. Raises TransitionRefused."""
    size = _audience_size(campaign_id)
    _apply(campaign_id, "fail", status_reason=reason, finished_at=now, unsent_total=size)


def remark(campaign_id: int, *, reason: str) -> None:
    """Note why a campaign in progress cannot be finished; the next change of its status forgets it."""
    Campaign.objects.filter(id=campaign_id, status=CampaignStatus.IN_PROGRESS).update(status_reason=reason)


def _audience_size(campaign_id: int) -> int:
    return Recipient.objects.filter(audience__campaigns=campaign_id).count()


def _locked(campaign_id: int, action: str) -> Campaign:
    """Lock the campaign and refuse at once what its state does not allow, before anything else is judged."""
    campaign = Campaign.objects.select_for_update().get(id=campaign_id)
    if not allows(action, campaign.status):
        raise TransitionRefused(action, campaign.status, TRANSITIONS[action][1])
    return campaign


def _apply(campaign_id: int, action: str, **fields: Any) -> None:
    sources, target = TRANSITIONS[action]
    changed = Campaign.objects.filter(id=campaign_id, status__in=sources).update(
        status=target, **{"status_reason": "", "updated_at": Now(), **fields}
    )
    if not changed:
        raise TransitionRefused(action, Campaign.objects.get(id=campaign_id).status, target)
