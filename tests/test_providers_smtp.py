"""What is particular to SMTP: at which command an answer comes, and how the connection is used."""

from datetime import UTC, datetime, timedelta

import pytest

from campaigns.composing import Letter, build_mime
from campaigns.providers import Answer, Outcome, Trouble, Verdict
from tests.letters import letter, letters, message
from tests.mail_servers import smtp_server
from tests.scripted_smtp import scripted, seen, send, smtp


class TestAccepted:
    def test_keeps_the_servers_words(self) -> None:
        with smtp_server() as server:
            sending = send(smtp(server.port), letter(7))
        assert sending == Answer((Outcome(7, Verdict.ACCEPTED, "2.0.0 queued as Q1"),))

    def test_keeps_all_lines_of_an_answer(self) -> None:
        with scripted(DOT="250-first\r\n250 second") as server:
            assert seen(send(smtp(server.port), letter())) == [(Verdict.ACCEPTED, "first\nsecond")]

    def test_uses_one_connection_for_all(self) -> None:
        with smtp_server() as server:
            send(smtp(server.port), *letters(10))
            assert (len(server.recipients), server.connections) == (10, 1)

    def test_writes_the_bytes_of_the_mail_with_no_dot_first_on_a_line(self) -> None:
        compiled, to = message(text="{{ x }}"), letter(x=".\n..\r\n.\r.a\r\n.\r\nQUIT\r\n")
        with scripted() as server, smtp(server.port) as provider:
            earliest = datetime.now(UTC)
            provider.send(compiled, [to], still_ours=lambda: True)
            times = [earliest + timedelta(seconds=second) for second in range(30)]
        (content,) = server.contents
        lines = content.split(b"\r\n")
        assert lines[-8:] == [b"", b"=2E", b"=2E.", b"=2E", b"=2Ea", b"=2E", b"QUIT", b""]
        assert content in [build_mime(compiled, to, now=time) for time in times]
        assert server.commands == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]


class TestRefused:
    @pytest.mark.parametrize(
        ("answer", "verdict"),
        [
            ("550 5.1.1 no such user", Verdict.REFUSED),
            ("550-5.1.1 no such user\r\n550 5.1.1 see https://example.com", Verdict.REFUSED),
            ("450 4.2.1 too fast", Verdict.DEFERRED),
            ("452 4.2.2 full", Verdict.DEFERRED),
        ],
    )
    @pytest.mark.parametrize("stage", ["RCPT TO", "end of data"])
    def test_concerns_one_mail_and_the_next_goes_through(
        self, stage: str, answer: str, verdict: Verdict
    ) -> None:
        with smtp_server() as server:
            (server.rcpt if stage == "RCPT TO" else server.data)["reader2@example.com"] = answer
            sending = send(smtp(server.port), *letters(3))
            assert server.connections == 1
        words = answer[:3] + " " + answer[4:].replace("\r\n550 ", "\n")
        assert sending.trouble is None
        assert seen(sending) == [
            (Verdict.ACCEPTED, "2.0.0 queued as Q1"),
            (verdict, f"{stage}: {words}"),
            (Verdict.ACCEPTED, "2.0.0 queued as Q2"),
        ]

    @pytest.mark.parametrize(("command", "resets"), [("RCPT", 1), ("DATA", 1), ("DOT", 0)])
    def test_starts_the_next_mail_afresh(self, command: str, resets: int) -> None:
        with scripted(**{command: "550 no"}) as server:
            send(smtp(server.port), *letters(2))
        assert server.commands.count("RSET") == resets  # after the dot a transaction is over anyway
        assert server.commands.count("MAIL") == 2

    def test_by_no_2xx_at_all(self) -> None:
        with scripted(MAIL="200 fine", RCPT="252 cannot verify, will try") as server:
            sending = send(smtp(server.port), *letters(2))
        assert [o.verdict for o in sending.outcomes] == [Verdict.ACCEPTED] * 2
        assert [b"" in server.contents, len(server.contents)] == [False, 2]

    def test_ends_the_batch_where_the_connection_cannot_be_reset(self) -> None:
        with scripted(RCPT="550 no", RSET="drop") as server:
            sending = send(smtp(server.port), *letters(2))
        assert [o.verdict for o in sending.outcomes] == [Verdict.REFUSED, Verdict.UNSENT]
        assert str(sending.trouble).startswith("smtp: MAIL FROM: Connection unexpectedly closed")

    @pytest.mark.parametrize("address", ["a@bücher.example", "a b@example.com", "no-address"])
    def test_never_asks_for_what_is_no_address(self, address: str) -> None:
        with smtp_server() as server:
            sending = send(smtp(server.port), Letter(1, address, "", "1@x", {}), letter(2))
            assert server.recipients == ["reader2@example.com"]
        assert seen(sending)[0] == (Verdict.REFUSED, f"To: {address!r} is not an address")


