"""One SMTP connection (RFC 5321), with the commands of a mail in one write where that is offered (RFC 2920).

smtplib's sendmail() hides whether the final dot had been written when a connection broke, which is the
difference between "send it again" and "it may have arrived". So smtplib only connects, encrypts and logs
in; the mails are sent here.
"""

import select
import smtplib
import socket
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass

from campaigns.retries import Stage, smtp_reply

# Seconds to wait for the answer to the final dot. RFC 5321 §4.5.3.2.6 advises ten minutes, because an
# impatient client sends again; this one calls the mail unconfirmed instead, and its lease is shorter.
DOT_TIMEOUT = 60.0
IMPLICIT_TLS_PORT = 465
FAREWELL_SECONDS = 2.0  # for an answer that nobody needs
TLS_RECORD = 16_384  # octets (RFC 8446 §5.1)
IDLE_SECONDS = 5.0  # unused for longer, a connection is asked whether it still stands
_EXPECTED = {Stage.MAIL: (250,), Stage.RCPT: (250, 251), Stage.DATA: (354,)}


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


@dataclass(frozen=True, slots=True)
class Envelope:
    """From whom and to whom, as ASCII addresses."""

    sender: str
    recipient: str


class Refused(Exception):
    """An answer other than the one that lets the conversation go on."""

    def __init__(self, stage: Stage, code: int, text: bytes) -> None:
        self.stage = stage
        self.sender = stage is Stage.MAIL and 500 <= code < 600  # this campaign's, not everybody's
        self.reason = f"{stage.value}: {code} {text.decode('utf-8', 'replace')}"
        self.consequence = smtp_reply(stage, code, self.reason)
        super().__init__(self.reason)


class Broken(Exception):
    """The connection ended before an answer came."""

    def __init__(self, stage: Stage, error: Exception) -> None:
        self.stage = stage
        super().__init__(f"{stage.value}: {words(error)}")


