"""Whether a provider is worth asking, known to every worker: closed, open, or half-open with one probe.

    closed      it answers; everybody sends
    open        it failed FAILURES times in a row, or asked for a pause; nobody sends until that has passed
    half-open   the pause is over; one worker tries, the others wait for what it finds

The state is in Redis and on Redis' clock. Without Redis every provider counts as closed: the breaker
saves time, it does not keep the promise.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

FAILURES = 3
FIRST_PAUSE = 10.0  # seconds; doubled with each probe that fails
LONGEST_PAUSE = 120.0
LOOK_AGAIN = 5.0  # seconds after which to see what somebody else's probe has found
PROBE_SECONDS = 60.0  # a probe that has not ended by then was lost with its worker

# Each script reads the state first: since and until are milliseconds of Redis' clock.
_STATE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = redis.call('HMGET', KEYS[1], 'since', 'until', 'why', 'failures', 'asked')
local since, open_until, why = tonumber(found[1]), tonumber(found[2]), found[3] or ''
local failures, asked = tonumber(found[4]) or 0, tonumber(found[5]) or 0
"""

_ADMIT = (
    _STATE
    + """
if not open_until then return {0} end
if now < open_until then return {1, open_until - now, since, why, asked} end
if redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[1]) then return {0, 1} end
return {1, math.min(redis.call('PTTL', KEYS[2]), tonumber(ARGV[2])), since, why, asked}
"""
)

_FAILED = (
    _STATE
    + """
-- those who were already at it when it opened tell nothing new
if open_until and now < open_until then return end
failures = failures + 1
redis.call('HSET', KEYS[1], 'failures', failures, 'why', ARGV[4], 'asked', 0)
if failures >= tonumber(ARGV[1]) then
  local pause = math.min(ARGV[2] * 2 ^ (failures - ARGV[1]), tonumber(ARGV[3]))
  redis.call('HSET', KEYS[1], 'since', since or now, 'until', string.format('%.0f', now + pause))
end
redis.call('DEL', KEYS[2])
redis.call('EXPIRE', KEYS[1], 86400)
"""
)

_PAUSED = (
    _STATE
    + """
local until_then = now + tonumber(ARGV[1])
if open_until and open_until > until_then then until_then = open_until end
redis.call('HSET', KEYS[1], 'since', since or now, 'until', string.format('%.0f', until_then),
           'why', ARGV[2], 'asked', 1)
redis.call('DEL', KEYS[2])
redis.call('EXPIRE', KEYS[1], 86400)
"""
)

_SUCCEEDED = (
    _STATE
    + """
if open_until and now < open_until then return end
redis.call('DEL', KEYS[1], KEYS[2])
"""
)

_LOOK = (
    _STATE
    + """
return {now, since or 0, open_until or 0, why}
"""
)


class Open(Exception):
    """The provider is not to be asked now; the text says since when and why.

    `seconds` says when to ask again, `asked` whether the provider itself asked for the pause.
    """

    def __init__(self, name: str, seconds: float, since: datetime, why: str, *, asked: bool) -> None:
        super().__init__(f"{name}: open since {since:%H:%M} UTC: {why.removeprefix(f'{name}: ')}")
        self.seconds = seconds
        self.asked = asked


class Position(Enum):
    """What a look at a breaker finds."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class State:
    """A breaker as people see it; `since`, `until` and `why` only when it is not closed."""

    position: Position
    since: datetime | None = None
    until: datetime | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Breaker:
    """The breaker of one provider."""

    name: str
    redis: Redis

    def admit(self) -> bool:
        """Return if the provider may be asked; True when that is everybody's probe. Raises Open."""
        found = self._run(_ADMIT, int(PROBE_SECONDS * 1000), int(LOOK_AGAIN * 1000))
        if found and found[0]:
            _, wait, since, why, asked = found
            raise Open(self.name, max(wait, 0) / 1000, _moment(since), why.decode(), asked=bool(asked))
        return bool(found and len(found) > 1)

    def failed(self, why: str) -> None:
        """Count a failure of the provider itself; the one that makes FAILURES in a row opens the breaker."""
        self._run(_FAILED, FAILURES, FIRST_PAUSE * 1000, LONGEST_PAUSE * 1000, why)

    def paused(self, seconds: float, why: str) -> None:
        """Open for as long as the provider asked."""
        self._run(_PAUSED, seconds * 1000, why)

    def succeeded(self) -> None:
        """Close: the provider took mail. One that is open stays so: it was asked before that."""
        self._run(_SUCCEEDED)

    def undecided(self) -> None:
        """Let another worker probe: this one, which was the probe, ended before it had an answer."""
        try:
            self.redis.delete(self._keys[1])
        except RedisError as error:
            logger.warning("breaker %s: %s", self.name, error)

    def look(self) -> State:
        """Return the state, changing nothing; CLOSED when Redis does not answer."""
        return self.seen(self._run(_LOOK))

    def ask(self, pipeline: Pipeline) -> None:
        """Let a pipeline look; `seen` reads what it found."""
        pipeline.eval(_LOOK, 2, *self._keys)

    @staticmethod
    def seen(found: Sequence[Any] | None) -> State:
        """Read the answer to `ask`."""
        if not found or not found[2]:
            return State(Position.CLOSED)
        now, since, until, why = found
        position = Position.OPEN if now < until else Position.HALF_OPEN
        return State(position, _moment(since), _moment(until), why.decode())

    @property
    def _keys(self) -> tuple[str, str]:
        return f"mailer:breaker:{self.name}", f"mailer:probe:{self.name}"

    def _run(self, script: str, *arguments: float | str) -> Any:
        try:
            return self.redis.eval(script, 2, *self._keys, *map(str, arguments))
        except RedisError as error:
            logger.warning("breaker %s: %s", self.name, error)
            return None


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
