"""What is known of octets whose way was cut short, plain or encrypted; and replies, however they come in."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from campaigns.providers.wire import RECORD, Reply, Wire, Wires
from tests.certificates import self_signed

FAR = time.monotonic() + 3600


@pytest.fixture(params=["plain", "encrypted"])
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection with little room on its way: our end and the server's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    if request.param == "encrypted":
        ours, theirs = encrypted(ours, theirs, tmp_path / "certificate.pem")
    with ours, theirs:
        yield ours, theirs


def encrypted(ours: socket.socket, theirs: socket.socket, pem: Path) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    context = self_signed(pem)
    trusting = ssl.create_default_context(cafile=str(pem))
    accepted: list[ssl.SSLSocket] = []
    thread = threading.Thread(target=lambda: accepted.append(context.wrap_socket(theirs, server_side=True)))
    thread.start()
    client = trusting.wrap_socket(ours, server_hostname="127.0.0.1")
    thread.join()
    return client, accepted[0]


def read_to_the_end(end: socket.socket) -> bytes:
    received = b""
    try:
        while more := end.recv(65_536):
            received += more
    except OSError:
        pass
    return received


def push(wire: Wire, octets: bytes, *, seconds: float) -> tuple[int, OSError | None]:
    """Send as a conversation does; return how many octets count as sent, and what ended it too early."""
    written = 0
    try:
        while written < len(octets):
            until = time.monotonic() + seconds
            while not (sent := wire.send(octets[written : written + RECORD], until=until)):
                Wires().able([wire], until=until)
            written += sent
    except OSError as error:
        return written, error
    return written, None


class TestSend:
    def test_counts_all_that_the_other_side_can_read(self, ends: tuple[socket.socket, socket.socket]) -> None:
        ours, theirs = ends
        octets = bytes(range(256)) * 64_000
        wire = Wire(ours)
        written, error = push(wire, octets, seconds=0.3)
        wire.close()
        received = read_to_the_end(theirs)
        assert isinstance(error, TimeoutError)
        assert 0 < len(received) <= written < len(octets)
        assert octets.startswith(received)

    def test_goes_on_when_there_is_room_again(self, ends: tuple[socket.socket, socket.socket]) -> None:
        ours, theirs = ends
        octets = bytes(range(256)) * 64_000
        received: list[bytes] = []

        def read_late() -> None:
            time.sleep(0.1)  # until nothing more has room on the way
            received.append(read_to_the_end(theirs))

        thread = threading.Thread(target=read_late)
        thread.start()
        wire = Wire(ours)
        assert push(wire, octets, seconds=30) == (len(octets), None)
        ours.shutdown(socket.SHUT_WR)
        thread.join()
        assert received == [octets]

    def test_raises_at_the_end_of_the_connection(self, ends: tuple[socket.socket, socket.socket]) -> None:
        ours, theirs = ends
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.close()
        wire = Wire(ours)
        _, error = push(wire, b"x" * RECORD * 100, seconds=5)  # the first records may go before it is known
        assert error is not None
        assert wire.is_open
        wire.close()


class TestReply:
    def test_is_taken_apart_wherever_it_was_cut(self) -> None:
        ours, theirs = socket.socketpair()
        wire, replies = Wire(ours), []
        for octet in b"250-first\r\n250 second\r\n354 go on\n55\r\n\r\n220 x\r\n":
            theirs.send(bytes([octet]))
            if reply := wire.reply(until=FAR):
                replies.append(reply)
        assert replies == [(250, b"first\nsecond"), (354, b"go on"), (-1, b""), (-1, b""), (220, b"x")]
        theirs.close()
        wire.close()

    def test_several_that_came_together_are_given_one_by_one(self) -> None:
        ours, theirs = socket.socketpair()
        wire = Wire(ours)
        theirs.send(b"250 a\r\n250 b\r\n354 c\r\n")
        found = [wire.reply(until=FAR) for _ in range(4)]
        assert found == [(250, b"a"), (250, b"b"), (354, b"c"), None]
        theirs.send(b"421 bye\r\n")
        theirs.close()
        assert wire.reply(until=0.0) == (421, b"bye")
        with pytest.raises(ConnectionError, match="Connection unexpectedly closed"):
            wire.reply(until=FAR)
        wire.close()

    def test_is_waited_for_once_something_was_sent(self, ends: tuple[socket.socket, socket.socket]) -> None:
        ours, theirs = ends
        wire = Wire(ours)
        for first, second, expected in (
            (b"250 at ", b"once\r\n", (250, b"at once")),
            (b"250-at\r", b"\n250 last\r\n", (250, b"at\nlast")),
        ):
            assert wire.send(b"x", until=FAR) == 1
            assert theirs.recv(1) == b"x"
            theirs.send(first)
            assert wire.reply(until=FAR) is None, "it was looked for too early"
            with later(theirs.send, second):
                assert waited_for(wire) == expected
        wire.close()

    def test_behind_another_needs_no_waiting(self, ends: tuple[socket.socket, socket.socket]) -> None:
        ours, theirs = ends
        wire, wires = Wire(ours), Wires()
        wire.send(b"x", until=FAR)
        theirs.send(b"250 a\r\n")
        theirs.send(b"250 b\r\n354 c\r\n")  # of TLS, a record of its own
        found: list[Reply] = []
        while len(found) < 3:
            if reply := wire.reply(until=FAR):
                found.append(reply)
            else:
                assert wires.able([wire], until=time.monotonic() + 30) == [wire]
        assert found == [(250, b"a"), (250, b"b"), (354, b"c")]
        wire.close()

    @pytest.mark.parametrize("endless", [b"250-more\r\n", b"x"])
    def test_is_not_taken_in_without_end(self, endless: bytes) -> None:
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=lambda: theirs.sendall(endless * (80_000 // len(endless))))
        thread.start()
        wire = Wire(ours)
        with pytest.raises(ConnectionError, match="the reply has no end"):
            waited_for(wire)
        theirs.close()
        wire.close()
        thread.join()


class TestWires:
    def test_one_that_is_waited_for_no_longer_ends_no_wait(self) -> None:
        (left, over), (heard, theirs) = socket.socketpair(), socket.socketpair()
        gone, held, wires = Wire(left), Wire(heard), Wires()
        over.close()
        assert wires.able([gone, held], until=FAR) == [gone]
        with later(theirs.send, b"250 ok\r\n"):
            assert wires.able([held], until=FAR) == [held]
        gone.close()
        with later(theirs.send, b"250 ok\r\n"):
            assert wires.able([held], until=FAR) == [held]
        for end in (held, theirs):
            end.close()

    def test_one_that_could_be_written_to_is_waited_for_until_it_answers(self) -> None:
        ours, theirs = socket.socketpair()
        wire, wires = Wire(ours), Wires()
        while wire.send(b"x" * RECORD, until=FAR):
            pass
        with later(theirs.recv, 10**7):
            assert wires.able([wire], until=FAR) == [wire]
        assert wire.send(b"x", until=FAR) == 1
        assert wire.reply(until=FAR) is None
        with later(theirs.send, b"250 ok\r\n"):
            assert wires.able([wire], until=FAR) == [wire]
        assert wire.reply(until=FAR) == (250, b"ok")
        for end in (wire, theirs):
            end.close()


@contextmanager
def later(do: Callable[..., object], *given: object) -> Iterator[None]:
    """Do something while what is inside waits for it."""
    thread = threading.Timer(0.1, do, given)
    thread.start()
    yield
    thread.join()


def waited_for(wire: Wire) -> Reply:
    while not (reply := wire.reply(until=FAR)):
        Wires().able([wire], until=FAR)
    return reply