class Conversation:
    """A connection that is ready for mails; `mails` counts those that it carried."""

    def __init__(self, account: SmtpAccount) -> None:
        """Connect, encrypt and log in. Raises smtplib.SMTPException, OSError, UnicodeError."""
        self.account = account
        self.mails = 0
        self._client = _greeted(account)
        try:
            self._socket = _made_ready(self._client, account)
        except BaseException:
            self._client.close()
            raise
        self._pipelining = self._client.has_extn("pipelining")
        self._begun: Envelope | None = None  # announced with the mail before, and not answered yet
        self._unfinished = False  # a transaction was refused half-way and has to be reset
        self._used_at = time.monotonic()

    def __del__(self) -> None:
        """Let no connection outlast who used it, such as the provider of a thread that has ended."""
        if hasattr(self, "_client"):
            self.hang_up()

    @property
    def stands(self) -> bool:
        """Whether the connection was left in order; a server may have ended it since, see `answers`."""
        return self._client.sock is not None and self._begun is None

    def answers(self) -> bool:
        """Say whether the server still holds the connection, and has more mails to come on it."""
        if not self.stands or self.mails >= self.account.mails_per_connection:
            return False
        readable = select.poll()  # unlike select(), for any number of open files
        readable.register(self._socket, select.POLLIN)
        if readable.poll(0):
            return False  # it closed, or says 421 without having been asked
        if time.monotonic() - self._used_at < IDLE_SECONDS:
            return True
        try:
            return self._client.noop()[0] == 250
        except (smtplib.SMTPException, OSError):
            return False

    def deliver(self, envelope: Envelope, content: bytes, *, following: Envelope | None = None) -> str:
        """Send one mail and return the text of the 250 that accepts it.

        `content` has CRLF line ends, the last one included, and no line that begins with a dot.
        `following` is the next mail's envelope, if it is known: where the server offers pipelining, it
        travels with this one's end (RFC 2920 §3.1), and must be the next to be delivered. Raises Refused,
        Broken.
        """
        if self._begun not in (None, envelope):
            raise ValueError(f"{self._begun} was announced, not {envelope}")
        self._open(envelope)
        self._write_mail(content, b".\r\n" + self._announcement(following))
        self.mails += 1
        code, text = self._answer_to_the_dot()
        if not 200 <= code < 300:
            raise Refused(Stage.DOT, code, text)
        return text.decode("utf-8", "replace")

    def quit(self) -> None:
        """Say goodbye, if it can be heard, and close."""
        with suppress(smtplib.SMTPException, OSError):
            if self.stands:
                self._socket.settimeout(FAREWELL_SECONDS)
                self._client.quit()
        self.hang_up()

    def hang_up(self) -> None:
        """Close without a word."""
        self._client.close()

    def _open(self, envelope: Envelope) -> None:
        """Bring the mail to where its content is asked for (354)."""
        if self._begun is None:
            if self._unfinished:
                self._reset()
            self._write(Stage.MAIL, self._announcement(envelope))
        self._begun = None
        refused: Refused | None = None
        for stage, expected in _EXPECTED.items():
            if not self._pipelining:
                self._write(stage, _command(stage, envelope))
            try:
                code, text = self._reply(stage)
            except Broken:
                if refused:
                    raise refused from None
                raise
            if code not in expected and refused is None:
                refused = Refused(stage, code, text)
            if code == 421:
                self.hang_up()
            if refused and (code == 421 or not self._pipelining):
                break
        if refused:
            self._leave(asked_for_content=code == 354)
            raise refused

    def _leave(self, *, asked_for_content: bool) -> None:
        """End a transaction that was refused, so that the next one can begin."""
        self._unfinished = not asked_for_content
        if asked_for_content:  # without a recipient: RFC 2920 §3.1 has it ended by a lone dot
            with suppress(Broken):
                self._write(Stage.DATA, b".\r\n")
                self._reply(Stage.DATA)

    def _reset(self) -> None:
        self._write(Stage.MAIL, b"RSET\r\n")
        code, text = self._reply(Stage.MAIL)
        if code != 250:
            self.hang_up()
            raise Broken(Stage.MAIL, ConnectionError(f"RSET was answered by {code} {text!r}"))
        self._unfinished = False

    def _announcement(self, envelope: Envelope | None) -> bytes:
        """Return the commands that can be written before any of them is answered."""
        if envelope is None or not self._pipelining:
            return b""
        self._begun = envelope
        return b"".join(_command(stage, envelope) for stage in _EXPECTED)

    def _answer_to_the_dot(self) -> tuple[int, bytes]:
        """Read the answer for which the server may take its time."""
        self._socket.settimeout(self.account.dot_timeout)
        code, text = self._reply(Stage.DOT)
        self._socket.settimeout(self.account.timeout)
        if code == 421:
            self.hang_up()
        return code, text

    def _write_mail(self, content: bytes, dot: bytes) -> None:
        """Write the content and the dot that ends it; only once the dot is being written is it in doubt.

        Written in pieces of a TLS record: of one that was not written whole, nothing can be read.
        """
        octets, written = content + dot, 0
        try:
            while written < len(octets):
                written += self._socket.send(octets[written : written + TLS_RECORD])
        except OSError as error:
            self.hang_up()
            raise Broken(Stage.DOT if written > len(content) else Stage.DATA, error) from error

    def _write(self, stage: Stage, octets: bytes) -> None:
        if self._client.sock is None:
            raise Broken(stage, ConnectionError("the connection is closed"))
        try:
            self._socket.sendall(octets)
        except OSError as error:
            self.hang_up()
            raise Broken(stage, error) from error

    def _reply(self, stage: Stage) -> tuple[int, bytes]:
        try:
            code, text = self._client.getreply()
        except (smtplib.SMTPException, OSError) as error:
            self.hang_up()
            raise Broken(stage, error) from error
        self._used_at = time.monotonic()
        return code, text


def _command(stage: Stage, envelope: Envelope) -> bytes:
    if stage is Stage.MAIL:
        return f"MAIL FROM:<{envelope.sender}>\r\n".encode("ascii")
    if stage is Stage.RCPT:
        return f"RCPT TO:<{envelope.recipient}>\r\n".encode("ascii")
    return b"DATA\r\n"


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
