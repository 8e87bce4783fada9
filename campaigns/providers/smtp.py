"""SMTP: connections that are kept from batch to batch, a few messages declared at a time for each."""

import logging
import math
import smtplib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from campaigns.composing import Letter, Message, SingleMail, mime_pieces
from campaigns.providers.base import (
    Answer,
    Asked,
    Departure,
    Outcome,
    Provider,
    Trouble,
    Verdict,
    unsent,
)
from campaigns.providers.conversation import Broken, Conversation, Envelope, Refused, SmtpAccount, words
from campaigns.providers.exchange import Exchange, Mail
from campaigns.retries import Consequence, Stage, smtp_reply
from campaigns.throttle import Limit

logger = logging.getLogger(__name__)

SENDER_LIMIT_PAUSE = 3600.0  # seconds; an account that is over its daily limit stays so for up to a day
OPENING_SECONDS = 1.0  # within which further connections are opened at a time
WIDEN_AGAIN = 60.0  # seconds until a server that took no further connection is asked for one again
CANNOT_OPEN = (smtplib.SMTPException, OSError, UnicodeError)
NO_SMTPUTF8 = "offers no SMTPUTF8 (RFC 6531), which an address with letters outside ASCII needs"


class Smtp(Provider):
    """A relay such as Gmail's, or any SMTP server."""

    def __init__(self, account: SmtpAccount, limit: Limit, *, window: int, connections: int = 1) -> None:
        """`window` is how many messages may be declared, and so be in doubt after a crash, per connection.

        The first one proves the server; up to `connections` follow where there is enough to send.
        """
        self.account = account
        self.limit = limit
        self.window = window
        self.connections = connections
        self.patience = 3 * account.timeout + account.dot_timeout
        self._conversations: list[Conversation] = []
        self._wanted = 1  # connections
        self._narrow_until = -math.inf  # on the monotonic clock

    def is_ready(self) -> bool:
        held = self._conversations
        too_few = len(held) < self._wanted and time.monotonic() > self._narrow_until
        usable = held and not too_few and not any(each.is_spent for each in held)
        return bool(usable) and all(each.answers() for each in held)

    def open(self) -> None:
        self._keep(Conversation.answers)
        if any(each.is_spent for each in self._conversations):  # those that soon would be go with them
            self._keep(lambda each: each.left > self.window, bidding_farewell=True)
        since = time.monotonic()
        try:
            while len(self._conversations) < self._wanted and time.monotonic() < since + OPENING_SECONDS:
                self._conversations.append(Conversation(self.account))
        except CANNOT_OPEN as error:
            self._narrow_until = time.monotonic() + WIDEN_AGAIN
            why = f"{self.name} at {self.account.host}:{self.account.port}: {words(error)}"
            if not self._conversations:
                raise Trouble(why, SENDER_LIMIT_PAUSE if _is_sender_limit(error) else None) from error
            logger.info("%s connections of a process, no further one: %s", len(self._conversations), why)

    @property
    def room(self) -> int:
        return sum(min(self.window, each.left) for each in self._conversations)

    def rest(self) -> None:
        self._keep(lambda each: each.stands)

    def close(self) -> None:
        conversations, self._conversations = self._conversations, []
        for each in conversations:
            each.quit()

    def _keep(self, fit: Callable[[Conversation], bool], *, bidding_farewell: bool = False) -> None:
        """Let go of those that are not fit to be used again."""
        kept = [each for each in self._conversations if fit(each)]
        for each in self._conversations:
            if each not in kept:
                each.quit() if bidding_farewell else each.hang_up()
        self._conversations = kept

    def declines(self, letter: Letter) -> str:
        held = self._conversations
        if not letter.needs_smtputf8 or not held or any(each.offers_smtputf8 for each in held):
            return ""
        return f"{self.name}: {self.account.host}:{self.account.port} {NO_SMTPUTF8}"

    def groups(self, message: Message, letters: Sequence[Letter]) -> Iterator[Sequence[Letter]]:
        self._keep(Conversation.answers)
        start = 0
        while start < len(letters):
            most = min(len(letters) - start, self._at_once())
            # the first connection has to prove the server before others follow
            self._wanted = math.ceil(most / self.window) if self._conversations else 1
            end = start + min(most, self._places())
            yield letters[start:end]
            start = end

    def _at_once(self) -> int:
        """How many mails may be declared together: where the rate is low, no more than it lets go at once."""
        all_at_once = self.window * self.connections
        if not self.limit.per_second:
            return all_at_once
        return min(all_at_once, max(self.window, self.limit.burst))

    def _places(self) -> int:
        """How many mails may leave together if as many connections as are wanted can be made."""
        limit = self.account.mails_per_connection
        left = [limit if each.is_spent else each.left for each in self._conversations]
        narrow = time.monotonic() <= self._narrow_until
        further = 0 if left and narrow else max(self._wanted - len(left), 0)
        return sum(min(self.window, each) for each in [*left, *[limit] * further])

    def compose(self, message: Message, group: Sequence[Letter]) -> Departure:
        mails: dict[int, Mail] = {}
        refused: dict[int, Outcome] = {}
        for letter in group:
            if why := self.declines(letter):  # a connection was made since it was asked, to another server
                refused[letter.delivery_id] = Outcome(letter.delivery_id, Verdict.DEFERRED, reason=why)
                continue
            try:
                content = _content(message, letter)
            except ValueError as error:
                refused[letter.delivery_id] = Outcome(letter.delivery_id, Verdict.REFUSED, reason=str(error))
            else:
                mails[letter.delivery_id] = Mail(letter, _envelope(message, letter, content), content)
        return partial(self._send, mails, refused)

    def _send(
        self,
        mails: Mapping[int, Mail],
        refused: Mapping[int, Outcome],
        leaving: Sequence[Letter],
        still_ours: Asked,
    ) -> Answer:
        """Send mails until there is trouble; those that had not been posted by then are unsent."""
        exchange = Exchange(
            self._conversations,
            [mails[letter.delivery_id] for letter in leaving if letter.delivery_id in mails],
            share=self.window,
            judge=self._judge,
            still_ours=still_ours,
        )
        exchange.run()
        outcomes = {**refused, **exchange.outcomes}
        left = [letter for letter in leaving if letter.delivery_id not in outcomes]
        trouble = _weightiest(exchange.troubles)
        if left and not trouble:
            trouble = self._trouble("no connection is open that may carry more mails")
        if trouble:
            self._keep(lambda _: False)  # without a farewell, for which the answers would have to wait
            outcomes |= {outcome.delivery_id: outcome for outcome in unsent(left, trouble.why)}
        return Answer(tuple(outcomes[letter.delivery_id] for letter in leaving), trouble)

    def _judge(self, letter: Letter, error: Exception) -> tuple[Outcome, Trouble | None]:
        """Say what became of a letter at which the conversation did not go on as it should."""
        match error:
            case Broken():
                verdict = Verdict.UNCONFIRMED if error.stage is Stage.DOT else _without_answer(error.stage)
                trouble = Trouble(f"{self.name}: {error}", hung_up=True)
                return Outcome(letter.delivery_id, verdict, reason=str(error)), trouble
            case Refused():
                return self._judge_reply(letter, error)
        # a defect of ours: nobody knows how far it came
        logger.error("%s: delivery %s", self.name, letter.delivery_id, exc_info=error)
        outcome = Outcome(letter.delivery_id, Verdict.UNCONFIRMED, reason=repr(error))
        return outcome, self._trouble(repr(error), fault=False)

    def _judge_reply(self, letter: Letter, refused: Refused) -> tuple[Outcome, Trouble | None]:
        def outcome(verdict: Verdict) -> Outcome:
            return Outcome(letter.delivery_id, verdict, reason=refused.reason)

        match refused.consequence:
            case Consequence.UNKNOWN:
                return outcome(Verdict.UNCONFIRMED), self._trouble(refused.reason)
            case Consequence.PROVIDER_UNAVAILABLE if letter.needs_smtputf8 and refused.is_of_parameters:
                return outcome(Verdict.REFUSED if refused.code >= 500 else Verdict.DEFERRED), None
            case Consequence.PROVIDER_UNAVAILABLE:
                trouble = Trouble(
                    f"{self.name}: {refused.reason}", fault=not refused.sender, hung_up=not refused.sender
                )
                return outcome(_without_answer(refused.stage)), trouble
            case Consequence.SLOW_DOWN:
                return outcome(Verdict.UNSENT), self._trouble(refused.reason, SENDER_LIMIT_PAUSE)
            case Consequence.TRY_LATER:
                return outcome(Verdict.DEFERRED), None
        return outcome(Verdict.REFUSED), None

    def _trouble(self, why: str, retry_after: float | None = None, *, fault: bool = True) -> Trouble:
        return Trouble(f"{self.name}: {why}", retry_after, fault=fault)


