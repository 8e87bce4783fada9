"""One SMTP connection (RFC 5321), with the commands of a mail in one write where that is offered (RFC 2920).

smtplib's sendmail() hides whether the final dot had been written when a connection broke, which is the
difference between "send it again" and "it may have arrived". So smtplib only connects, encrypts and logs
in; the mails are sent here.
"""

import re
import smtplib
import socket
import ssl
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from campaigns.providers.wire import RECORD, Reply, Wire, Wires
from campaigns.retries import Stage, smtp_reply

# Seconds to wait for the answer to the final dot. RFC 5321 §4.5.3.2.6 advises ten minutes, because an
# impatient client sends again; this one calls the mail unconfirmed instead, and its lease is shorter.
DOT_TIMEOUT = 60.0
IMPLICIT_TLS_PORT = 465
FAREWELL_SECONDS = 2.0  # for an answer that nobody needs
IDLE_SECONDS = 5.0  # unused for longer, a connection is asked whether it still stands

T = TypeVar("T")
Waiting = Generator[float, None, T]

# The answers to all commands of an announcement, as they nearly always are.
_GO_AHEAD = re.compile(rb"250 [^\n]*\n25[01] [^\n]*\n354 [^\n]*\n")
_EXPECTED = {Stage.MAIL: 2, Stage.RCPT: 2, Stage.DATA: 3}  # first digits (RFC 5321 §4.2.1)


@dataclass(frozen=True, slots=True)
class SmtpAccount:
    """Where and as whom to log in; an empty `user` sends without a login.

    `timeout` is the seconds to wait for an answer, `dot_timeout` those for the one to the final dot.
    After `mails_per_connection` a new connection is made, as some servers insist.
    """

    host: str
    port: int
    user: str = ""
    password: str = ""
    use_tls: bool = True
    timeout: float = 30.0
    dot_timeout: float = DOT_TIMEOUT
    mails_per_connection: int = 100


class Envelope(NamedTuple):
    """From whom and to whom.

    With `smtputf8` the recipient may have letters outside ASCII, and so may the mail's headers: only for a
    server that offers it. `eight_bit` says that such a mail's body has them, too (RFC 6531 §3.6).
    """

    sender: str
    recipient: str
    smtputf8: bool = False
    eight_bit: bool = False


class Refused(Exception):
    """An answer other than the one that lets the conversation go on."""

    def __init__(self, stage: Stage, code: int, text: bytes) -> None:
        self.stage = stage
        self.sender = stage is Stage.MAIL and 500 <= code < 600  # this campaign's, not everybody's
        self.code = code
        self.reason = f"{stage.value}: {code} {text.decode('utf-8', 'replace')}"
        self.consequence = smtp_reply(stage, code, self.reason)
        super().__init__(self.reason)

    @property
    def is_of_parameters(self) -> bool:
        """Whether it may concern how the mail was announced, such as SMTPUTF8 (RFC 6531 §3.6.3)."""
        return self.stage is Stage.MAIL and self.code >= 400 and self.code != 421


class Broken(Exception):
    """The connection ended before an answer came."""

    def __init__(self, stage: Stage, error: Exception) -> None:
        self.stage = stage
        super().__init__(f"{stage.value}: {words(error)}")


