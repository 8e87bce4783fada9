"""Commands written before the ones before them are answered (RFC 2920), and connections used again."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from campaigns.providers import Verdict
from tests.letters import letters, message
from tests.mail_servers import smtp_server
from tests.scripted_smtp import Script, scripted, send, smtp
from tests.workers import wait_until

ACCEPTED, DEFERRED, REFUSED = Verdict.ACCEPTED, Verdict.DEFERRED, Verdict.REFUSED
UNCONFIRMED, UNSENT = Verdict.UNCONFIRMED, Verdict.UNSENT
PIPELINING = {"EHLO": "250-at your service\r\n250 PIPELINING"}


def verdicts(server: Script, count: int = 3) -> list[Verdict]:
    return [outcome.verdict for outcome in send(smtp(server.port), *letters(count)).outcomes]


class TestPipelining:
    def test_sends_each_mail_once_and_in_order(self) -> None:
        with scripted(**PIPELINING) as server:
            assert verdicts(server) == [ACCEPTED] * 3
        assert server.commands == ["EHLO", *["MAIL", "RCPT", "DATA"] * 3, "QUIT"]
        assert [f"<reader{n}@example.com>".encode() in server.contents[n - 1] for n in (1, 2, 3)] == [
            True
        ] * 3

    def test_writes_the_next_envelope_before_this_mail_is_answered(self) -> None:
        with _late_answers() as (port, heard):
            assert verdicts(Script(port=port), 2) == [ACCEPTED] * 2
        assert heard == [b"MAIL", b"RCPT", b"DATA", b".", b"MAIL", b"RCPT", b"DATA", b".", b"QUIT"]

    def test_ends_a_mail_without_a_recipient_by_a_lone_dot(self) -> None:
        with scripted(**PIPELINING, RCPT="550 5.1.1 no such user") as server:
            assert verdicts(server, 2) == [REFUSED] * 2
        assert server.contents == [b"", b""]
        assert server.commands == ["EHLO", *["MAIL", "RCPT", "DATA"] * 2, "QUIT"]

    def test_resets_where_the_content_was_not_asked_for(self) -> None:
        with scripted(**PIPELINING, RCPT="450 4.2.1 later", DATA="503 5.5.1 no recipient") as server:
            assert verdicts(server, 2) == [DEFERRED] * 2
        assert server.contents == []
        assert server.commands == ["EHLO", "MAIL", "RCPT", "DATA", "RSET", "MAIL", "RCPT", "DATA", "QUIT"]

    def test_sends_no_empty_mail_where_nobody_knows_what_an_answer_means(self) -> None:
        with scripted(**PIPELINING, RCPT="199 maybe") as server:
            assert verdicts(server, 2) == [DEFERRED, UNSENT]
        assert server.contents == []

    def test_a_refused_sender_ends_it(self) -> None:
        with scripted(**PIPELINING, MAIL="550 5.7.1 not you", RCPT="503 no", DATA="503 no") as server:
            assert verdicts(server) == [UNSENT] * 3
        assert server.contents == []

    def test_the_mail_whose_recipient_ends_the_connection_has_had_an_attempt(self) -> None:
        with smtp_server() as server:
            server.rcpt["reader2@example.com"] = "421 4.7.0 closing"
            assert verdicts(Script(port=server.port)) == [ACCEPTED, DEFERRED, UNSENT]

    def test_only_the_mail_that_was_out_is_in_doubt(self) -> None:
        with scripted(**PIPELINING, DOT="drop") as server:
            assert verdicts(server) == [UNCONFIRMED, UNSENT, UNSENT]
        assert len(server.contents) == 1

    def test_what_was_announced_and_may_not_leave_does_not(self) -> None:
        answers = iter([True, False])
        with scripted(**PIPELINING) as server, smtp(server.port) as provider:
            sending = provider.send(message(), letters(3), still_ours=lambda: next(answers))
        assert [outcome.verdict for outcome in sending.outcomes] == [ACCEPTED, UNSENT, UNSENT]
        assert len(server.contents) == 1


class TestConnection:
    def test_is_used_again_for_the_next_batch(self) -> None:
        with smtp_server() as server, smtp(server.port) as provider:
            for _ in range(3):
                provider.open()
                provider.send(message(), letters(2), still_ours=lambda: True)
                provider.rest()
            assert (len(server.recipients), server.connections) == (6, 1)

    def test_is_made_anew_after_so_many_mails(self) -> None:
        with smtp_server() as server, smtp(server.port, mails_per_connection=4) as provider:
            for _ in range(5):
                provider.open()
                provider.send(message(), letters(2), still_ours=lambda: True)
            assert (len(server.recipients), server.connections) == (10, 3)

    def test_carries_no_mail_more_than_it_may_whatever_the_window(self) -> None:
        with smtp_server() as server, smtp(server.port, mails_per_connection=3) as provider:
            sizes = []
            for group in provider.groups(message(), letters(7)):
                provider.open()
                provider.send(message(), group, still_ours=lambda: True)
                sizes.append(len(group))
            assert (sizes, server.connections) == ([3, 3, 1], 3)

    def test_is_made_anew_where_the_server_has_ended_it(self) -> None:
        with scripted(QUIT="drop") as server, smtp(server.port) as provider:
            provider.send(message(), letters(1), still_ours=lambda: True)
            (conversation,) = provider._conversations
            conversation._wire._socket.shutdown(socket.SHUT_WR)  # and the server closes its side
            wait_until(lambda: not conversation.answers(), what="closed")
            provider.open()
            sending = provider.send(message(), letters(1), still_ours=lambda: True)
        assert [outcome.verdict for outcome in sending.outcomes] == [ACCEPTED]
        assert server.commands.count("EHLO") == 2

    def test_is_asked_whether_it_stands_after_some_idle_seconds(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("campaigns.providers.conversation.IDLE_SECONDS", 0.0)
        with scripted() as server, smtp(server.port) as provider:
            time.sleep(0.01)  # it is idle
            provider.open()
        assert server.commands == ["EHLO", "NOOP", "QUIT"]

    def test_is_not_used_after_trouble(self) -> None:
        with smtp_server() as server, smtp(server.port) as provider:
            server.rcpt["reader1@example.com"] = "550 5.4.5 Daily user sending limit exceeded"
            provider.send(message(), letters(1), still_ours=lambda: True)
            assert provider._conversations == []


@contextmanager
def _late_answers() -> Iterator[tuple[int, list[bytes]]]:
    """A server that answers the dot only when the next mail's commands are there, or none come."""
    heard: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as reader:
            connection.sendall(b"220 ready\r\n")
            reader.readline()
            connection.sendall(b"250-hi\r\n250 PIPELINING\r\n")
            owed = b""
            for line in reader:
                verb = line.strip()[:4].upper()
                heard.append(verb)
                if verb == b"QUIT":
                    connection.sendall(b"221 bye\r\n")
                    return
                owed += b"354 go on\r\n" if verb == b"DATA" else b"250 ok\r\n"
                if verb != b"DATA":
                    continue
                connection.sendall(owed)
                for content in reader:
                    if content == b".\r\n":
                        break
                heard.append(b".")
                owed = b"250 2.0.0 taken\r\n"
                if heard.count(b".") == 2:  # nothing follows
                    connection.sendall(owed)
                    owed = b""

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], heard
        thread.join(10)
