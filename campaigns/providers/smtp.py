"""SMTP (RFC 5321): one connection per batch, driven command by command.

smtplib's sendmail() hides whether the final dot had been written when a connection broke, which is the
difference between "send it again" and "it may have arrived"; so the conversation is held here.
"""

import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from campaigns.composing import CompiledMessage, Letter, build_mime
from campaigns.providers.base import Outcome, Provider, Sending, Trouble, Verdict, lease_over, unsent
from campaigns.retries import Consequence, Stage, smtp_reply
from campaigns.throttle import Limit

SENDER_LIMIT_PAUSE = 3600.0  # seconds; an account that is over its daily limit stays so for up to a day
# Seconds to wait for the answer to the final dot. RFC 5321 §4.5.3.2.6 advises ten minutes, because an
# impatient client sends again; this one calls the mail unconfirmed instead, and its lease is shorter.
DOT_TIMEOUT = 60.0
IMPLICIT_TLS_PORT = 465


@dataclass(frozen=True, slots=True)
class SmtpAccount:
    """Where and as whom to log in; an empty `user` sends without a login.

    `timeout` is the seconds to wait for an answer, `dot_timeout` those for the one to the final dot.
    """

    host: str
    port: int
    user: str = ""
    password: str = ""
    use_tls: bool = True
    timeout: float = 30.0
    dot_timeout: float = DOT_TIMEOUT


class _Refused(Exception):
    """An answer other than the one that lets the conversation go on."""

    def __init__(self, stage: Stage, code: int, text: bytes) -> None:
        self.stage = stage
        self.sender = stage is Stage.MAIL and 500 <= code < 600  # this campaign's, not everybody's
        self.reason = f"{stage.value}: {code} {text.decode('utf-8', 'replace')}"
        self.consequence = smtp_reply(stage, code, self.reason)
        super().__init__(self.reason)


class _Broken(Exception):
    """The connection ended before an answer came."""

    def __init__(self, stage: Stage, error: Exception) -> None:
        self.stage = stage
        super().__init__(f"{stage.value}: {words(error)}")