class TestNothingMoreCanBeSent:
    @pytest.mark.parametrize(
        ("command", "answer", "why"),
        [
            ("RCPT", "421 4.7.0 closing", "RCPT TO: 421 4.7.0 closing"),
            ("DOT", "421 4.7.0 closing", "end of data: 421 4.7.0 closing"),
            ("RCPT", "drop", "RCPT TO: Connection unexpectedly closed"),
            ("DATA", "drop", "DATA: Connection unexpectedly closed"),
        ],
    )
    def test_the_mail_at_which_the_connection_ended_has_had_an_attempt(
        self, command: str, answer: str, why: str
    ) -> None:
        with scripted(**{command: answer}) as server:
            sending = send(smtp(server.port), *letters(3))
        assert [o.verdict for o in sending.outcomes] == [Verdict.DEFERRED, Verdict.UNSENT, Verdict.UNSENT]
        assert sending.outcomes[0].reason.startswith(why)
        assert str(sending.trouble).startswith(f"smtp: {why}")

    @pytest.mark.parametrize(
        ("command", "answer", "pause", "why"),
        [
            ("MAIL", "550 5.7.1 not you", None, "MAIL FROM: 550 5.7.1 not you"),
            ("MAIL", "451 later", None, "MAIL FROM: 451 later"),
            ("RCPT", "550 5.4.5 Daily limit", 3600, "RCPT TO: 550 5.4.5 Daily limit"),
            ("DOT", "550-5.4.5 Daily\r\n550 5.4.5 limit", 3600, "end of data: 550 5.4.5 Daily\n5.4.5 limit"),
            ("DOT", "421 4.7.28 unusual rate", 3600, "end of data: 421 4.7.28 unusual rate"),
            ("MAIL", "drop", None, "MAIL FROM: Connection unexpectedly closed"),
        ],
    )
    def test_so_the_rest_is_unsent(self, command: str, answer: str, pause: float | None, why: str) -> None:
        with scripted(**{command: answer}) as server:
            sending = send(smtp(server.port), *letters(3))
        assert [o.verdict for o in sending.outcomes] == [Verdict.UNSENT] * 3
        assert sending.outcomes[0].reason.startswith(why)
        assert isinstance(sending.trouble, Trouble)
        assert str(sending.trouble).startswith(f"smtp: {why}")
        assert sending.trouble.retry_after == pause
        assert server.commands.count("MAIL") == 1

    @pytest.mark.parametrize("answer", ["200 taken", "251 forwarded", "299 why not"])
    def test_every_2xx_after_the_dot_is_an_acceptance(self, answer: str) -> None:
        with scripted(DOT=answer) as server:
            sending = send(smtp(server.port), *letters(1))
        assert [o.verdict for o in sending.outcomes] == [Verdict.ACCEPTED]

    @pytest.mark.parametrize("answer", ["nonsense", "354 go on", "99 what"])
    def test_what_is_no_answer_after_the_dot_leaves_it_in_doubt(self, answer: str) -> None:
        with scripted(DOT=answer) as server:
            sending = send(smtp(server.port), *letters(2))
        assert [o.verdict for o in sending.outcomes] == [Verdict.UNCONFIRMED, Verdict.UNSENT]

    def test_before_the_dot_nothing_was_accepted(self) -> None:
        compiled = message(text="{{ x }}")
        with scripted(DATA="354 go on drop") as server, smtp(server.port) as provider:
            sending = provider.send(compiled, [letter(x="x" * 16_000_000)], still_ours=lambda: True)
        ((verdict, reason),) = seen(sending)
        assert verdict is Verdict.DEFERRED
        assert reason.startswith("DATA: ")

    def test_after_the_dot_it_may_have_been_accepted(self) -> None:
        with scripted(DOT="drop") as server:
            sending = send(smtp(server.port), *letters(2))
        assert [o.verdict for o in sending.outcomes] == [Verdict.UNCONFIRMED, Verdict.UNSENT]
        assert len(server.contents) == 1

    def test_waits_no_longer_than_told_for_the_answer_to_the_dot(self) -> None:
        with scripted(DOT="silence") as server:
            sending = send(smtp(server.port, dot_timeout=0.3), *letters(2))
            assert [o.verdict for o in sending.outcomes] == [Verdict.UNCONFIRMED, Verdict.UNSENT]
            assert "timed out" in sending.outcomes[0].reason
            assert len(server.contents) == 1

    def test_waits_no_longer_than_told_for_the_other_answers(self) -> None:
        with scripted(RCPT="silence") as server:
            sending = send(smtp(server.port, timeout=0.3, dot_timeout=30), *letters(2))
        assert seen(sending)[0] == (Verdict.DEFERRED, "RCPT TO: timed out")

    def test_the_lease_is_asked_about_before_each_mail(self) -> None:
        answers = iter([True, True, False])
        with smtp_server() as server, smtp(server.port) as provider:
            sending = provider.send(message(), letters(4), still_ours=lambda: next(answers))
            assert len(server.recipients) == 2
        assert [o.verdict for o in sending.outcomes] == [Verdict.ACCEPTED] * 2 + [Verdict.UNSENT] * 2


def test_the_window_bounds_how_many_are_declared_at_a_time() -> None:
    groups = smtp(1).groups(message(), letters(25))
    assert [len(group) for group in groups] == [10, 10, 5]


def test_without_being_opened_nothing_leaves() -> None:
    with smtp_server() as server:
        sending = smtp(server.port).send(message(), letters(2), still_ours=lambda: True)
        assert [o.verdict for o in sending.outcomes] == [Verdict.UNSENT] * 2
        assert server.recipients == []
