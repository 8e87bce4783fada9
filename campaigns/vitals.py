"""What the parts around the ledger say of themselves: the providers' states and limits, the last tick.

All of it is in Redis and is read in one round trip. It explains why mails wait; the promise does not hang on
it. So a look never fails and never takes long: without Redis everything is unknown.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from django.conf import settings
from redis import Redis
from redis.exceptions import RedisError

from campaigns import throttle
from campaigns.breaker import Breaker, Position, State
from campaigns.providers import configured_limits
from campaigns.throttle import Limit, Use

logger = logging.getLogger(__name__)

UNKNOWN = "unknown"
POSITIONS = [*(position.value for position in Position), UNKNOWN]
PATIENCE = 0.25  # seconds that a look may wait for Redis
REST = 5.0  # seconds without a look after one that found Redis away
BOOKED_OUT = 1.0  # seconds ahead
TICK_LATE = timedelta(seconds=150)  # two ticks missed, and some
_TICK = "mailer:tick"
_KEPT_SECONDS = 30 * 86400


@dataclass(frozen=True, slots=True)
class ProviderState:
    """A provider as people see it; `state` and `use` are None when Redis does not answer."""

    limit: Limit
    state: State | None = None
    use: Use | None = None

    @property
    def name(self) -> str:
        """Its name in EMAIL_PROVIDERS."""
        return self.limit.name

    @property
    def position(self) -> str:
        """Such as "closed", or "unknown"."""
        return self.state.position.value if self.state else UNKNOWN

    @property
    def since(self) -> datetime | None:
        """Since when it is not closed."""
        return self.state.since if self.state else None

    @property
    def until(self) -> datetime | None:
        """When it is asked again."""
        return self.state.until if self.state else None

    @property
    def quota_used(self) -> int | None:
        """How many mails it took in the last 24 hours; None without a quota or when it is unknown."""
        return self.use.used if self.limit.per_day and self.use else None

    @property
    def quota_more_at(self) -> datetime | None:
        """When the first of those is a day old."""
        return self.use.more_at if self.limit.per_day and self.use else None

    @property
    def quota_left(self) -> int | None:
        """How many more mails it takes in these 24 hours; None without a quota or when it is unknown."""
        return None if self.quota_used is None else max(self.limit.per_day - self.quota_used, 0)

    @property
    def is_booked_out(self) -> bool:
        """Whether places in its rate are booked so far ahead that senders must be waiting for them."""
        return bool(self.limit.per_second) and self.use is not None and self.use.booked_for > BOOKED_OUT

    def closed_because(self, now: datetime) -> str:
        """Return why it is not asked now, such as "sendgrid: open since 10:02 UTC: …"; '' if it is."""
        state, use = self.state, self.use
        if state and state.since and state.until and state.position is Position.OPEN:
            since, until = moment(state.since, now), moment(state.until, now)
            return f"{self.name}: open since {since}: {self.why}; asked again at {until}"
        if use and self.quota_left == 0:
            more = f"; more from {moment(use.more_at, now)}" if use.more_at else ""
            return f"{self.name}: the quota of {self.limit.per_day:,} in 24 hours is used up{more}"
        return ""

    @property
    def why(self) -> str:
        """Why it is not closed, without its name."""
        return self.state.why.removeprefix(f"{self.name}: ") if self.state else ""


@dataclass(frozen=True, slots=True)
class Vitals:
    """What one look found; `known` says whether Redis answered. `tick_at` is None if no tick is known."""

    providers: tuple[ProviderState, ...]
    tick_at: datetime | None = None
    known: bool = True

    def tick_is_late(self, now: datetime) -> bool:
        """Say whether it is known that the tick does not run as it should."""
        return self.known and (self.tick_at is None or now - self.tick_at >= TICK_LATE)

    def last_tick(self, now: datetime) -> str:
        """Say when the minute tick ran last, and what it means when that is long ago."""
        if not self.known:
            return "When the tick last ran is unknown, as Redis does not answer"
        if self.tick_at is None:
            return "No tick is known: are Beat and the scheduler's worker running?"
        words = f"The last tick was at {moment(self.tick_at, now)}"
        if not self.tick_is_late(now):
            return words
        minutes = (now - self.tick_at) // timedelta(minutes=1)
        return f"{words}, {minutes:,} minutes ago: Beat, the scheduler's worker or the broker is not running"


def moment(at: datetime, now: datetime) -> str:
    """Return such as "10:05 UTC", with the day when it is another one than that of `now`; both are UTC.

    With seconds when it is only minutes away: a pause of ten seconds has to be seen to end.
    """
    if abs(at - now) < timedelta(minutes=5):
        return f"{at:%H:%M:%S} UTC"
    return f"{at:%H:%M} UTC" if at.date() == now.date() else f"{at:%d %b %H:%M} UTC"


def note_tick(redis: Redis, *, now: datetime) -> None:
    """Note that the minute tick ran; never raises for a Redis that is away."""
    try:
        redis.set(_TICK, now.timestamp(), ex=_KEPT_SECONDS)
    except RedisError as error:
        logger.warning("the tick's time could not be noted: %s", error)


def look() -> Vitals:
    """Look at everything; costs at most PATIENCE, once in REST seconds, when Redis does not answer."""
    limits = configured_limits()
    found = _looking(settings.REDIS_URL).read(limits)
    if found is None:
        return Vitals(tuple(ProviderState(limit) for limit in limits), known=False)
    tick, answers = found[0], found[1:]
    pairs = zip(limits, answers[0::2], answers[1::2], strict=True)
    providers = tuple(
        ProviderState(limit, Breaker.seen(state), Limit.seen(use)) for limit, state, use in pairs
    )
    return Vitals(providers, datetime.fromtimestamp(float(tick), UTC) if tick else None)


class _Looking:
    """The impatient connection of this process, which rests after it was disappointed."""

    def __init__(self, url: str) -> None:
        self._redis = throttle.connect(url, patience=PATIENCE)
        self._rest_until = 0.0

    def read(self, limits: Sequence[Limit]) -> list[Any] | None:
        """Return the tick and each provider's two answers, or None when Redis does not give them."""
        if time.monotonic() < self._rest_until:
            return None
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.get(_TICK)
                for limit in limits:
                    Breaker(limit.name, self._redis).ask(pipeline)
                    limit.ask(pipeline)
                found: list[Any] = pipeline.execute()
                return found
        except RedisError as error:
            logger.warning("the states of the providers are unknown: %s", error)
            self._rest_until = time.monotonic() + REST
            return None


@cache
def _looking(url: str) -> _Looking:
    return _Looking(url)