class Smtp(Provider):
    """A relay such as Gmail's, or any SMTP server."""

    def __init__(self, account: SmtpAccount, limit: Limit, *, window: int) -> None:
        """`window` is how many messages may be declared, and so be in doubt after a crash, at a time."""
        self.account = account
        self.limit = limit
        self.window = window
        self.patience = 3 * account.timeout + account.dot_timeout
        self._client: smtplib.SMTP | None = None

    def open(self) -> None:
        if self._client is not None:
            return
        account = self.account
        try:
            self._client = _greeted(account)
            _make_ready(self._client, account)
        except (smtplib.SMTPException, OSError, UnicodeError) as error:
            self._hang_up()
            why = f"{self.name} at {account.host}:{account.port}: {words(error)}"
            raise Trouble(why, SENDER_LIMIT_PAUSE if _is_sender_limit(error) else None) from error

    def close(self) -> None:
        try:
            if self._client is not None:
                self._client.quit()
        except (smtplib.SMTPException, OSError):
            pass
        finally:
            self._hang_up()

    def _hang_up(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def groups(self, message: CompiledMessage, letters: Sequence[Letter]) -> Iterator[Sequence[Letter]]:
        for start in range(0, len(letters), self.window):
            yield letters[start : start + self.window]

    def send(
        self, message: CompiledMessage, group: Sequence[Letter], *, still_ours: Callable[[], bool]
    ) -> Sending:
        outcomes: list[Outcome] = []
        for position, letter in enumerate(group):
            if not still_ours():
                rest = lease_over(group[position:])
                return Sending((*outcomes, *rest.outcomes), rest.trouble)
            outcome, trouble = self._send_one(message, letter)
            outcomes.append(outcome)
            if trouble:
                return Sending((*outcomes, *unsent(group[position + 1 :], trouble.why)), trouble)
        return Sending(tuple(outcomes))

    def _send_one(self, message: CompiledMessage, letter: Letter) -> tuple[Outcome, Trouble | None]:
        try:
            content = build_mime(message, letter, now=datetime.now(UTC))
        except ValueError as error:
            return Outcome(letter.delivery_id, Verdict.REFUSED, reason=str(error)), None
        try:
            answer = self._converse(message.sender.email, letter.email, content)
        except _Broken as broken:
            verdict = Verdict.UNCONFIRMED if broken.stage is Stage.DOT else _without_answer(broken.stage)
            return Outcome(letter.delivery_id, verdict, reason=str(broken)), self._trouble(str(broken))
        except _Refused as refused:
            return self._judge(letter, refused)
        return Outcome(letter.delivery_id, Verdict.ACCEPTED, provider_message_id=answer), None

    def _converse(self, sender: str, recipient: str, content: bytes) -> str:
        """Hold one conversation and return the text of the 250 that accepts the mail."""
        client, stage = self._client, Stage.MAIL
        if client is None or client.sock is None:
            raise _Broken(stage, ConnectionError("the connection is closed"))
        try:
            _expect(stage, client.mail(sender), 250)
            stage = Stage.RCPT
            _expect(stage, client.rcpt(recipient), 250, 251)
            stage = Stage.DATA
            _expect(stage, client.docmd("DATA"), 354)
            client.send(_dot_stuffed(content))
            stage = Stage.DOT
            return _expect(stage, self._end_data(client), *range(200, 300)).decode("utf-8", "replace")
        except (smtplib.SMTPServerDisconnected, OSError) as error:
            raise _Broken(stage, error) from error

    def _end_data(self, client: smtplib.SMTP) -> tuple[int, bytes]:
        """Write the final dot and return the answer, for which the server may take its time."""
        if client.sock is None:
            raise smtplib.SMTPServerDisconnected("the connection is closed")
        client.sock.settimeout(self.account.dot_timeout)
        client.send(b".\r\n")
        reply = client.getreply()
        client.sock.settimeout(self.account.timeout)
        return reply

    def _judge(self, letter: Letter, refused: _Refused) -> tuple[Outcome, Trouble | None]:
        def outcome(verdict: Verdict) -> Outcome:
            return Outcome(letter.delivery_id, verdict, reason=refused.reason)

        match refused.consequence:
            case Consequence.UNKNOWN:
                return outcome(Verdict.UNCONFIRMED), self._trouble(refused.reason)
            case Consequence.PROVIDER_UNAVAILABLE:
                return (
                    outcome(_without_answer(refused.stage)),
                    self._trouble(refused.reason, fault=not refused.sender),
                )
            case Consequence.SLOW_DOWN:
                return outcome(Verdict.UNSENT), self._trouble(refused.reason, SENDER_LIMIT_PAUSE)
        # the next mail starts afresh; a connection that cannot be reset cannot be used
        trouble = None if self._reset() else self._trouble("the connection was lost after a refusal")
        if refused.consequence is Consequence.TRY_LATER:
            return outcome(Verdict.DEFERRED), trouble
        return outcome(Verdict.REFUSED), trouble

    def _reset(self) -> bool:
        try:
            return self._client is not None and self._client.rset()[0] == 250
        except (smtplib.SMTPException, OSError):
            return False

    def _trouble(self, why: str, retry_after: float | None = None, *, fault: bool = True) -> Trouble:
        return Trouble(f"{self.name}: {why}", retry_after, fault=fault)


def _greeted(account: SmtpAccount) -> smtplib.SMTP:
    if account.use_tls and account.port == IMPLICIT_TLS_PORT:
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(account.host, account.port, timeout=account.timeout, context=context)
    return smtplib.SMTP(account.host, account.port, timeout=account.timeout)


def _make_ready(client: smtplib.SMTP, account: SmtpAccount) -> None:
    if account.use_tls and account.port != IMPLICIT_TLS_PORT:
        client.starttls(context=ssl.create_default_context())
    client.ehlo_or_helo_if_needed()
    if account.user:
        client.login(account.user, account.password)
    if client.sock is not None:
        # the final dot is a small write after a large one; it must not wait for the other side's ACK
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


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


def _expect(stage: Stage, reply: tuple[int, bytes], *codes: int) -> bytes:
    code, text = reply
    if code not in codes:
        raise _Refused(stage, code, text)
    return text


def _dot_stuffed(content: bytes) -> bytes:
    """Double the dots that begin a line (RFC 5321 §4.5.2) and end on a line end."""
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    return stuffed if stuffed.endswith(b"\r\n") else stuffed + b"\r\n"


def words(error: Exception) -> str:
    """Say an error of the SMTP client in words, the server's own where there are any."""
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error
        return f"{error.smtp_code} {text.decode('utf-8', 'replace') if isinstance(text, bytes) else text}"
    return str(error) or type(error).__name__
