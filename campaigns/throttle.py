"""The rate limit and the daily quota of a provider, shared by every worker, exact, on Redis' own clock.

A reservation is one script call (GCRA, the generic cell rate algorithm): it books the next free slots and
says how long to wait for them. A worker that dies with a reservation only wastes it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from redis import Redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import RedisError
from redis.retry import Retry

logger = logging.getLogger(__name__)

_DAY = timedelta(hours=24)

_RESERVE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local rate, burst, count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local max_wait, quota, share = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

if quota > 0 then
  -- the bookings of the last 24 hours, oldest first, and their sum
  local oldest = redis.call('LINDEX', KEYS[2], 0)
  while oldest do
    local at, booked = string.match(oldest, '^(%d+) (-?%d+)$')
    if tonumber(at) + 86400000000 > now then break end
    redis.call('LPOP', KEYS[2])
    redis.call('DECRBY', KEYS[3], booked)
    oldest = redis.call('LINDEX', KEYS[2], 0)
  end
  local used = oldest and tonumber(redis.call('GET', KEYS[3]) or '0') or 0
  if used >= quota then return {2, 0, 0} end
  count = math.min(count, quota - used)
end

local wait, booked_until = 0, now
if rate > 0 then
  local interval = 1000000 / rate
  local free_at = tonumber(redis.call('GET', KEYS[1]) or '0')
  -- a clock that was set back must not lock everybody out
  if free_at < now or free_at - now > 3600000000 then free_at = now end
  wait = math.max(0, free_at + (count - burst) * interval - now)
  if share > 0 and wait > 0 then
    -- urgent ones go first, as far as their share of the rate reaches; those who book after them wait longer
    local urgent_at = math.max(tonumber(redis.call('GET', KEYS[4]) or '0'), now)
    local urgent_wait = urgent_at - now
    if urgent_wait < wait and urgent_wait <= 3600000000 then
      wait = urgent_wait
      local urgent_until = urgent_at + count * 1000000 / share
      redis.call('SET', KEYS[4], string.format('%.0f', urgent_until),
                 'PX', math.ceil((urgent_until - now) / 1000) + 1000)
    end
  end
  if wait > max_wait then return {1, math.ceil(wait), 0} end
  booked_until = free_at + count * interval
  redis.call('SET', KEYS[1], string.format('%.0f', booked_until),
             'PX', math.ceil((booked_until - now) / 1000) + 1000)
end
if quota > 0 then
  redis.call('RPUSH', KEYS[2], string.format('%.0f %d', now + math.ceil(wait), count))
  redis.call('INCRBY', KEYS[3], count)
  redis.call('EXPIRE', KEYS[2], 90000)
  redis.call('EXPIRE', KEYS[3], 90000)
end
return {0, math.ceil(wait), count}
"""


_GIVE_BACK = """
local time = redis.call('TIME')
if redis.call('EXISTS', KEYS[2]) == 0 then return end
redis.call('RPUSH', KEYS[1], string.format('%.0f %d', time[1] * 1000000 + time[2], -ARGV[1]))
redis.call('DECRBY', KEYS[2], ARGV[1])
"""

# Reads what _RESERVE writes and changes nothing: {microseconds now, rate booked until, used, oldest booking}
_LOOK = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local used = tonumber(redis.call('GET', KEYS[3]) or '0')
local oldest, from = 0, 0
while oldest == 0 do
  local page = redis.call('LRANGE', KEYS[2], from, from + 99)
  if #page == 0 then used = 0 break end
  for _, entry in ipairs(page) do
    local at, booked = string.match(entry, '^(%d+) (-?%d+)$')
    if tonumber(at) + 86400000000 > now then oldest = tonumber(at) break end
    used = used - booked
  end
  from = from + 100
end
return {string.format('%.0f', now), redis.call('GET', KEYS[1]) or '0',
        string.format('%.0f', used), string.format('%.0f', oldest)}
