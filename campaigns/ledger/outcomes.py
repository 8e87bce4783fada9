"""From a provider's word to the ledger's."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from django.conf import settings

from campaigns import retries
from campaigns.ledger.rows import Change
from campaigns.models import DeliveryStatus
from campaigns.providers import Outcome, Verdict


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
            return Change(outcome.delivery_id, DeliveryStatus.PENDING, outcome.reason, attempts=-1)
        case Verdict.DEFERRED:
            return _again_or(DeliveryStatus.FAILED, outcome, attempts, jitter)
        case Verdict.UNCONFIRMED if settings.UNCONFIRMED_POLICY == "resend":
            return replace(_again_or(DeliveryStatus.UNCONFIRMED, outcome, attempts, jitter), doubts=1)
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
