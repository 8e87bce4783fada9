"""One batch, start to end: why nothing is lost and nothing is silently sent twice.

    claim     only one worker holds a batch, and only until its lease runs out
    check     the rows that are still open, without those that must not be mailed
    reserve   wait for a place in the rate limit that all workers share
    declare   commit "these are about to leave" before anything leaves, with a last look at suppressions
    send      the network; no transaction is open
    record    commit the answers, only under the lease that was claimed: together with declaring the next
              group, or with giving the batch back

Whatever dies, and whenever, each row is in one of three places. Not declared: nobody was written to; it
is sent later. Recorded: it has its answer. Declared without a record: it may have been accepted, so it
becomes `unconfirmed` and is not sent again blindly. A worker that slept through its lease finds at the
next declare or record that its token counts no more.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta

from django.conf import settings
from redis import Redis

from campaigns import ledger, preflight, retries, tracking
from campaigns.breaker import Breaker, Open
from campaigns.composing import CompiledMessage, Letter, compile_message
from campaigns.ledger import CampaignHeld, Change, Lease, LeaseLost, Row
from campaigns.models import Campaign, DeliveryStatus
from campaigns.providers import Line, Outcome, Provider, Trouble, Verdict
from campaigns.throttle import MustWait

logger = logging.getLogger(__name__)

SHORT_REST = 5.0  # seconds, of a batch that got on before the connection ended
LONGEST_REST = timedelta(minutes=2)  # a provider that comes back is noticed within this time
MAX_RESERVATION_WAIT = 30.0  # seconds that a worker keeps a batch while it waits for the rate limit
LONG_WAIT = 0.05  # seconds; answers do not wait for longer than that to be written
LOOK_SECONDS = 1.0  # how often one that waits, or whose server is slow, looks whether to go on


class Stopping(Exception):
    """This worker is to end: what it has not sent goes back and is for the others."""


def send_batch(
    batch_id: int, *, owner: str, line: Line, stopping: Callable[[], bool] = lambda: False
) -> int | None:
    """Send what is due in one batch; return its campaign's id, or None when there was nothing to take.

    `owner` names the worker for people who look at the batch; once `stopping` says yes, nothing more
    leaves and the batch is free again as soon as the answers on their way are recorded. Raises whatever
    goes wrong inside; the batch is given back first, with what was declared and unanswered marked
    unconfirmed.
    """
    lease = ledger.claim(batch_id, owner)
    if lease is None:
        return None
    try:
        _send(lease, line, stopping)
    except (CampaignHeld, Stopping) as reason:
        logger.info("batch %s goes back: %s", batch_id, reason)
        _give_back(lease)
    except LeaseLost as lost:
        _give_back(lease, lost)
    except Trouble as trouble:
        logger.warning("batch %s waits: %s", batch_id, trouble)
        _give_back(lease, trouble)
    except BaseException as error:
        _give_back(lease, error)
        raise
    else:
        _give_back(lease)
    return lease.campaign_id


def _give_back(lease: Lease, reason: BaseException | None = None) -> None:
    """Release the batch, to rest as long as the reason says, else longer with each failure in a row."""
    wait, failed = None, False
    if isinstance(reason, Trouble) and reason.over_in is not None:
        wait = timedelta(seconds=reason.over_in)
    elif reason is not None:
        base = timedelta(seconds=settings.RETRY_BASE_SECONDS)
        wait = min(LONGEST_REST, retries.backoff(lease.failures + 1, base=base, jitter=random.random))
        failed = True
    try:
        ledger.release(lease, trouble=_words(reason), wait=wait, failed=failed)
    except LeaseLost:
        logger.warning("batch %s: the lease was lost; whoever holds it now goes on", lease.batch_id)


def _words(reason: BaseException | None) -> str:
    return "" if reason is None else str(reason) or repr(reason)


def _send(lease: Lease, line: Line, stopping: Callable[[], bool]) -> None:
    rows = _check(lease)
    if not rows:
        return
    campaign = Campaign.objects.get(id=lease.campaign_id)
    attempts = {row.id: row.attempts for row in rows}
    letters = [_letter(campaign, row) for row in rows]
    troubles: list[Trouble] = []
    for provider in line.providers:
        sending = _Sending(lease, line.redis, provider, _compile(campaign, provider), attempts, stopping)
        try:
            with _guarded(sending, Breaker(provider.name, line.redis)):
                sending.send(letters)
            return
        except Trouble as trouble:
            troubles.append(trouble)
            letters = sending.left(letters)
            if trouble.retry_after is not None or not letters:
                break
    if letters:
        raise _soonest(troubles)


@contextmanager
def _guarded(sending: "_Sending", breaker: Breaker) -> Iterator[None]:
    """Use a provider as its breaker allows, and tell the other workers how it went. Raises Trouble."""
    try:
        is_probe = breaker.admit()
    except Open as is_open:
        raise Trouble(
            str(is_open), is_open.seconds if is_open.asked else None, over_in=is_open.seconds
        ) from is_open
    undecided = True
    try:
        with closing(sending.provider):
            yield
        undecided = False
        breaker.succeeded()
    except MustWait as wait:  # our own limit, which says nothing of the provider
        raise Trouble(str(wait), None if wait.used_up else wait.seconds, over_in=wait.seconds) from wait
    except Trouble as trouble:
        if trouble.retry_after is not None:
            breaker.paused(trouble.retry_after, trouble.why)
        elif sending.accepted:  # it works: the connection ended, which relays do after so many mails
            breaker.succeeded()
            trouble.over_in = trouble.over_in or SHORT_REST
        elif trouble.fault:
            breaker.failed(trouble.why)
        else:
            raise
        undecided = False
        raise
    finally:
        if undecided and is_probe:
            breaker.undecided()


def _soonest(troubles: Sequence[Trouble]) -> Trouble:
    """Return the trouble that may be over first; one without a time may be over at any moment."""
    if not troubles:
        return Trouble("EMAIL_PROVIDERS names no provider")
    return min(troubles, key=lambda trouble: trouble.over_in or 0)


def _check(lease: Lease) -> list[Row]:
    """Return the rows to send; those that must not be mailed are recorded as such."""
    rows = ledger.due_rows(lease)
    changes = [change for row in rows if (change := _not_to_be_sent(row))]
    if changes:
        ledger.rule_out(lease, changes)
    return [row for row in rows if not _not_to_be_sent(row)]


def _not_to_be_sent(row: Row) -> Change | None:
    if row.suppressed:
        why = f"the address is suppressed: {row.suppressed}"
        return Change(row.id, DeliveryStatus.SUPPRESSED, why, attempts=0)
    if row.recipient_id is None:
        return Change(row.id, DeliveryStatus.CANCELLED, "the recipient was deleted", attempts=0)
    return None


class _Sending:
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
            sending = self.provider.send(self.message, leaving, still_ours=self._still_ours)
            unused += sum(outcome.verdict is Verdict.UNSENT for outcome in sending.outcomes)
        finally:
            self.provider.limit.give_back(self.redis, unused)
        self._answer(sending.outcomes)
        if self._end:
            raise self._end
        if sending.trouble:
            raise sending.trouble

    def _wait(self, seconds: float) -> None:
        """Sleep until the places that were booked, while there is reason to."""
        until = time.monotonic() + seconds
        self._look()
        if seconds > LONG_WAIT:
            ledger.record(self.lease)
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
        self.lease.answers += changes
        self.accepted += sum(outcome.verdict is Verdict.ACCEPTED for outcome in outcomes)
        self.answered.update(
            change.delivery_id for change in changes if change.status is not DeliveryStatus.PENDING
        )


def _compile(campaign: Campaign, provider: Provider) -> CompiledMessage:
    sender = preflight.sender_of(campaign, default=provider.from_email)
    return compile_message(sender, subject=campaign.subject, html=campaign.html, text=campaign.text)


def _letter(campaign: Campaign, row: Row) -> Letter:
    unsubscribe_url = tracking.unsubscribe_url(row.id)
    own = {"email": row.email, "name": row.name, "timezone": row.timezone, "unsubscribe_url": unsubscribe_url}
    return Letter(
        delivery_id=row.id,
        email=row.email,
        name=row.name,
        message_id=row.message_id,
        context={**campaign.variables, **row.attributes, **own},
        unsubscribe_url=unsubscribe_url,
    )
