"""SMTP: one connection, kept from batch to batch, a few messages declared at a time."""

import logging
import smtplib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import zip_longest

from campaigns.composing import Letter, Message, SingleMail, mime_pieces
from campaigns.providers.base import (
    Answer,
    Asked,
    Departure,
    Outcome,
    Provider,
    Trouble,
    Verdict,
    lease_over,
    unsent,
)
from campaigns.providers.conversation import Broken, Conversation, Envelope, Refused, SmtpAccount, words
from campaigns.retries import Consequence, Stage, smtp_reply
from campaigns.throttle import Limit

logger = logging.getLogger(__name__)

SENDER_LIMIT_PAUSE = 3600.0  # seconds; an account that is over its daily limit stays so for up to a day

Mail = tuple[Letter, Envelope, tuple[bytes, ...]]


class Smtp(Provider):
    """A relay such as Gmail's, or any SMTP server."""

    def __init__(self, account: SmtpAccount, limit: Limit, *, window: int) -> None:
        """`window` is how many messages may be declared, and so be in doubt after a crash, at a time."""
        self.account = account
        self.limit = limit
        self.window = window
        self.patience = 3 * account.timeout + account.dot_timeout
        self._conversation: Conversation | None = None

    def is_ready(self) -> bool:
        return self._conversation is not None and self._conversation.answers()

    def open(self) -> None:
        if self.is_ready():
            return
        self.close()
        account = self.account
        try:
            self._conversation = Conversation(account)
        except (smtplib.SMTPException, OSError, UnicodeError) as error:
            why = f"{self.name} at {account.host}:{account.port}: {words(error)}"
            raise Trouble(why, SENDER_LIMIT_PAUSE if _is_sender_limit(error) else None) from error

    def rest(self) -> None:
        if self._conversation is not None and not self._conversation.stands:
            self._hang_up()

    def close(self) -> None:
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            conversation.quit()

    def _hang_up(self) -> None:
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            conversation.hang_up()

    def groups(self, message: Message, letters: Sequence[Letter]) -> Iterator[Sequence[Letter]]:
        start = 0
        while start < len(letters):
            end = start + min(self.window, self._left_on_connection())
            yield letters[start:end]
            start = end

    def _left_on_connection(self) -> int:
        """How many mails this connection may still carry, or the next one where it carries no more."""
        limit = self.account.mails_per_connection
        return (self._conversation is not None and limit - self._conversation.mails) or limit

    def compose(self, message: Message, group: Sequence[Letter]) -> Departure:
        mails: dict[int, Mail] = {}
        refused: dict[int, Outcome] = {}
        for letter in group:
            try:
                content = _content(message, letter)
            except ValueError as error:
                refused[letter.delivery_id] = Outcome(letter.delivery_id, Verdict.REFUSED, reason=str(error))
            else:
                mails[letter.delivery_id] = letter, Envelope(message.sender.email, letter.email), content
        return partial(self._send, mails, refused)

    def _send(
        self,
        mails: Mapping[int, Mail],
        refused: Mapping[int, Outcome],
        leaving: Sequence[Letter],
        still_ours: Asked,
    ) -> Answer:
        """Send one mail after the other; what is left when that ends before the last is unsent."""
        outcomes = dict(refused)
        trouble = self._send_each(
            [mails[letter.delivery_id] for letter in leaving if letter.delivery_id in mails],
            outcomes,
            still_ours,
        )
        if trouble:
            self._hang_up()  # without a farewell, for which the answers would have to wait
            left = [letter for letter in leaving if letter.delivery_id not in outcomes]
            outcomes |= {outcome.delivery_id: outcome for outcome in unsent(left, trouble.why)}
        return Answer(tuple(outcomes[letter.delivery_id] for letter in leaving), trouble)

    def _send_each(
        self, mails: Sequence[Mail], outcomes: dict[int, Outcome], still_ours: Asked
    ) -> Trouble | None:
        """Send mails, noting each one's outcome; return what ended it before the last."""
        for mail, upcoming in zip_longest(mails, mails[1:]):
            if not still_ours():
                return lease_over([]).trouble
            outcome, trouble = self._send_one(mail, upcoming)
            outcomes[outcome.delivery_id] = outcome
            if trouble:
                return trouble
        return None

    def _send_one(self, mail: Mail, upcoming: Mail | None) -> tuple[Outcome, Trouble | None]:
        letter, envelope, content = mail
        try:
            if self._conversation is None:
                raise Broken(Stage.MAIL, ConnectionError("the connection is closed"))
            answer = self._conversation.deliver(
                envelope, b"".join(content), following=upcoming[1] if upcoming else None
            )
        except Broken as broken:
            verdict = Verdict.UNCONFIRMED if broken.stage is Stage.DOT else _without_answer(broken.stage)
            trouble = Trouble(f"{self.name}: {broken}", hung_up=True)
            return Outcome(letter.delivery_id, verdict, reason=str(broken)), trouble
        except Refused as refused:
            return self._judge(letter, refused)
        except Exception as error:  # a defect of ours: nobody knows how far it came
            logger.exception("%s: delivery %s", self.name, letter.delivery_id)
            why = repr(error)
            return Outcome(letter.delivery_id, Verdict.UNCONFIRMED, reason=why), self._trouble(
                why, fault=False
            )
        return Outcome(letter.delivery_id, Verdict.ACCEPTED, provider_message_id=answer), None

    def _judge(self, letter: Letter, refused: Refused) -> tuple[Outcome, Trouble | None]:
        def outcome(verdict: Verdict) -> Outcome:
            return Outcome(letter.delivery_id, verdict, reason=refused.reason)

        match refused.consequence:
            case Consequence.UNKNOWN:
                return outcome(Verdict.UNCONFIRMED), self._trouble(refused.reason)
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
        return (message.content,)
    return mime_pieces(message, letter, now=datetime.now(UTC))


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