"""

URGENT_SHARE = 0.1  # of the rate, for single mails while campaigns have booked it out; at least one a second
QUOTA_PAUSE = 600.0  # seconds between two looks at a quota that is used up


class MustWait(Exception):
    """No slot is free soon enough; `seconds` says when to ask again, the text says why.

    `used_up` tells the quota, which may last for hours, from the rate, which passes.
    """

    def __init__(self, seconds: float, why: str, *, used_up: bool = False) -> None:
        super().__init__(why)
        self.seconds = seconds
        self.used_up = used_up


@dataclass(frozen=True, slots=True)
class Places:
    """What was booked: so many sends, the first of them after `wait` seconds."""

    count: int
    wait: float


@dataclass(frozen=True, slots=True)
class Use:
    """How much of a limit is taken.

    `booked_for`: seconds until the rate has a place that nobody booked; `used`: sends of the last 24
    hours, where there is a quota; `more_at`: when the first of them will be so long ago, where there are any.
    """

    booked_for: float
    used: int
    more_at: datetime | None


@dataclass(frozen=True, slots=True)
class Limit:
    """How fast and how much one provider may be used; 0 means without limit."""

    name: str
    per_second: int
    per_day: int = 0

    def reserve(self, redis: Redis, count: int, *, max_wait: float, urgent: bool = False) -> Places:
        """Book `count` sends, or as many as the quota of the last 24 hours has left.

        `urgent` ones do not wait for what is booked already, as long as they keep to URGENT_SHARE of the
        rate: by so much it may be exceeded while they come, and what is booked later makes up for it.
        Raises MustWait when the wait would be longer than `max_wait` seconds, when the quota is used up,
        or when Redis does not answer: without the shared count nothing is sent.
        """
        if not self.per_second and not self.per_day:
            return Places(count, 0.0)
        burst = max(count, self.burst)
        share = max(self.per_second * URGENT_SHARE, 1.0) if urgent else 0.0
        try:
            verdict, wait, booked = redis.eval(
                _RESERVE,
                4,
                *self._keys,
                f"mailer:urgent:{self.name}",
                *map(str, (self.per_second, burst, count, int(max_wait * 1_000_000), self.per_day, share)),
            )
        except RedisError as error:
            raise MustWait(5, f"waiting for Redis, which keeps the rate limit: {error}") from error
        if verdict == 2:
            why = f"{self.name}: the quota of {self.per_day:,} in 24 hours is used up"
            raise MustWait(QUOTA_PAUSE, why, used_up=True)
        if verdict == 1:
            raise MustWait(
                wait / 1_000_000, f"{self.name}: waiting for the rate limit of {self.per_second}/s"
            )
        return Places(booked, wait / 1_000_000)

    def give_back(self, redis: Redis, count: int) -> None:
        """Put `count` booked places back into the quota: nothing was sent with them."""
        if not self.per_day or not count:
            return
        try:
            redis.eval(_GIVE_BACK, 2, *self._keys[1:], str(count))
        except RedisError as error:
            logger.warning("%s: %s places of the quota are lost: %s", self.name, count, error)

    def look(self, redis: Redis) -> Use:
        """Return how much is taken, changing nothing. Raises RedisError."""
        return self.seen(redis.eval(_LOOK, 3, *self._keys))

    def ask(self, pipeline: Pipeline) -> None:
        """Let a pipeline look; `seen` reads what it found."""
        pipeline.eval(_LOOK, 3, *self._keys)

    @staticmethod
    def seen(found: Sequence[bytes]) -> Use:
        """Read the answer to `ask`."""
        now, booked_until, used, oldest = map(float, found)
        more_at = datetime.fromtimestamp(oldest / 1_000_000, UTC) + _DAY if oldest else None
        return Use(max(booked_until - now, 0.0) / 1_000_000, max(int(used), 0), more_at)

    @property
    def burst(self) -> int:
        """How many sends may go at once without being asked for together."""
        return self.per_second // 10

    @property
    def _keys(self) -> tuple[str, str, str]:
        return (
            f"mailer:rate:{self.name}",
            f"mailer:bookings:{self.name}",
            f"mailer:booked:{self.name}",
        )


def connect(url: str, *, patience: float = 5) -> Redis:
    """Return a client that gives up within seconds: a sender that cannot reserve has to say so, not hang."""
    return Redis.from_url(
        url,
        socket_timeout=patience,
        socket_connect_timeout=min(patience, 2),
        retry=Retry(NoBackoff(), 0),
    )
