"""Letters through one provider, group by group: reserve, declare, send, record; and through the next one.

They are those of a batch, or of a single mail: what differs is whose lease it is, and the `Steps` that write
under it.
"""

import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Generic, Protocol, TypeVar

from django.conf import settings
from redis import Redis

from campaigns import ledger, retries
from campaigns.breaker import Breaker, Open
from campaigns.composing import Letter, Message
from campaigns.ledger import CampaignHeld, Change, Hold, LeaseLost
from campaigns.models import DeliveryStatus
from campaigns.providers import Line, Outcome, Provider, Trouble, Verdict
from campaigns.throttle import MustWait

SHORT_REST = 5.0  # seconds, of a batch that got on before the connection ended
MAX_RESERVATION_WAIT = 30.0  # seconds that a worker keeps a batch while it waits for the rate limit
LONG_WAIT = 0.05  # seconds; answers do not wait for longer than that to be written
LOOK_SECONDS = 1.0  # how often one that waits, or whose server is slow, looks whether to go on
LONGEST_REST = timedelta(minutes=2)  # a provider that comes back is noticed within this time
WORTH_WAITING = 60.0  # seconds; while a provider wants a longer pause, the next one is used

H = TypeVar("H", bound=Hold)
H_contra = TypeVar("H_contra", bound=Hold, contravariant=True)


class Stopping(Exception):
    """This worker is to end: what it has not sent goes back and is for the others."""


class Steps(Protocol[H_contra]):
    """What is written on the way, under a lease; `ledger` has the steps of a batch and explains them."""

    def declare(self, lease: H_contra, delivery_ids: Sequence[int], provider: str, /) -> set[int]:
        """Write down what is about to leave; return what must not after all."""

    def record(self, lease: H_contra, /) -> None:
        """Write the lease's answers."""

    def rule_out(self, lease: H_contra, changes: Sequence[Change], /) -> None:
        """Write what becomes of those that are not to be sent at all."""

    def renew(self, lease: H_contra, /) -> None:
        """Lengthen the lease."""


class Sending(Generic[H]):
    """One batch through one provider, group by group; remembers which letters have had their answer."""

    def __init__(
        self,
        lease: H,
        steps: Steps[H],
        redis: Redis,
        provider: Provider,
        message: Message,
        attempts: dict[int, int],
        stopping: Callable[[], bool],
        *,
        urgent: bool = False,
    ) -> None:
        """`urgent` letters need not stand in line for the rate limit behind those of campaigns."""
        self.lease, self.steps, self.redis = lease, steps, redis
        self.provider, self.message, self.urgent = provider, message, urgent
        self.attempts, self.stopping = attempts, stopping
        self.answered: set[int] = set()
        self.declined: dict[int, str] = {}  # what the provider can never carry, and why
        self.accepted = 0
        self.asked = False
        self._looked_at = time.monotonic()
        self._end: Exception | None = None  # why nothing more may leave, once that is so

    def send(self, letters: Sequence[Letter]) -> None:
        """Send every letter that is not declined; raises Trouble or MustWait when it cannot take them now."""
        self._decline(letters)
        carried = [letter for letter in letters if letter.delivery_id not in self.declined]
        for group in self.provider.groups(self.message, carried):
            remaining = group
            while remaining:
                places = self.provider.limit.reserve(
                    self.redis, len(remaining), max_wait=MAX_RESERVATION_WAIT, urgent=self.urgent
                )
                done = self._send_group(remaining[: places.count], places.wait)
                remaining = remaining[done:]

    def _decline(self, letters: Sequence[Letter]) -> None:
        """Find out what the provider cannot carry, before anything is booked or declared for it."""
        special = [letter for letter in letters if letter.needs_smtputf8]
        if not special:
            return
        self._look()
        self._open()  # a mail server says what it offers when it is connected to
        answers = {letter.delivery_id: self.provider.declines(letter) for letter in special}
        self.declined = {delivery_id: why for delivery_id, why in answers.items() if why}

    def _open(self) -> None:
        if not self.provider.is_ready():
            self.record()  # connecting may take its time
            self.provider.open()

    def _send_group(self, group: Sequence[Letter], wait: float) -> int:
        """Send what may leave together, and return how many of the group that are."""
        booked = unused = len(group)
        try:
            self._wait(wait)
            self._open()
            group = group[: self.provider.room]
            depart = self.provider.compose(self.message, group)
            held_back = self.steps.declare(
                self.lease, [letter.delivery_id for letter in group], self.provider.name
            )
            self._looked_at = time.monotonic()
            self.answered.update(held_back)
            leaving = [letter for letter in group if letter.delivery_id not in held_back]
            unused = booked - len(leaving)
            if not leaving:
                return len(group)
            self.asked = True
            answer = depart(leaving, self._still_ours)
            unused += sum(outcome.verdict is Verdict.UNSENT for outcome in answer.outcomes)
        finally:
            self.provider.limit.give_back(self.redis, unused)
        self._answer(answer.outcomes)
        if self._end:
            raise self._end
        if answer.trouble:
            raise answer.trouble
        return len(group)

    def record(self) -> None:
        """Write the answers that are known, if there are any."""
        if self.lease.answers:
            self.steps.record(self.lease)

    def _wait(self, seconds: float) -> None:
        """Sleep until the places that were booked, while there is reason to."""
        until = time.monotonic() + seconds
        self._look()
        if seconds > LONG_WAIT:
            self.record()
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_SECONDS))  # the rate limit's time has to pass
            self._look()

    def _look(self, *, lease_for: float = 0.0) -> None:
        """Raise what ends this batch before its last mail: Stopping, CampaignHeld, LeaseLost.

        The database is asked once in LOOK_SECONDS, and when the lease may not last for `lease_for` seconds.
        """
        now = time.monotonic()
        if now - self._looked_at >= LOOK_SECONDS or not self.lease.is_good(for_seconds=lease_for):
            self.steps.renew(self.lease)
            self._looked_at = now
        if self.stopping():  # last: what is underway keeps its lease
            raise Stopping("the worker is being stopped")

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


