"""A connected socket, plain or encrypted, and the replies of RFC 5321 that come in on it.

Nothing here waits, but for `able`: what can be done at once is done, and costs no look beforehand. Only the
answer to what was sent just now is never there yet, and is waited for before it is looked for.
"""

import re
import select
import socket
import ssl
import time
from collections.abc import Collection

RECORD = 16_384  # octets of a TLS record (RFC 8446 §5.1); of one that is not whole, nothing can be read
CHUNK = 65_536  # more than a record: nothing stays behind decrypted, where no poll would see it
LONGEST_REPLY = 65_536  # octets; RFC 5321 §4.5.3.1.5 has 512 for a line

Reply = tuple[int, bytes]

_REPLY = re.compile(rb"(?:\d{3}-[^\n]*\n)*+[^\n]*\n")  # up to the first line that says of no further one


class Wire:
    """One connection; the moments until which something may take are on the monotonic clock."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._socket = connected
        self._received = b""
        self._awaited = select.POLLIN  # what the last step that could not be done waits for
        self._asked = False  # something was sent, and its answer was not waited for yet

    @property
    def is_open(self) -> bool:
        """Whether this side has not closed it."""
        return self._socket.fileno() >= 0

    def close(self) -> None:
        """Close without a word."""
        self._socket.close()

    def send(self, octets: bytes, *, until: float) -> int:
        """Send some of a record, and return how many octets are on their way; nothing is waited for.

        Raises OSError when the connection has ended, and when it is later than `until`.
        """
        try:
            sent = self._socket.send(octets)
            self._asked = True
            return sent
        except ssl.SSLWantReadError:  # TLS may have to read before it can write
            self._awaited = select.POLLIN
        except (BlockingIOError, ssl.SSLWantWriteError):
            self._awaited = select.POLLOUT
        if time.monotonic() >= until:
            raise TimeoutError("timed out")
        return 0

    def reply(self, *, until: float) -> Reply | None:
        """Return the next reply, or None where it is not there yet; nothing is waited for.

        It has the code, or -1 where the line has none, and the text, of several lines parted by LF. Raises
        OSError when the connection ended before it, and when it is later than `until`.
        """
        reply = self._parsed() if self._received else None
        if reply is None and self._asked:
            self._asked, self._awaited = False, select.POLLIN
            return None
        while reply is None and self._receive():
            reply = self._parsed()
        if reply is None and time.monotonic() >= until:
            raise TimeoutError("timed out")
        return reply

    def takes(self, usual: re.Pattern[bytes]) -> bool:
        """Say whether what was received begins with this, and take it: the quick way for what is usual."""
        found = usual.match(self._received)
        if found:
            self._received = self._received[found.end() :]
        return found is not None

    def is_silent(self) -> bool:
        """Say whether nothing came that was not asked for: neither words nor the end."""
        try:
            return not self._received and not self._receive()
        except OSError:
            return False

    def _parsed(self) -> Reply | None:
        """Take a reply from what was received, once its last line is there (RFC 5321 §4.2.1)."""
        if found := _REPLY.match(self._received):
            self._received = self._received[found.end() :]
            lines = found[0].split(b"\n")[:-1]
            code = lines[-1][:3]
            text = b"\n".join([line[4:].strip(b" \t\r") for line in lines])
            return int(code) if code.isdigit() else -1, text
        if len(self._received) > LONGEST_REPLY:
            raise ConnectionError("the reply has no end")
        return None

    def _receive(self) -> bool:
        """Take in what has come; False where nothing has. Raises OSError at the end of the connection."""
        self._awaited = select.POLLIN
        try:
            more = self._socket.recv(CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except ConnectionError as error:
            raise ConnectionError(f"Connection unexpectedly closed: {error}") from error
        if not more:
            raise ConnectionError("Connection unexpectedly closed")
        self._received += more
        return True


class Wires:
    """Several wires that one thread waits for."""

    def __init__(self) -> None:
        self._poll = select.poll()  # unlike select(), for any number of open files
        self._polled: dict[int, int] = {}  # what `_poll` waits for, by descriptor

    def able(self, waiting: Collection[Wire], *, until: float) -> list[Wire]:
        """Wait until some that could not go on can, and return them; none when that took too long."""
        awaited = {each._socket.fileno(): each._awaited for each in waiting}
        if awaited != self._polled:
            self._poll, self._polled = select.poll(), awaited
            for descriptor, event in awaited.items():
                self._poll.register(descriptor, event)
        ready = dict(self._poll.poll(max(until - time.monotonic(), 0.0) * 1000))
        return [each for each in waiting if each._socket.fileno() in ready]
