"""The first page: what is running, and how much there is."""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Count
from django.http import HttpRequest
from django.urls import Resolver404, resolve, reverse
from django.utils import timezone

from campaigns import vitals
from campaigns.admin.campaigns import summaries
from campaigns.admin.large import about_how_many
from campaigns.admin.summary import Summary
from campaigns.breaker import Position
from campaigns.models import Audience, Campaign, CampaignStatus, Recipient, Suppression
from campaigns.vitals import ProviderState

RUNNING_SHOWN = 10
RECENT_SHOWN = 5
PROVIDER_COLOURS = {
    Position.CLOSED.value: "green",
    Position.HALF_OPEN.value: "yellow",
    Position.OPEN.value: "red",
    vitals.UNKNOWN: "neutral",
}
_RUNNING = (CampaignStatus.IN_PROGRESS, CampaignStatus.PAUSED)


def context(request: HttpRequest, page: dict[str, Any]) -> dict[str, Any]:
    """Add to the first page's context what this user may see."""
    page["title"] = "Overview"
    if request.user.has_perm("campaigns.view_campaign"):
        running, recent = _running(), _recent()
        moving = [summary.campaign.pk for summary in (*running, *recent) if summary.moving]
        page |= {"running": running, "recent": recent, "moving_ids": moving, "statuses": _by_status()}
        page |= _providers(timezone.now())
    page["cards"] = [card for permission, card in _cards() if request.user.has_perm(permission)]
    page["links"] = _links()
    return page


def _running() -> list[Summary]:
    campaigns = Campaign.objects.filter(status__in=_RUNNING).select_related("audience")
    return list(summaries(list(campaigns.order_by("-started_at")[:RUNNING_SHOWN])).values())


def _recent() -> list[Summary]:
    campaigns = Campaign.objects.exclude(status__in=_RUNNING).select_related("audience")
    return list(summaries(list(campaigns.order_by("-updated_at")[:RECENT_SHOWN])).values())


def _providers(now: datetime) -> dict[str, Any]:
    """Return the providers and the tick, each with a colour and a sentence; Redis' answer or "unknown"."""
    around = vitals.look()
    return {
        "providers": [_provider(provider, now) for provider in around.providers],
        "tick": around.last_tick(now),
        "tick_is_late": around.tick_is_late(now),
    }


def _provider(provider: ProviderState, now: datetime) -> dict[str, str]:
    used_up = provider.quota_left == 0 and provider.position == Position.CLOSED.value
    return {
        "name": provider.name,
        "label": "quota used up" if used_up else provider.position,
        "colour": "yellow" if used_up else PROVIDER_COLOURS[provider.position],
        "limits": _limits(provider),
        "why": provider.closed_because(now).removeprefix(f"{provider.name}: "),
    }


def _limits(provider: ProviderState) -> str:
    """Such as "20/s, 1,300 of 2,000 left in 24 hours"."""
    limit = provider.limit
    rate = f"{limit.per_second:,}/s" if limit.per_second else "no rate limit"
    if provider.is_booked_out:
        rate += ", which senders wait for"
    if not limit.per_day:
        return rate
    left = "?" if provider.quota_left is None else f"{provider.quota_left:,}"
    return f"{rate}, {left} of {limit.per_day:,} left in 24 hours"


def _by_status() -> list[dict[str, Any]]:
    counted = dict(Campaign.objects.order_by().values_list("status").annotate(Count("pk")))
    page = reverse("admin:campaigns_campaign_changelist")
    return [
        {"label": status.label, "count": counted.get(status, 0), "url": f"{page}?status__exact={status}"}
        for status in CampaignStatus
    ]


def _cards() -> list[tuple[str, dict[str, Any]]]:
    tables = ((Audience, "Audiences"), (Recipient, "Recipients"), (Suppression, "Suppressed addresses"))
    return [(f"campaigns.view_{model._meta.model_name}", _card(model, label)) for model, label in tables]


def _card(model: Any, label: str) -> dict[str, Any]:
    count, estimated = about_how_many(model)
    return {
        "label": label,
        "count": count,
        "estimated": estimated,
        "url": reverse(f"admin:campaigns_{model._meta.model_name}_changelist"),
    }


def _links() -> list[tuple[str, str]]:
    flower = settings.FLOWER_URL
    links = [("API documentation", "/api/docs/")] if _exists("/api/docs/") else []
    return [*links, ("Flower, the workers' monitor", flower)] if flower else links


def _exists(address: str) -> bool:
    try:
        resolve(address)
    except Resolver404:
        return False
    return True
