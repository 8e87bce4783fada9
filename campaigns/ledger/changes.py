"""What is written into a delivery, and how a provider's word becomes that."""

import random
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

from django.conf import settings

from campaigns import retries
from campaigns.models import DeliveryStatus
from campaigns.providers import Outcome, Verdict


class Change(NamedTuple):
    """What to write into one delivery; `attempts` and `doubts` are what to add to its counts.

    `again_after` says how long a deferred one waits, from the moment it is written. What is in doubt from
    an earlier attempt, and fails or must not be sent now, is written as unconfirmed: it may have arrived.
    """

    delivery_id: int
    status: DeliveryStatus
    reason: str = ""
    provider_message_id: str = ""
    again_after: timedelta | None = None
    attempts: int = 1
    doubts: int = 0

    @property
    def is_mere_acceptance(self) -> bool:
        """Whether it says no more than that the mail was accepted, and under which id."""
        return self == Change(self.delivery_id, DeliveryStatus.SENT, "", self.provider_message_id)


def not_sent(delivery_id: int, reason: str = "") -> Change:
    """Say of a delivery that was declared that it did not leave, which costs it no attempt."""
    return Change(delivery_id, DeliveryStatus.PENDING, reason, attempts=0)


def nobody_carries(delivery_id: int, reason: str) -> Change:
    """Say of a delivery that no provider of the line can carry it: it fails without having been tried."""
    return Change(delivery_id, DeliveryStatus.FAILED, reason, attempts=0)


def change_for(outcome: Outcome, *, attempts: int, jitter: Callable[[], float] = random.random) -> Change:
    """Translate a provider's outcome into what the ledger keeps.

    `attempts` counts the tries of this delivery, this one included; `jitter` is that of `retries.backoff`.
    """
    match outcome.verdict:
        case Verdict.ACCEPTED:
            return Change(outcome.delivery_id, DeliveryStatus.SENT, "", outcome.provider_message_id)
        case Verdict.REFUSED:
            return Change(outcome.delivery_id, DeliveryStatus.FAILED, outcome.reason)
        case Verdict.UNSENT:
            return not_sent(outcome.delivery_id, outcome.reason)
        case Verdict.DEFERRED:
            return _again_or(DeliveryStatus.FAILED, outcome, attempts, jitter)
        case Verdict.UNCONFIRMED if settings.UNCONFIRMED_POLICY == "resend":
            return _again_or(DeliveryStatus.UNCONFIRMED, outcome, attempts, jitter)._replace(doubts=1)
        case Verdict.UNCONFIRMED:
            return Change(outcome.delivery_id, DeliveryStatus.UNCONFIRMED, outcome.reason, doubts=1)


def _again_or(last: DeliveryStatus, outcome: Outcome, attempts: int, jitter: Callable[[], float]) -> Change:
    """Defer the delivery, or call it `last` when it has been tried often enough."""
    delay = retries.retry_delay(
        attempts,
        maximum=settings.RETRY_MAX_ATTEMPTS,
        base=timedelta(seconds=settings.RETRY_BASE_SECONDS),
        jitter=jitter,
    )
    if delay is None:
        return Change(outcome.delivery_id, last, f"{outcome.reason} (after {attempts} attempts)")
    return Change(outcome.delivery_id, DeliveryStatus.DEFERRED, outcome.reason, again_after=delay)