class Conversation:
    """A connection that is ready for mails; `mails` counts those that it carried.

    A mail that needs SMTPUTF8 is only for one that `offers_smtputf8`.

    What needs an answer is written as a generator that yields until when it waits for the server, so that
    one thread can hold several conversations at once.
    """

    def __init__(self, account: SmtpAccount) -> None:
        """Connect, encrypt and log in. Raises smtplib.SMTPException, OSError, UnicodeError."""
        self.account = account
        self.mails = 0
        client = _greeted(account)
        try:
            self._wire = Wire(_made_ready(client, account))
        except BaseException:
            client.close()
            raise
        self._pipelining = client.has_extn("pipelining")
        self.offers_smtputf8 = client.has_extn("smtputf8")  # addresses and headers outside ASCII (RFC 6531)
        self._begun: Envelope | None = None  # announced with the mail before, and not answered yet
        self._unfinished = False  # a transaction was refused half-way and has to be reset
        self._underway = False  # a mail was begun, and its fate is not known
        self._used_at = time.monotonic()

    def __del__(self) -> None:
        """Let no connection outlast who used it, such as the provider of a thread that has ended."""
        if hasattr(self, "_wire"):
            self.hang_up()

    def carries(self, envelope: Envelope) -> bool:
        """Whether the server can take such a mail."""
        return self.offers_smtputf8 or not envelope.smtputf8

    @property
    def left(self) -> int:
        """How many mails it may still carry."""
        return max(self.account.mails_per_connection - self.mails, 0)

    @property
    def is_spent(self) -> bool:
        """Whether it is to be made anew: fewer than a tenth of its mails are left."""
        return self.left * 10 < self.account.mails_per_connection

    @property
    def stands(self) -> bool:
        """Whether the connection was left in order; a server may have ended it since, see `answers`."""
        return self._wire.is_open and self._begun is None and not self._underway

    def answers(self) -> bool:
        """Say whether the server still holds the connection."""
        if not self.stands or not self._wire.is_silent():
            return False  # it has ended it, or says 421 without having been asked
        if time.monotonic() - self._used_at < IDLE_SECONDS:
            return True
        try:
            code, _ = self._through(self._ask(b"NOOP\r\n", self.account.timeout))
        except Broken:
            return False
        return code == 250

    def deliver(
        self, envelope: Envelope, content: Sequence[bytes], *, following: Envelope | None = None
    ) -> Waiting[str]:
        """Send one mail and return the text of the 250 that accepts it.

        `content`, in pieces, has CRLF line ends, the last one included, and no line that begins with a dot.
        `following` is the next mail's envelope, if it is known: where the server offers pipelining, it
        travels with this one's end (RFC 2920 §3.1), and must be the next to be delivered. Raises Refused,
        Broken.
        """
        if self._begun not in (None, envelope):
            raise ValueError(f"{self._begun} was announced, not {envelope}")
        self._underway = True
        yield from self._open(envelope)
        yield from self._write_mail(content, b".\r\n" + self._announcement(following))
        self.mails += 1
        code, text = yield from self._reply(Stage.DOT, self.account.dot_timeout)
        self._underway = False
        if code == 421:
            self.hang_up()
        if not 200 <= code < 300:
            raise Refused(Stage.DOT, code, text)
        return text.decode("utf-8", "replace")

    def quit(self) -> None:
        """Say goodbye, if it can be heard, and close."""
        if self.stands:
            with suppress(Broken):
                self._through(self._ask(b"QUIT\r\n", FAREWELL_SECONDS))
        self.hang_up()

    def hang_up(self) -> None:
        """Close without a word."""
        self._wire.close()

    @staticmethod
    def awaited(
        waiting: Mapping["Conversation", float], wires: Wires, *, until: float
    ) -> list["Conversation"]:
        """Wait until some of them can go on, or have waited as long as is said, and return those."""
        able = wires.able([each._wire for each in waiting], until=min(until, *waiting.values()))
        now = time.monotonic()
        return [each for each, until in waiting.items() if each._wire in able or until <= now]

    def _through(self, steps: Waiting[T]) -> T:
        """Go through with it, and wait for the server."""
        while True:
            try:
                until = next(steps)
            except StopIteration as done:
                result: T = done.value
                return result
            Wires().able([self._wire], until=until)

    def _open(self, envelope: Envelope) -> Waiting[None]:
        """Bring the mail to where its content is asked for (354)."""
        if self._begun is None:
            if self._unfinished:
                yield from self._reset()
            yield from self._write(Stage.MAIL, self._announcement(envelope))
        announced, self._begun = self._begun, None
        if announced and self._wire.takes(_GO_AHEAD):
            return
        refused: Refused | None = None
        for (stage, expected), command in zip(_EXPECTED.items(), _commands(envelope), strict=True):
            if not self._pipelining:
                yield from self._write(stage, command)
            try:
                code, text = yield from self._reply(stage, self.account.timeout)
            except Broken:
                if refused:
                    raise refused from None
                raise
            if code // 100 != expected and refused is None:
                refused = Refused(stage, code, text)
            if code == 421:
                self.hang_up()
            if refused and (code == 421 or not self._pipelining):
                break
        if refused and refused.code < 400:  # it is no refusal: nobody knows what the server makes of it
            self.hang_up()
        if refused:
            yield from self._leave(asked_for_content=code // 100 == 3)
            raise refused

    def _leave(self, *, asked_for_content: bool) -> Waiting[None]:
        """End a transaction that was refused, so that the next one can begin."""
        self._unfinished = not asked_for_content
        if asked_for_content:  # without a recipient: RFC 2920 §3.1 has it ended by a lone dot
            with suppress(Broken):
                yield from self._ask(b".\r\n", self.account.timeout)
        self._underway = False

    def _reset(self) -> Waiting[None]:
        code, text = yield from self._ask(b"RSET\r\n", self.account.timeout)
        if code != 250:
            self.hang_up()
            raise Broken(Stage.MAIL, ConnectionError(f"RSET was answered by {code} {text!r}"))
        self._unfinished = False

    def _announcement(self, envelope: Envelope | None) -> bytes:
        """Return the commands that can be written before any of them is answered."""
        if envelope is None or not self._pipelining:
            return b""
        self._begun = envelope
        return b"".join(_commands(envelope))

    def _write_mail(self, content: Sequence[bytes], dot: bytes) -> Waiting[None]:
        """Write the content and the dot that ends it; only once the dot is being written is it in doubt.

        Of a record that was not written whole, nothing can be read where the connection is encrypted.
        """
        octets, written = b"".join([*content, dot]), 0
        try:
            while written < len(octets):
                until = time.monotonic() + self.account.timeout
                while not (sent := self._wire.send(octets[written : written + RECORD], until=until)):
                    yield until
                written += sent
        except OSError as error:
            self.hang_up()
            raise Broken(Stage.DOT if written > len(octets) - len(dot) else Stage.DATA, error) from error

    def _write(self, stage: Stage, octets: bytes) -> Waiting[None]:
        if not self._wire.is_open:
            raise Broken(stage, ConnectionError("the connection is closed"))
        until = time.monotonic() + self.account.timeout
        try:
            while octets:
                sent = self._wire.send(octets, until=until)
                octets = octets[sent:]
                if not sent:
                    yield until
        except OSError as error:
            self.hang_up()
            raise Broken(stage, error) from error

    def _ask(self, command: bytes, seconds: float) -> Waiting[Reply]:
        yield from self._write(Stage.MAIL, command)
        return (yield from self._reply(Stage.MAIL, seconds))

    def _reply(self, stage: Stage, seconds: float) -> Waiting[Reply]:
        until = time.monotonic() + seconds
        try:
            while (reply := self._wire.reply(until=until)) is None:
                yield until
        except OSError as error:
            self.hang_up()
            raise Broken(stage, error) from error
        self._used_at = time.monotonic()
        return reply


def _commands(envelope: Envelope) -> tuple[bytes, bytes, bytes]:
    """Return what announces a mail: MAIL, RCPT and DATA."""
    parameters = " SMTPUTF8" if envelope.smtputf8 else ""
    parameters += " BODY=8BITMIME" if envelope.eight_bit else ""
    return (
        f"MAIL FROM:<{envelope.sender}>{parameters}\r\n".encode("ascii"),
        f"RCPT TO:<{envelope.recipient}>\r\n".encode("utf-8" if envelope.smtputf8 else "ascii"),
        b"DATA\r\n",
    )


def _greeted(account: SmtpAccount) -> smtplib.SMTP:
    if account.use_tls and account.port == IMPLICIT_TLS_PORT:
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(account.host, account.port, timeout=account.timeout, context=context)
    return smtplib.SMTP(account.host, account.port, timeout=account.timeout)


def _made_ready(client: smtplib.SMTP, account: SmtpAccount) -> socket.socket:
    if account.use_tls and account.port != IMPLICIT_TLS_PORT:
        client.starttls(context=ssl.create_default_context())
    client.ehlo_or_helo_if_needed()
    if account.user:
        client.login(account.user, account.password)
    if client.sock is None:
        raise smtplib.SMTPServerDisconnected("the connection was closed after the greeting")
    # the final dot is a small write after a large one; it must not wait for the other side's ACK
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client.sock


def words(error: Exception) -> str:
    """Say an error of the SMTP client in words, the server's own where there are any."""
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error
        return f"{error.smtp_code} {text.decode('utf-8', 'replace') if isinstance(text, bytes) else text}"
    return str(error) or type(error).__name__
