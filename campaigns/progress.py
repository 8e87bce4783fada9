"""How far a campaign is: one statement, so that the numbers belong to one instant and add up."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import connection

_RATE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the open batches of a campaign are, for those who ask why it does not move.

    An open batch is `leased` (a worker has it), `waiting` (its time has not come), `queued` (due, and a
    message about it is published) or none of these: due, and nobody was told. Times that waiting batches
    have are the earliest. `trouble` is what most of the `troubled` among them wait for, and all of them if
    `one_trouble`; `last_trouble` is what a batch that nobody holds met last. `leased_at` is when a worker
    last took or lengthened a lease, `others_leased` whether workers are busy with other campaigns,
    `changed_at` when the campaign's status changed. All times are the database's; `asked_at` is its clock.
    """

    asked_at: datetime
    status_reason: str = ""
    changed_at: datetime | None = None
    scheduled_at: datetime | None = None
    built_at: datetime | None = None
    batches: int = 0
    leased: int = 0
    abandoned: int = 0
    queued: int = 0
    waiting: int = 0
    waiting_until: datetime | None = None
    troubled: int = 0
    troubled_until: datetime | None = None
    trouble: str = ""
    one_trouble: bool = True
    last_trouble: str = ""
    oldest_hint_at: datetime | None = None
    recorded_at: datetime | None = None
    leased_at: datetime | None = None
    others_leased: bool = False

    @property
    def unpublished(self) -> int:
        """How many batches are due, and in nobody's hand and in no queue."""
        return max(self.batches - self.leased - self.queued - self.waiting, 0)


@dataclass(frozen=True, slots=True)
class Progress:
    """total = pending + deferred + sent + failed + suppressed + unconfirmed + cancelled, always.

    `rate_per_second` is an estimate: the mails of the batches that were worked on in the last minute;
    `eta_seconds` is what remains at that rate (None when nothing moves). `trouble` is empty here;
    `campaigns.watchdog` fills it. Before the start the whole audience counts as pending; after it, the
    total is the number of rows that the ledger was built with, whatever has become of them.
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
    standing: Standing | None = None

    @property
    def open(self) -> int:
        """How many mails are still to be sent."""
        return self.pending + self.deferred

    @property
    def adds_up(self) -> bool:
        """Whether the accounting equation holds."""
        return self.total == self.counted

    @property
    def counted(self) -> int:
        """How many mails the seven counts name."""
        return self.open + self.sent + self.failed + self.suppressed + self.unconfirmed + self.cancelled

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
        document = asdict(self)
        del document["standing"]
        return document


# An open batch is one with mails to send; its time has come when not_before has passed.
_PROGRESS = """
SELECT campaign.id, campaign.status, campaign.started_at, campaign.finished_at,
       campaign.ledger_built_at, campaign.ledger_size,
       CASE WHEN campaign.ledger_built_at IS NOT NULL THEN NULL
            WHEN campaign.unsent_total IS NOT NULL AND campaign.status IN ('cancelled', 'failed')
            THEN campaign.unsent_total
            ELSE (SELECT count(*) FROM campaigns_recipient AS recipient
                   WHERE recipient.audience_id = campaign.audience_id) END,
       campaign.status_reason, campaign.updated_at, campaign.scheduled_at, clock_timestamp(),
       least(%(seconds)s, extract(epoch FROM clock_timestamp() - campaign.started_at)),
       counts.*
  FROM campaigns_campaign AS campaign
  CROSS JOIN LATERAL (
      SELECT coalesce(sum(size), 0), coalesce(sum(pending), 0), coalesce(sum(deferred), 0),
             coalesce(sum(sent), 0), coalesce(sum(failed), 0), coalesce(sum(suppressed), 0),
             coalesce(sum(unconfirmed), 0), coalesce(sum(cancelled), 0),
             coalesce(sum(sent) FILTER (
                 WHERE recorded_at > clock_timestamp() - %(seconds)s * interval '1 second'), 0),
             count(*) FILTER (WHERE is_open),
             count(*) FILTER (WHERE is_open AND lease_until IS NOT NULL),
             count(*) FILTER (WHERE lease_until < clock_timestamp()),
             count(*) FILTER (WHERE is_open AND is_free AND NOT is_early AND published_at IS NOT NULL),
             count(*) FILTER (WHERE is_open AND is_free AND is_early),
             min(not_before) FILTER (WHERE is_open AND is_free AND is_early),
             count(*) FILTER (WHERE is_open AND is_free AND is_early AND trouble <> ''),
             min(not_before) FILTER (WHERE is_open AND is_free AND is_early AND trouble <> ''),
             coalesce(mode() WITHIN GROUP (ORDER BY trouble) FILTER (
                 WHERE is_open AND is_free AND is_early AND trouble <> ''), ''),
             coalesce(min(trouble) FILTER (WHERE is_open AND is_free AND is_early AND trouble <> '')
                    = max(trouble) FILTER (WHERE is_open AND is_free AND is_early AND trouble <> ''), true),
             coalesce(max(trouble) FILTER (WHERE is_open AND is_free), ''),
             min(published_at) FILTER (WHERE is_open AND is_free AND NOT is_early),
             max(recorded_at),
             max(lease_until) - %(lease)s * interval '1 second',
             EXISTS (SELECT 1 FROM campaigns_batch AS other
                      WHERE other.lease_until > clock_timestamp() AND other.campaign_id <> campaign.id)
        FROM (SELECT *, pending > 0 OR deferred > 0 AS is_open, lease_until IS NULL AS is_free,
                     coalesce(not_before > clock_timestamp(), false) AS is_early
                FROM campaigns_batch WHERE campaign_id = campaign.id) AS batch) AS counts
 WHERE campaign.id = ANY(%(ids)s)
"""


def of(campaign_id: int) -> Progress:
    """Return the progress of one campaign. Raises KeyError when there is no such campaign."""
    return of_many([campaign_id])[campaign_id]


def of_many(campaign_ids: Iterable[int]) -> dict[int, Progress]:
    """Return the progress of each campaign that exists, by id, all of the same instant."""
    with connection.cursor() as cursor:
        lease = settings.LEASE_SECONDS
        cursor.execute(_PROGRESS, {"ids": list(campaign_ids), "seconds": _RATE_SECONDS, "lease": lease})
        return {row[0]: _progress(*row) for row in cursor.fetchall()}


def _progress(
    campaign_id: int,
    status: str,
    started_at: datetime | None,
    finished_at: datetime | None,
    built_at: datetime | None,
    ledger_size: int | None,
    audience_size: int | None,
    status_reason: str,
    changed_at: datetime | None,
    scheduled_at: datetime | None,
    asked_at: datetime,
    seconds: Any,
    *figures: Any,
) -> Progress:
    counts, sent_lately, standing = figures[:8], figures[8], figures[9:]
    total, pending, deferred, sent, failed, suppressed, unconfirmed, cancelled = map(int, counts)
    if built_at is None:
        total = audience_size or 0
        pending, cancelled = (0, total) if status in ("cancelled", "failed") else (total, 0)
    elif ledger_size is not None:
        total = ledger_size
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
        trouble="",
        standing=Standing(asked_at, status_reason, changed_at, scheduled_at, built_at, *standing),
    )
