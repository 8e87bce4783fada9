"""One campaign to all users, each mail held until its user's next preferred moment."""

import logging
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import Any

from django.db import transaction
from django.db.models import Q

from campaigns import dispatch, lifecycle
from campaigns.models import Campaign, CampaignStatus, EmailTemplate, Timing
from campaigns.preflight import CampaignNotReady
from schedules import mirrors, planning
from schedules.models import Broadcast, Schedule
from users.models import User

logger = logging.getLogger(__name__)

CHUNK = 10_000  # users
DEFAULT_DAYS = 7


def create(
    template: EmailTemplate,
    variables: Mapping[str, Any],
    *,
    name: str = "",
    within: timedelta = timedelta(days=DEFAULT_DAYS),
    by: User,
    now: datetime,
) -> Broadcast:
    """Store a broadcast for `start` to send. Raises ValidationError as `planning.check_template` does."""
    planning.check_template(template, variables)
    with transaction.atomic():
        campaign = Campaign.objects.create(
            name=name or f"{template.name[:150]}, broadcast of {now:%Y-%m-%d %H:%M} UTC",
            audience=mirrors.audience(),
            template=template,
            variables=dict(variables),
            timing=Timing.GIVEN,
            timezone="UTC",
            created_by=by,
        )
        return Broadcast.objects.create(campaign=campaign, within=within, created_at=now)


def waiting() -> list[int]:
    """Return the broadcasts whose ledgers are still to be written."""
    states = (CampaignStatus.DRAFT, CampaignStatus.IN_PROGRESS)
    unbuilt = Broadcast.objects.filter(campaign__ledger_built_at=None, campaign__status__in=states)
    return list(unbuilt.order_by("id").values_list("id", flat=True))


def start(broadcast_id: int, *, now: datetime) -> int | None:
    """Write the broadcast's ledger and return its campaign; done once, None when it was or cannot be.

    The campaign of one that cannot be sent fails, and its `status_reason` says why: nobody looks at a draft.
    A user's moment is the next one of all their schedules, `within` at the latest; users without a schedule
    are written to at once.
    """
    with transaction.atomic():
        found = Broadcast.objects.filter(id=broadcast_id).select_for_update(of=("self",), skip_locked=True)
        broadcast = found.select_related("campaign").first()
        if broadcast is None or broadcast.campaign.ledger_built_at:
            return None
        latest = broadcast.created_at + broadcast.within
        moments = _moments(latest, now)
        begun = list(islice(moments, 1))  # now there is somebody in the audience
        try:
            dispatch.start_with_moments(broadcast.campaign, chain(begun, moments), now=now)
        except lifecycle.TransitionRefused as refused:
            logger.warning("broadcast %s is not sent: %s", broadcast_id, refused)
            return None
        except CampaignNotReady as problem:
            logger.warning("broadcast %s cannot be sent: %s", broadcast_id, problem)
            lifecycle.fail(broadcast.campaign_id, reason=str(problem), now=now)
            return None
    return broadcast.campaign_id


def _moments(latest: datetime, now: datetime) -> Iterator[tuple[int, datetime | None]]:
    for user_ids in _users():
        preferred = _next_moments(user_ids, now)
        for user_id, recipient_id in mirrors.recipients_of(user_ids).items():
            moment = preferred.get(user_id)
            yield recipient_id, min(moment, latest) if moment else None


def _users() -> Iterator[list[int]]:
    last = 0
    active = User.objects.filter(is_active=True).order_by("id").values_list("id", flat=True)
    while user_ids := list(active.filter(id__gt=last)[:CHUNK]):
        yield user_ids
        last = user_ids[-1]


def _next_moments(user_ids: list[int], now: datetime) -> dict[int, datetime]:
    """Return the next moment of each user who has one ahead.

    The sweep takes a moment up to `sweeping.AHEAD` before it comes. `next_run_at` is the one after it then,
    and `last_run_for` lies ahead.
    """
    found: dict[int, datetime] = {}
    ahead = Q(next_run_at__isnull=False) | Q(last_run_for__gt=now)
    rows = Schedule.objects.filter(ahead, user__in=user_ids, paused_at=None)
    for user_id, taken, upcoming in rows.values_list("user_id", "last_run_for", "next_run_at"):
        moment = taken if taken is not None and taken > now else upcoming
        if moment is not None:
            found[user_id] = min(moment, found.get(user_id, moment))
    return found
