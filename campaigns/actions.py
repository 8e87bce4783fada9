"""What an operator can do with a campaign: change its state, then say what should be looked at.

The admin, the API and the command line call these and nothing else.
"""

from collections.abc import Sequence
from datetime import datetime

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction

from campaigns import lifecycle, tasks, trial


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


def send_test(campaign_id: int, addresses: Sequence[str]) -> None:
    """Queue test mails to up to ten addresses. Raises ValidationError naming the address that is none."""
    if not 1 <= len(addresses) <= trial.MAX_ADDRESSES:
        raise ValidationError({"emails": f"Give 1 to {trial.MAX_ADDRESSES} addresses, not {len(addresses)}."})
    for address in addresses:
        try:
            validate_email(address)
        except ValidationError as error:
            raise ValidationError({"emails": f"{address!r} is not an e-mail address."}) from error
    transaction.on_commit(lambda: tasks.hint(tasks.send_test, campaign_id, list(addresses)))


def _look_at(campaign_id: int) -> None:
    transaction.on_commit(lambda: tasks.hint(tasks.start_campaign_send, campaign_id))
