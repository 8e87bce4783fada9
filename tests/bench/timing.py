"""Watching a sink while something is sent to it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.sinks import Sink

LOOK = 0.02  # seconds between two looks, which is also how exact the moments are
SHORTEST = 10  # looks; what took less is not called a speed
PATIENCE = 900.0  # seconds


@dataclass(frozen=True, slots=True)
class Timing:
    """One sending, in seconds from its start."""

    first: float  # until the sink had accepted something
    last: float  # until it had accepted all of it
    ended: float  # until the sender said that it was done
    accepted: int  # messages or requests

    @property
    def flowing(self) -> float:
        """Seconds from the first acceptance to the last; 0 when that is too short to be told."""
        between = self.last - self.first
        return between if between > SHORTEST * LOOK else 0.0


def watch(sink: Sink, begin: Callable[[], object], is_done: Callable[[int], bool]) -> Timing:
    """Begin, and look at the sink until `is_done` says so of the number it has accepted since."""
    before = sink.accepted
    since = time.monotonic()
    begin()
    first = last = now = 0.0
    accepted = 0
    while True:
        done = is_done(accepted)
        now, found = time.monotonic() - since, sink.accepted - before
        if found > accepted:
            first, last, accepted = first or now, now, found
        elif done:
            return Timing(first, last, now, accepted)
        if now > PATIENCE:
            raise TimeoutError(f"after {PATIENCE:.0f} s the sink had accepted {accepted:,}")
        time.sleep(LOOK)  # others are at work
