"""How far a campaign is: one statement, so that the numbers belong to one instant and add up."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.db import connection

_RATE_SECONDS = 60
_ABANDONED = "{} batches were left by workers that have gone; the next tick takes them back"


@dataclass(frozen=True, slots=True)
class Progress:
    """total = pending + deferred + sent + failed + suppressed + unconfirmed + cancelled, always.

    `rate_per_second` is an estimate: the mails of the batches that were worked on in the last minute;
    `eta_seconds` is what remains at that rate (None when nothing moves). `trouble` says why batches wait,
    if they do. Before the start the whole audience counts as pending.
    """

    id: int
    status: str
    total: int
    pending: int
    deferred: int
    sent: int
    failed: int
    suppressed: int
    unconfirmed: int
    cancelled: int
    delivered: int
    bounced: int
    complained: int
    rate_per_second: float
    eta_seconds: int | None
    started_at: datetime | None
    finished_at: datetime | None
    trouble: str

    @property
    def open(self) -> int:
        """How many mails are still to be sent."""
        return self.pending + self.deferred

    @property
    def adds_up(self) -> bool:
        """Whether the accounting equation holds."""
        return self.total == self.open + (
            self.sent + self.failed + self.suppressed + self.unconfirmed + self.cancelled
        )

    @property
    def accepted_share(self) -> float | None:
        """The share of accepted mails among those tried to the end, 0 to 1; None before there are any."""
        tried = self.sent + self.failed + self.unconfirmed
        return self.sent / tried if tried else None

    @property
    def came_to_nothing(self) -> bool:
        """Whether mails were refused and not one was, or may have been, accepted: a failed campaign."""
        return bool(self.failed and not self.sent and not self.unconfirmed)

    def as_dict(self) -> dict[str, Any]:
        """The status document of the API."""
        return asdict(self)


_PROGRESS = """
SELECT campaign.id, campaign.status, campaign.started_at, campaign.finished_at,
       campaign.ledger_built_at IS NULL,
       CASE WHEN campaign.ledger_built_at IS NOT NULL THEN NULL
            WHEN campaign.unsent_total IS NOT NULL AND campaign.status IN ('cancelled', 'failed')
            THEN campaign.unsent_total
            ELSE (SELECT count(*) FROM campaigns_recipient AS recipient
                   WHERE recipient.audience_id = campaign.audience_id) END,
       counts.*,
       least(%(seconds)s, extract(epoch FROM clock_timestamp() - campaign.started_at))
  FROM campaigns_campaign AS campaign
  CROSS JOIN LATERAL (
      SELECT coalesce(sum(size), 0), coalesce(sum(pending), 0), coalesce(sum(deferred), 0),
             coalesce(sum(sent), 0), coalesce(sum(failed), 0), coalesce(sum(suppressed), 0),
             coalesce(sum(unconfirmed), 0), coalesce(sum(cancelled), 0),
             coalesce(sum(sent) FILTER (
                 WHERE recorded_at > clock_timestamp() - %(seconds)s * interval '1 second'), 0),
             coalesce(max(trouble) FILTER (WHERE pending > 0 OR deferred > 0), ''),
             count(*) FILTER (WHERE lease_until < clock_timestamp())
        FROM campaigns_batch AS batch WHERE batch.campaign_id = campaign.id) AS counts
 WHERE campaign.id = ANY(%(ids)s)
"""


def of(campaign_id: int) -> Progress:
    """Return the progress of one campaign. Raises KeyError when there is no such campaign."""
    return of_many([campaign_id])[campaign_id]


def of_many(campaign_ids: Iterable[int]) -> dict[int, Progress]:
    """Return the progress of each campaign that exists, by id, all of the same instant."""
    with connection.cursor() as cursor:
        cursor.execute(_PROGRESS, {"ids": list(campaign_ids), "seconds": _RATE_SECONDS})
        return {row[0]: _progress(*row) for row in cursor.fetchall()}


def _progress(
    campaign_id: int,
    status: str,
    started_at: datetime | None,
    finished_at: datetime | None,
    unbuilt: bool,
    audience_size: int | None,
    *figures: Any,
) -> Progress:
    *counts, sent_lately, trouble, abandoned, seconds = figures
    total, pending, deferred, sent, failed, suppressed, unconfirmed, cancelled = map(int, counts)
    if unbuilt:
        total = audience_size or 0
        pending, cancelled = (0, total) if status in ("cancelled", "failed") else (total, 0)
    rate = float(sent_lately) / max(float(seconds or 0), 1.0) if status == "in_progress" else 0.0
    still_open = pending + deferred
    return Progress(
        id=campaign_id,
        status=status,
        total=total,
        pending=pending,
        deferred=deferred,
        sent=sent,
        failed=failed,
        suppressed=suppressed,
        unconfirmed=unconfirmed,
        cancelled=cancelled,
        # what happens after acceptance is reported by provider events, which are not read yet
        delivered=0,
        bounced=0,
        complained=0,
        rate_per_second=round(rate, 1),
        eta_seconds=round(still_open / rate) if rate and still_open else None,
        started_at=started_at,
        finished_at=finished_at,
        trouble=_ABANDONED.format(abandoned) if abandoned else str(trouble),
    )
