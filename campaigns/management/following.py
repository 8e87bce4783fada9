"""A campaign's counts on a terminal."""

import json
import time

from django.core.management.base import OutputWrapper
from django.core.serializers.json import DjangoJSONEncoder

from campaigns import watchdog
from campaigns.models import CampaignStatus
from campaigns.progress import Progress

_ENDED = (CampaignStatus.COMPLETED, CampaignStatus.FAILED, CampaignStatus.CANCELLED)
_SECONDS_BETWEEN_LINES = 1.0


def write_status(campaign_id: int, out: OutputWrapper, *, as_json: bool) -> Progress:
    """Write one line of counts. Raises KeyError when there is no such campaign."""
    current = watchdog.of(campaign_id)
    out.write(json.dumps(current.as_dict(), cls=DjangoJSONEncoder) if as_json else _sentence(current))
    out.flush()
    return current


def follow(campaign_id: int, out: OutputWrapper, *, as_json: bool) -> None:
    """Write a line every second until the campaign has ended."""
    while write_status(campaign_id, out, as_json=as_json).status not in _ENDED:
        time.sleep(_SECONDS_BETWEEN_LINES)  # for the person who reads along


def _sentence(current: Progress) -> str:
    names = ("pending", "deferred", "sent", "failed", "suppressed", "unconfirmed", "cancelled")
    counts = [f"{count:,} {name}" for name in names if (count := getattr(current, name))]
    eta = f", {current.eta_seconds} s to go" if current.eta_seconds is not None else ""
    rate = f" ({current.rate_per_second}/s{eta})" if current.rate_per_second else ""
    trouble = f" - {current.trouble}" if current.trouble else ""
    return f"{current.status}: {' + '.join(counts) or '0'} of {current.total:,}{rate}{trouble}"
