"""The right to work on one batch."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings

from campaigns.ledger.changes import Change

LEASE_MARGIN = 5.0  # seconds by which a worker gives its lease up before the database does


class LeaseLost(Exception):
    """Another worker, or nobody, holds this now; nothing may be sent or written for it."""

    def __init__(self, lease: "Hold", why: str = "its lease ran out or was taken back") -> None:
        super().__init__(f"{lease.what} is no longer with this worker: {why}")


class CampaignHeld(Exception):
    """The campaign was paused or cancelled; what has not left stays where it is."""


class RowsMissing(Exception):
    """Batches whose leases ran out have not as many rows as they were built with; `campaigns` by batch."""

    def __init__(self, campaigns: Mapping[int, int]) -> None:
        super().__init__(f"rows are missing in the batches {', '.join(map(str, campaigns))}")
        self.campaigns = dict(campaigns)


class Hold:
    """A right to work on something until it runs out, such as a Lease.

    `answers`, by delivery, are known and not written yet: they go with the next step. `unsure` is set when
    the connection broke during a step, so that it may have been committed or not. `_good_until` is on this
    process's monotonic clock, which goes on while the process is stopped.
    """

    token: int
    failures: int
    answers: dict[int, Change]
    unsure: bool
    _good_until: float

    @property
    def what(self) -> str:
        """What is held, in words."""
        raise NotImplementedError

    def is_good(self, *, for_seconds: float = 0.0) -> bool:
        """Say, without asking the database, whether the lease is certain to be held for that long still."""
        return time.monotonic() + for_seconds < self._good_until

    def renewed(self, since: float) -> None:
        """Count the lease anew from `since`, a moment before it was renewed."""
        self._good_until = good_until(since)

    def answer(self, changes: Iterable[Change]) -> None:
        """Keep answers until the next step; a later one takes the place of an earlier one."""
        self.answers |= {change.delivery_id: change for change in changes}

    def written(self) -> None:
        """Note that a step was committed, with the answers."""
        self.answers.clear()
        self.unsure = False


@dataclass
class Lease(Hold):
    """The right to work on one batch.

    `built_at` is when its campaign's ledger was built; what the campaign says has not changed since.
    """

    batch_id: int
    campaign_id: int
    built_at: datetime
    token: int
    failures: int
    _good_until: float = field(repr=False)
    answers: dict[int, Change] = field(default_factory=dict, repr=False)
    unsure: bool = field(default=False, repr=False)

    @property
    def what(self) -> str:
        """Which batch."""
        return f"batch {self.batch_id}"


def good_until(since: float) -> float:
    """Return when a lease that was asked for at `since`, both on the monotonic clock, is to be given up."""
    return since + float(settings.LEASE_SECONDS) - LEASE_MARGIN