def send_through(
    line: Line, letters: Sequence[Letter], sending_with: Callable[[Provider], Sending[H]]
) -> None:
    """Send the letters through the first provider, and what it provably did not take through the next.

    What none of the line can carry fails. `sending_with` makes the Sending for a provider, all of the same
    lease. Raises the Trouble that is over first when letters are left that nobody takes now; CampaignHeld,
    LeaseLost, Stopping.
    """
    troubles: list[Trouble] = []
    reasons: dict[int, list[str]] = defaultdict(list)  # why providers declined a letter
    some_wait = False
    for provider in line.providers:
        sending = sending_with(provider)
        trouble = _try(sending, letters, line.redis)
        for delivery_id, why in sending.declined.items():
            reasons[delivery_id].append(why)
        going_on = set(sending.declined)
        if trouble:
            troubles.append(trouble)
            left = {letter.delivery_id for letter in sending.left(letters)}
            if _is_worth_waiting(trouble):
                some_wait = some_wait or not left <= going_on
            else:
                going_on |= left
        letters = [letter for letter in letters if letter.delivery_id in going_on]
        if not letters:
            break
        sending.record()  # before anything else is tried, which may take its time
    given_up = {
        letter.delivery_id
        for letter in letters
        if line.providers and len(reasons[letter.delivery_id]) == len(line.providers)
    }
    if given_up:
        changes = [ledger.nobody_carries(each, "; ".join(reasons[each])) for each in sorted(given_up)]
        sending.steps.rule_out(sending.lease, changes)
    if some_wait or len(given_up) < len(letters):
        raise _soonest(troubles)


def _try(sending: Sending[H], letters: Sequence[Letter], redis: Redis) -> Trouble | None:
    """Send the letters through one provider; return what ended it before the last that it carries."""
    try:
        with guarded(sending, Breaker(sending.provider.name, redis)):
            sending.send(letters)
    except Trouble as trouble:
        return trouble
    return None


def _is_worth_waiting(trouble: Trouble) -> bool:
    return trouble.retry_after is not None and trouble.retry_after <= WORTH_WAITING


def _soonest(troubles: Sequence[Trouble]) -> Trouble:
    """Return the trouble that is over first, as far as that is known."""
    if not troubles:
        return Trouble("EMAIL_PROVIDERS names no provider")
    return min(troubles, key=lambda trouble: math.inf if trouble.over_in is None else trouble.over_in)


def rest_after(lease: Hold, reason: BaseException | None) -> tuple[timedelta | None, bool]:
    """Return how long what was held is to rest, if it is, and whether it counts as a failure in a row.

    It rests as long as the reason says, else longer with each failure.
    """
    if reason is None:
        return None, False
    if isinstance(reason, Trouble) and reason.over_in is not None:
        return timedelta(seconds=reason.over_in), False
    base = timedelta(seconds=settings.RETRY_BASE_SECONDS)
    return min(LONGEST_REST, retries.backoff(lease.failures + 1, base=base, jitter=random.random)), True


def in_words(reason: BaseException | None) -> str:
    """Return why something was given back, for those who look at it."""
    return "" if reason is None else str(reason) or repr(reason)


@contextmanager
def guarded(sending: Sending[H], breaker: Breaker) -> Iterator[None]:
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
