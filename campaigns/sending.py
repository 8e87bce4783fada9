"""One batch through one provider, group by group: reserve, declare, send, record."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from redis import Redis

from campaigns import ledger
from campaigns.breaker import Breaker, Open
from campaigns.composing import CompiledMessage, Letter
from campaigns.ledger import CampaignHeld, Lease, LeaseLost
from campaigns.models import DeliveryStatus
from campaigns.providers import Outcome, Provider, Trouble, Verdict
from campaigns.throttle import MustWait

SHORT_REST = 5.0  # seconds, of a batch that got on before the connection ended
MAX_RESERVATION_WAIT = 30.0  # seconds that a worker keeps a batch while it waits for the rate limit
LONG_WAIT = 0.05  # seconds; answers do not wait for longer than that to be written
LOOK_SECONDS = 1.0  # how often one that waits, or whose server is slow, looks whether to go on


class Stopping(Exception):
    """This worker is to end: what it has not sent goes back and is for the others."""


class Sending:
    """One batch through one provider, group by group; remembers which letters have had their answer."""

    def __init__(
        self,
        lease: Lease,
        redis: Redis,
        provider: Provider,
        message: CompiledMessage,
        attempts: dict[int, int],
        stopping: Callable[[], bool],
    ) -> None:
        self.lease, self.redis, self.provider, self.message = lease, redis, provider, message
        self.attempts, self.stopping = attempts, stopping
        self.answered: set[int] = set()
        self.accepted = 0
        self.asked = False
        self._looked_at = time.monotonic()
        self._end: Exception | None = None  # why nothing more may leave, once that is so

    def send(self, letters: Sequence[Letter]) -> None:
        """Send every letter; raises Trouble or MustWait when the provider cannot take them all now."""
        for group in self.provider.groups(self.message, letters):
            remaining = group
            while remaining:
                places = self.provider.limit.reserve(
                    self.redis, len(remaining), max_wait=MAX_RESERVATION_WAIT
                )
                self._send_group(remaining[: places.count], places.wait)
                remaining = remaining[places.count :]

    def _send_group(self, group: Sequence[Letter], wait: float) -> None:
        unused = len(group)  # of the places that were booked
        try:
            self._wait(wait)
            if not self.provider.is_ready():
                self._record()  # connecting may take its time
                self.provider.open()
            held_back = ledger.declare(
                self.lease, [letter.delivery_id for letter in group], self.provider.name
            )
            self._looked_at = time.monotonic()
            self.answered.update(held_back)
            leaving = [letter for letter in group if letter.delivery_id not in held_back]
            unused = len(held_back)
            if not leaving:
                return
            self.asked = True
            answer = self.provider.send(self.message, leaving, still_ours=self._still_ours)
            unused += sum(outcome.verdict is Verdict.UNSENT for outcome in answer.outcomes)
        finally:
            self.provider.limit.give_back(self.redis, unused)
        self._answer(answer.outcomes)
        if self._end:
            raise self._end
        if answer.trouble:
            raise answer.trouble

    def _record(self) -> None:
        if self.lease.answers:
            ledger.record(self.lease)

    def _wait(self, seconds: float) -> None:
        """Sleep until the places that were booked, while there is reason to."""
        until = time.monotonic() + seconds
        self._look()
        if seconds > LONG_WAIT:
            self._record()
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_SECONDS))  # the rate limit's time has to pass
            self._look()

    def _look(self, *, lease_for: float = 0.0) -> None:
        """Raise what ends this batch before its last mail: Stopping, CampaignHeld, LeaseLost.

        The database is asked once in LOOK_SECONDS, and when the lease may not last for `lease_for` seconds.
        """
        if self.stopping():
            raise Stopping("the worker is being stopped")
        now = time.monotonic()
        if now - self._looked_at >= LOOK_SECONDS or not self.lease.is_good(for_seconds=lease_for):
            ledger.renew(self.lease)
            self._looked_at = now

    def _still_ours(self) -> bool:
        """Say whether the next request may leave; the lease must outlast the longest wait for its answer."""
        try:
            self._look(lease_for=self.provider.patience)
        except (Stopping, CampaignHeld, LeaseLost) as end:
            self._end = end
            return False
        return True

    def left(self, letters: Sequence[Letter]) -> list[Letter]:
        """Return the letters that were provably not accepted and may go another way."""
        return [letter for letter in letters if letter.delivery_id not in self.answered]

    def _answer(self, outcomes: Sequence[Outcome]) -> None:
        drawn = random.random()  # noqa: S311  # jitter; one for all, so that they meet again
        changes = [
            ledger.change_for(outcome, attempts=self.attempts[outcome.delivery_id] + 1, jitter=lambda: drawn)
            for outcome in outcomes
        ]
        self.lease.answer(changes)
        self.accepted += sum(outcome.verdict is Verdict.ACCEPTED for outcome in outcomes)
        self.answered.update(
            change.delivery_id for change in changes if change.status is not DeliveryStatus.PENDING
        )


@contextmanager
def guarded(sending: Sending, breaker: Breaker) -> Iterator[None]:
    """Use a provider as its breaker allows, and tell the other workers how it went. Raises Trouble."""
    try:
        is_probe = breaker.admit()
    except Open as is_open:
        raise Trouble(
            str(is_open), is_open.seconds if is_open.asked else None, over_in=is_open.seconds
        ) from is_open
    undecided = True
    try:
        try:
            yield
        finally:
            sending.provider.rest()
        if sending.asked:
            undecided = False
            breaker.succeeded()
    except MustWait as wait:  # our own limit, which says nothing of the provider
        raise Trouble(str(wait), None if wait.used_up else wait.seconds, over_in=wait.seconds) from wait
    except Trouble as trouble:
        if trouble.retry_after is not None:
            breaker.paused(trouble.retry_after, trouble.why)
        elif sending.accepted:  # it works: the connection ended, which relays do after so many mails
            breaker.succeeded()
            trouble.over_in = SHORT_REST
            if trouble.hung_up:
                trouble.retry_after = SHORT_REST
        elif trouble.fault:
            breaker.failed(trouble.why)
        else:
            raise
        undecided = False
        raise
    finally:
        if undecided and is_probe:
            breaker.undecided()