def _content(message: Message, letter: Letter) -> tuple[bytes, ...]:
    """Write a mail in pieces; attached files are the same piece in every mail, and so in memory once."""
    if isinstance(message, SingleMail):
        return (message.content_for(letter),)
    return mime_pieces(message, letter, now=datetime.now(UTC))


def _weightiest(troubles: Sequence[Trouble]) -> Trouble | None:
    """Return the trouble that asks for the longest pause, of several connections', and else the first."""
    return max(troubles, key=lambda trouble: trouble.retry_after or 0.0, default=None)


def _envelope(message: Message, letter: Letter, content: Sequence[bytes]) -> Envelope:
    if not letter.needs_smtputf8:
        return Envelope(message.sender.email, letter.email)
    _, _, body = b"".join(content).partition(b"\r\n\r\n")
    return Envelope(message.sender.email, letter.email, smtputf8=True, eight_bit=not body.isascii())


def _is_sender_limit(error: Exception) -> bool:
    """Say whether a greeting or a login was refused because the account is over a limit of its own."""
    if not isinstance(error, smtplib.SMTPResponseException):
        return False
    return smtp_reply(Stage.CONNECT, error.smtp_code, words(error)) is Consequence.SLOW_DOWN


def _without_answer(stage: Stage) -> Verdict:
    """Judge a mail at which the connection ended before it was out.

    Once its recipient was named, it may be the cause: it counts as an attempt, so that a mail that ends
    every connection does not do so for ever.
    """
    return Verdict.UNSENT if stage in (Stage.CONNECT, Stage.MAIL) else Verdict.DEFERRED
