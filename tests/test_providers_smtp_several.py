"""Several SMTP connections of one sender: when they are opened, and what goes over which."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings
from redis import Redis

from campaigns import delivery, ledger
from campaigns.composing import Letter
from campaigns.models import Campaign
from campaigns.providers import Answer, Line, Smtp, Verdict
from campaigns.providers.conversation import Conversation, SmtpAccount, Waiting
from campaigns.providers.exchange import Exchange
from campaigns.providers.wire import Wire, Wires
from campaigns.throttle import Limit
from tests.campaign_helpers import counts, send, started
from tests.certificates import self_signed
from tests.letters import letters, message
from tests.mail_servers import smtp_server

pytestmark = pytest.mark.django_db(transaction=True)

ACCEPTED, DEFERRED, REFUSED = Verdict.ACCEPTED, Verdict.DEFERRED, Verdict.REFUSED
UNCONFIRMED, UNSENT = Verdict.UNCONFIRMED, Verdict.UNSENT


def wide(
    port: int,
    *,
    connections: int = 4,
    window: int = 10,
    rate: int = 0,
    mails_per_connection: int = 100,
    timeout: float = 30,
) -> Smtp:
    account = SmtpAccount(
        "127.0.0.1", port, use_tls=False, timeout=timeout, mails_per_connection=mails_per_connection
    )
    return Smtp(account, Limit("smtp", rate), window=window, connections=connections)


def send_all(
    provider: Smtp, readers: Sequence[Letter], still_ours: Callable[[], bool] = lambda: True
) -> list[Answer]:
    """Send as `sending` does, to the first trouble."""
    answers = []
    for group in provider.groups(message(), readers):
        remaining = group
        while remaining:
            if not provider.is_ready():
                provider.open()
            together, remaining = remaining[: provider.room], remaining[provider.room :]
            answers.append(provider.send(message(), together, still_ours=still_ours))
            if answers[-1].trouble:
                return answers
    return answers


def sizes(answers: Sequence[Answer]) -> list[int]:
    return [len(answer.outcomes) for answer in answers]


def verdicts(answers: Sequence[Answer]) -> dict[int, Verdict]:
    return {outcome.delivery_id: outcome.verdict for answer in answers for outcome in answer.outcomes}


class TestOpening:
    def test_the_first_one_has_to_prove_the_server(self) -> None:
        with smtp_server() as server, closing(wide(server.port)) as provider:
            assert sizes(send_all(provider, letters(100))) == [10, 40, 40, 10]
            assert (len(set(server.recipients)), len(server.recipients)) == (100, 100)
            assert server.connections == 4

    def test_opens_no_more_than_there_is_to_send(self) -> None:
        with smtp_server() as server, closing(wide(server.port)) as provider:
            assert sizes(send_all(provider, letters(10))) == [10]
            assert server.connections == 1
            assert sizes(send_all(provider, letters(15))) == [15]
            assert server.connections == 2

    @pytest.mark.parametrize(("rate", "expected"), [(20, [10, 10, 10, 10, 10]), (200, [10, 20, 20])])
    def test_declares_no_more_together_than_the_rate_lets_go_at_once(
        self, rate: int, expected: list[int]
    ) -> None:
        with smtp_server() as server, closing(wide(server.port, rate=rate)) as provider:
            assert sizes(send_all(provider, letters(50))) == expected
            assert server.connections == max(expected) // 10

    def test_makes_do_with_those_that_the_server_takes(self) -> None:
        with smtp_server() as server, closing(wide(server.port)) as provider:
            server.most_connections = 2
            assert sizes(send_all(provider, letters(50))) == [10, 20, 20]
            assert sizes(send_all(provider, letters(40))) == [20, 20]
            assert (server.connections, server.turned_away) == (2, 1), "it was asked again within a minute"
            assert (len(set(server.recipients)), len(server.recipients)) == (50, 90)

    def test_makes_all_of_them_anew_after_so_many_mails(self) -> None:
        with (
            smtp_server() as server,
            closing(wide(server.port, window=5, mails_per_connection=20)) as provider,
        ):
            send_all(provider, letters(5))
            for _ in range(4):
                assert sizes(send_all(provider, letters(80))) == [20, 20, 20, 20]
            assert len(server.recipients) == 325
            assert server.connections == 4 + 4 * 4
            assert server.farewells == 4 * 4

    def test_begins_a_batch_with_those_that_still_stand(self) -> None:
        with smtp_server() as server, closing(wide(server.port)) as provider:
            send_all(provider, letters(50))
            for conversation in provider._conversations[1:]:
                conversation._wire._socket.shutdown(socket.SHUT_WR)
            while any(conversation.answers() for conversation in provider._conversations[1:]):
                threading.Event().wait(0.01)
            assert sizes(send_all(provider, letters(8))) == [8]
            assert (len(server.recipients), server.connections) == (58, 4)

    def test_goes_on_with_those_that_stand_where_one_cannot_be_made_anew(self) -> None:
        with smtp_server() as server, closing(wide(server.port)) as provider:
            send_all(provider, letters(50))
            server.most_connections = server.connections
            provider._conversations[0].hang_up()
            answers = send_all(provider, letters(60))
            assert sizes(answers) == [30, 10, 20]
            assert set(verdicts(answers).values()) == {ACCEPTED}
            assert server.turned_away == 1

    def test_opens_them_encrypted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        context = self_signed(tmp_path / "certificate.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        with smtp_server(tls_context=context) as server:
            account = SmtpAccount("127.0.0.1", server.port, mails_per_connection=20)
            with closing(Smtp(account, Limit("smtp", 0), window=5, connections=4)) as provider:
                answers = send_all(provider, letters(200))
        assert set(verdicts(answers).values()) == {ACCEPTED}
        assert len(set(server.recipients)) == len(server.recipients) == 200

    def test_has_all_answers_written_before(
        self, campaign: Campaign, many: list[str], redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        written = []

        def connect(account: SmtpAccount) -> Conversation:
            written.append(counts(campaign))
            return Conversation(account)

        monkeypatch.setattr("campaigns.providers.smtp.Conversation", Connecting(connect))
        with smtp_server() as server, closing(wide(server.port, connections=2)) as provider:
            first, *_ = started(campaign)
            send(first, Line((provider,), redis))
        assert written[:2] == [{"pending": 600}, {"pending": 590, "sent": 10}]


class TestSending:
    def test_outlives_no_lease_however_slow_the_server_is(
        self,
        campaign: Campaign,
        many: list[str],
        redis: Redis,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        settings.LEASE_SECONDS = 3
        monkeypatch.setattr("campaigns.ledger.leases.LEASE_MARGIN", 1.0)
        run = Exchange.run

        def run_and_tick(exchange: Exchange) -> None:
            run(exchange)
            ledger.take_back_expired()

        monkeypatch.setattr(Exchange, "run", run_and_tick)
        with smtp_server() as server:
            account = SmtpAccount("127.0.0.1", server.port, use_tls=False, timeout=0.5, dot_timeout=30)
            with closing(Smtp(account, Limit("smtp", 0), window=1, connections=4)) as provider:
                provider.patience = 1.0  # so that the lease need not be longer than the test
                server.delay = 4.0
                first, *_ = started(campaign)
                stopped = stop_after(monkeypatch, mails=5)
                delivery.send_batch(first, owner="a test", line=Line((provider,), redis), stopping=stopped)
        assert counts(campaign) == {"sent": 5, "pending": 595}
        assert len(server.recipients) == 5

    def test_waits_for_the_answers_of_all_of_them_together(self) -> None:
        with smtp_server() as server, closing(wide(server.port, window=1)) as provider:
            send_all(provider, letters(5))
            server.crowd = asyncio.Barrier(4)
            answers = send_all(provider, letters(12))
            assert sizes(answers) == [4, 4, 4]
            assert set(verdicts(answers).values()) == {ACCEPTED}

    def test_goes_on_where_one_mail_is_refused(self) -> None:
        with smtp_server() as server, closing(wide(server.port)) as provider:
            server.rcpt["reader22@example.com"] = "550 5.1.1 no such user"
            server.data["reader33@example.com"] = "452 4.2.2 full"
            answers = send_all(provider, letters(60))
            assert len(server.recipients) == 58
        found = verdicts(answers)
        assert (found.pop(22), found.pop(33)) == (REFUSED, DEFERRED)
        assert set(found.values()) == {ACCEPTED}

    def test_trouble_on_one_ends_it_and_what_was_begun_has_its_answer(self) -> None:
        with smtp_server() as server, closing(wide(server.port, window=3)) as provider:
            send_all(provider, letters(4))
            server.accepted.clear()
            server.drop["reader5@example.com"] = "after"
            (answer,) = send_all(provider, letters(12))
        assert answer.trouble is not None
        found = verdicts([answer])
        assert [number for number, verdict in found.items() if verdict is UNCONFIRMED] == [5]
        taken = {f"reader{number}@example.com" for number, verdict in found.items() if verdict is ACCEPTED}
        assert set(server.recipients) == {*taken, "reader5@example.com"}
        assert UNSENT in found.values()
        assert len(server.recipients) == len(set(server.recipients))
        assert provider._conversations == []

    def test_lets_nothing_more_leave_once_it_may_not(self) -> None:
        answers = iter([True] * 6 + [False])
        with smtp_server() as server, closing(wide(server.port)) as provider:
            send_all(provider, letters(11))
            server.accepted.clear()
            (answer,) = send_all(provider, letters(40), lambda: next(answers))
            assert len(server.recipients) == 6
        assert sorted(verdicts([answer]).values(), key=str) == [ACCEPTED] * 6 + [UNSENT] * 34
        assert answer.trouble is not None
        assert not answer.trouble.fault

    def test_a_server_without_pipelining_is_asked_step_by_step_on_each(self) -> None:
        with _asking_each_in_turn(4) as (port, heard), closing(wide(port, window=1)) as provider:
            send_all(provider, letters(1))
            assert set(verdicts(send_all(provider, letters(4))).values()) == {ACCEPTED}
        # no connection may send its content before all four have named their recipients
        rounds = heard[heard.index("all are here") :]
        assert rounds.count("RCPT") == 4
        assert "RCPT" not in rounds[rounds.index(".") :]

    def test_a_connection_that_has_done_its_part_and_ends_wakes_nobody(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        able, waits = Wires.able, []

        def noted(wires: Wires, *args: Any, **kwargs: Any) -> list[Wire]:
            waits.append(wires)
            return able(wires, *args, **kwargs)

        with (
            _ending_one_before_it_answers_another() as port,
            closing(wide(port, connections=2, window=1)) as provider,
        ):
            provider._wanted = 2
            provider.open()
            monkeypatch.setattr(Wires, "able", noted)
            answer = provider.send(message(), letters(2), still_ours=lambda: True)
        assert [outcome.verdict for outcome in answer.outcomes] == [ACCEPTED] * 2
        assert len(waits) < 100  # one for each of eight answers, and for each second

    def test_a_mail_that_needs_smtputf8_goes_where_that_is_offered(self) -> None:
        with smtp_server(enable_SMTPUTF8=True) as server, closing(wide(server.port, window=2)) as provider:
            send_all(provider, letters(8))
            for conversation in provider._conversations[1:]:
                conversation.offers_smtputf8 = False
            special = letters(1)[0]._replace(delivery_id=99, email="jörg@example.com")
            answers = send_all(provider, [*letters(3), special, *letters(7)[3:]])
        assert set(verdicts(answers).values()) == {ACCEPTED}
        assert len(verdicts(answers)) == 8
        assert server.utf8 == ["jörg@example.com"]


class Connecting:
    """Stands in for the class Conversation, and does something before each connection."""

    answers = staticmethod(Conversation.answers)

    def __init__(self, connect: Callable[[SmtpAccount], Conversation]) -> None:
        self._connect = connect

    def __call__(self, account: SmtpAccount) -> Conversation:
        return self._connect(account)


def stop_after(monkeypatch: pytest.MonkeyPatch, *, mails: int) -> Callable[[], bool]:
    """Return what says that the worker is to end once so many mails were begun."""
    begun: list[Conversation] = []
    deliver = Conversation.deliver

    def noted(conversation: Conversation, *args: Any, **kwargs: Any) -> Waiting[str]:
        begun.append(conversation)
        return deliver(conversation, *args, **kwargs)

    monkeypatch.setattr(Conversation, "deliver", noted)
    return lambda: len(begun) >= mails


@contextmanager
def _asking_each_in_turn(count: int) -> Iterator[tuple[int, list[str]]]:
    """A server without pipelining that answers DATA only when `count` connections have come to it."""
    heard: list[str] = []
    gate = threading.Barrier(count)

    def hold(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader:
            connection.sendall(b"220 ready\r\n")
            mails = 0
            for line in reader:
                verb = line.strip()[:4].decode().upper()
                heard.append(verb)
                if verb == "DATA":
                    mails += 1
                    if "all are here" in heard:
                        gate.wait(30)
                    connection.sendall(b"354 go on\r\n")
                    while reader.readline() != b".\r\n":
                        pass
                    heard.append(".")
                connection.sendall(b"221 bye\r\n" if verb == "QUIT" else b"250 ok\r\n")
                if verb == "EHLO" and heard.count("EHLO") == count:
                    heard.append("all are here")

    def serve() -> None:
        for _ in range(count):
            connection, _ = listener.accept()
            thread = threading.Thread(target=hold, args=(connection,), daemon=True)
            thread.start()
            threads.append(thread)

    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=serve, daemon=True)
        accepting.start()
        yield listener.getsockname()[1], heard
        for thread in [accepting, *threads]:
            thread.join(30)


@contextmanager
def _ending_one_before_it_answers_another() -> Iterator[int]:
    """A server that takes a mail, ends that connection, and answers for one on another a while later."""
    ended = threading.Event()

    def hold(connection: socket.socket, *, first: bool) -> None:
        with connection, connection.makefile("rb") as reader:
            connection.sendall(b"220 ready\r\n")
            for line in reader:
                if not line.startswith(b"DATA"):
                    connection.sendall(b"250 ok\r\n")
                    continue
                connection.sendall(b"354 go on\r\n")
                while reader.readline() != b".\r\n":
                    pass
                if not first:
                    ended.wait(30)
                    time.sleep(0.3)  # the other's end could be noticed again and again
                connection.sendall(b"250 ok\r\n")
                if first:
                    connection.shutdown(socket.SHUT_RDWR)
                    ended.set()
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for first in (True, False):
                connection, _ = listener.accept()
                thread = threading.Thread(
                    target=hold, args=(connection,), kwargs={"first": first}, daemon=True
                )
                thread.start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(30)
