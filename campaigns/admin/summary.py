"""A campaign's progress in words, colours and widths."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from django.utils import timezone

from campaigns.models import Campaign, CampaignStatus
from campaigns.progress import Progress

GOOD_ABOVE = 0.95
BAD_BELOW = 0.80

STATUS_COLOURS = {
    CampaignStatus.DRAFT: "neutral",
    CampaignStatus.SCHEDULED: "blue",
    CampaignStatus.IN_PROGRESS: "violet",
    CampaignStatus.PAUSED: "yellow",
    CampaignStatus.COMPLETED: "green",
    CampaignStatus.FAILED: "red",
    CampaignStatus.CANCELLED: "neutral",
}

# what a bar shows, in its order; the counts of open mails are the rest of it
_BAR = (
    ("sent", "accepted", "green"),
    ("failed", "failed", "red"),
    ("unconfirmed", "unconfirmed", "orange"),
    ("suppressed", "suppressed", "grey"),
    ("cancelled", "cancelled", "grey"),
    ("deferred", "waiting for another try", "yellow"),
)

_SOON = timedelta(minutes=2)


def colour_of_share(share: float | None) -> str:
    """Green above 95 % accepted, yellow from 80 to 95 %, red below; neutral before anything was tried."""
    if share is None:
        return "neutral"
    if share > GOOD_ABOVE:
        return "green"
    return "yellow" if share >= BAD_BELOW else "red"


def is_moving(campaign: Campaign, progress: Progress) -> bool:
    """Whether the numbers may change by themselves before somebody looks again."""
    if campaign.status == CampaignStatus.SCHEDULED and campaign.scheduled_at is not None:
        return campaign.scheduled_at < timezone.now() + _SOON
    if campaign.status == CampaignStatus.CANCELLED:
        return progress.open > 0
    return campaign.status == CampaignStatus.IN_PROGRESS


class Segment(NamedTuple):
    """A coloured stretch of a bar."""

    label: str
    mails: int
    colour: str
    width: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What a page shows of one campaign."""

    campaign: Campaign
    progress: Progress

    @property
    def status_text(self) -> str:
        """The status; nothing is called completed whose ledger does not add up."""
        return "does not add up" if self._is_refuted else str(CampaignStatus(self.campaign.status).label)

    @property
    def status_colour(self) -> str:
        """The colour of the status label."""
        return "red" if self._is_refuted else STATUS_COLOURS[CampaignStatus(self.campaign.status)]

    @property
    def share_colour(self) -> str:
        """The colour of the delivery summary; red whatever the share is of numbers that do not add up."""
        return "red" if not self.progress.adds_up else colour_of_share(self.progress.accepted_share)

    @property
    def share_text(self) -> str:
        """Such as "97.3 % accepted", rounded down, so that 100 means all."""
        tried = self.progress.sent + self.progress.failed + self.progress.unconfirmed
        if not tried:
            return "nothing tried yet"
        whole, tenth = divmod(1000 * self.progress.sent // tried, 10)
        return f"{whole}.{tenth} % accepted" if tenth else f"{whole} % accepted"

    @property
    def percent(self) -> int:
        """The accepted share of the total, in whole per cent rounded down: the bar's value."""
        return 100 * self.progress.sent // self.progress.total if self.progress.total else 0

    @property
    def segments(self) -> list[Segment]:
        """The bar, from the left."""
        return list(self._segments())

    @property
    def counts(self) -> list[tuple[str, int]]:
        """The seven numbers of the accounting equation, in the order of a mail's life."""
        progress = self.progress
        return [
            ("sent", progress.sent),
            ("pending", progress.pending),
            ("deferred", progress.deferred),
            ("failed", progress.failed),
            ("suppressed", progress.suppressed),
            ("unconfirmed", progress.unconfirmed),
            ("cancelled", progress.cancelled),
        ]

    @property
    def rare_counts(self) -> list[tuple[str, int]]:
        """Those beside sent, pending and failed that are not nought."""
        return [(name, count) for name, count in self.counts if name not in _ALWAYS and count]

    @property
    def eta(self) -> str:
        """Such as "2 h 05 min left" at the rate of the last minute; empty when nothing moves."""
        seconds = self.progress.eta_seconds
        if seconds is None:
            return ""
        if seconds < 60:
            return f"{seconds} s left"
        hours, minutes = divmod(-(-seconds // 60), 60)
        return f"{hours} h {minutes:02} min left" if hours else f"{minutes} min left"

    @property
    def moving(self) -> bool:
        """Whether to look again soon."""
        return is_moving(self.campaign, self.progress)

    @property
    def _is_refuted(self) -> bool:
        return self.campaign.status == CampaignStatus.COMPLETED and not self.progress.adds_up

    def _segments(self) -> Iterator[Segment]:
        for name, label, colour in _BAR:
            count: int = getattr(self.progress, name)
            if count:
                yield Segment(label, count, colour, f"{100 * count / self.progress.total:.2f}%")


_ALWAYS = ("sent", "pending", "failed")
