"""A connected socket, plain or encrypted, and the replies of RFC 5321 that come in on it.

It asks the kernel first and waits only where that has nothing: what is there already costs no further look.
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


class CutShort(Exception):
    """The connection ended, or the time ran out, when only the first `written` octets were on their way."""

    def __init__(self, written: int, error: OSError) -> None:
        super().__init__(str(error))
        self.written = written
        self.error = error


class Wire:
    """One connection; the moments until which something may take are on the monotonic clock."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._socket = connected
        self._received = b""

    @property
    def is_open(self) -> bool:
        """Whether this side has not closed it."""
        return self._socket.fileno() >= 0

    def close(self) -> None:
        """Close without a word."""
        self._socket.close()

    def write(self, octets: bytes, *, seconds: float) -> None:
        """Write all of it, each record within so many seconds. Raises CutShort."""
        written = 0
        try:
            while written < len(octets):
                until = time.monotonic() + seconds
                written += self._send(octets[written : written + RECORD], until)
        except OSError as error:
            raise CutShort(written, error) from error

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

    def _send(self, octets: bytes, until: float) -> int:
        """Send some of it, once there is room; TLS may have to read before it can write."""
        while True:
            event = select.POLLOUT
            try:
                return self._socket.send(octets)
            except ssl.SSLWantReadError:
                event = select.POLLIN
            except (BlockingIOError, ssl.SSLWantWriteError):
                pass
            if not _ready([self._socket], event, until):
                raise TimeoutError("timed out")

    @staticmethod
    def speaking(wires: Collection["Wire"], *, until: float) -> list["Wire"]:
        """Wait until something comes in on some of those that had no reply, and return them, or none."""
        ready = _ready([wire._socket for wire in wires], select.POLLIN, until)
        return [wire for wire in wires if wire._socket.fileno() in ready]


def _ready(sockets: Collection[socket.socket], event: int, until: float) -> set[int]:
    """Wait for an event and return where it came about; unlike select(), for any number of open files."""
    poll = select.poll()
    for each in sockets:
        poll.register(each, event)
    left = max(until - time.monotonic(), 0.0)
    return {descriptor for descriptor, _ in poll.poll(left * 1000)}
