"""A connected socket, plain or encrypted, and the replies of RFC 5321 that come in on it.

Nothing here waits, but for `able`: what can be done at once is done, and costs no look beforehand.
"""

import re
import select
import socket
import ssl
import time
from collections.abc import Collection

RECORD = 16_384  # octets of a TLS record (RFC 8446 §5.1); of one that is not whole, nothing can be read
CHUNK = 65_536
LONGEST_REPLY = 65_536  # octets; RFC 5321 §4.5.3.1.5 has 512 for a line

Reply = tuple[int, bytes]


class Wire:
    """One connection; the moments until which something may take are on the monotonic clock."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._socket = connected
        self._received = b""
        self._awaited = select.POLLIN  # what the last step that could not be done waits for

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
            return self._socket.send(octets)
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
        while True:
            reply = self._parsed()
            if reply or not self._receive():
                break
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
        texts, start = [], 0
        while (end := self._received.find(b"\n", start)) >= 0:
            line, start = self._received[start:end], end + 1
            texts.append(line[4:].strip(b" \t\r"))
            code = int(line[:3]) if line[:3].isdigit() else -1
            if code < 0 or line[3:4] != b"-":
                self._received = self._received[start:]
                return code, b"\n".join(texts)
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

    @staticmethod
    def able(waiting: Collection["Wire"], *, until: float) -> list["Wire"]:
        """Wait until some that could not go on can, and return them; none when that took too long."""
        poll = select.poll()  # unlike select(), for any number of open files
        for each in waiting:
            poll.register(each._socket, each._awaited)
        ready = {descriptor for descriptor, _ in poll.poll(max(until - time.monotonic(), 0.0) * 1000)}
        return [each for each in waiting if each._socket.fileno() in ready]
