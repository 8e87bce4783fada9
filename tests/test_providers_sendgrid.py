"""What is particular to SendGrid: the status of an answer, the splitting of a request, the connection."""

import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from campaigns.providers import Answer, Outcome, SendGrid, Verdict
from campaigns.retries import Consequence, sendgrid_answer
from campaigns.throttle import Limit
from tests.certificates import self_signed
from tests.letters import letter, letters, message
from tests.mail_servers import SendGridServer, sendgrid_server


@pytest.fixture
def server() -> Iterator[SendGridServer]:
    with sendgrid_server() as running:
        yield running
        assert running.faults == []


def sendgrid(url: str, *, read_timeout: float = 30) -> SendGrid:
    return SendGrid("SG.test", Limit("sendgrid", 0), host=url, read_timeout=read_timeout)


def send(server: SendGridServer, count: int = 3, **options: Any) -> Answer:
    with sendgrid(server.url, **options) as provider:
        return provider.send(message(), letters(count), still_ours=lambda: True)


def verdicts(sending: Answer) -> list[Verdict]:
    return [outcome.verdict for outcome in sending.outcomes]


def refusal(*errors: tuple[str, str | None]) -> str:
    return json.dumps({"errors": [{"message": said, "field": field} for said, field in errors]})


class TestAccepted:
    def test_keeps_the_id_of_the_request_for_each_mail(self, server: SendGridServer) -> None:
        assert send(server, 2) == Answer(
            (Outcome(1, Verdict.ACCEPTED, "request-1"), Outcome(2, Verdict.ACCEPTED, "request-1"))
        )

    @pytest.mark.parametrize("status", [200, 202])
    def test_needs_no_id(self, server: SendGridServer, status: int) -> None:
        server.answers = [(status, {}, "")]
        assert send(server, 1) == Answer((Outcome(1, Verdict.ACCEPTED, ""),))

    def test_sends_one_request_for_all(self, server: SendGridServer) -> None:
        send(server, 200)
        assert len(server.requests) == 1

    def test_writes_to_at_most_a_thousand_at_a_time(self) -> None:
        groups = sendgrid("http://127.0.0.1:1").groups(message(), letters(2001))
        assert [len(group) for group in groups] == [1000, 1000, 1]

    def test_sends_alone_what_does_not_fit_together(self, server: SendGridServer) -> None:
        readers = [letter(1), letter(2, name="x" * 9_950), letter(3)]
        with sendgrid(server.url) as provider:
            groups = list(provider.groups(message(), readers))
            assert [[to.delivery_id for to in group] for group in groups] == [[1, 3], [2]]
            for group in groups:
                provider.send(message(), group, still_ours=lambda: True)
        assert server.recipients == ["reader1@example.com", "reader3@example.com", "reader2@example.com"]
        assert "x" * 9_950 in server.requests[1]["content"][0]["value"]

    def test_uses_one_connection_for_many_requests(self, server: SendGridServer) -> None:
        provider = sendgrid(server.url)
        for _ in range(3):
            provider.open()
            provider.send(message(), letters(2), still_ours=lambda: True)
            provider.send(message(), letters(1), still_ours=lambda: True)
            provider.rest()
        assert (len(server.requests), len(server.connections)) == (6, 1)

    def test_does_not_trust_a_connection_that_was_long_idle(
        self, server: SendGridServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("campaigns.providers.sendgrid.IDLE_SECONDS", -1.0)
        provider = sendgrid(server.url)
        for _ in range(2):
            with provider:
                provider.send(message(), letters(1), still_ours=lambda: True)
        assert len(server.connections) == 2


class TestSlowDown:
    @pytest.mark.parametrize(
        ("headers", "pause"),
        [
            ({"Retry-After": "30"}, 30),
            ({"Retry-After": "30", "X-RateLimit-Reset": "99999999999"}, 30),
            ({"Retry-After": "99999"}, 3600),
            ({"Retry-After": "0"}, 1),
            ({"Retry-After": "Thu, 01 Jan 2015 00:00:00 GMT"}, 1),
            ({"Retry-After": "Thu, 01 Jan 2099 00:00:00 GMT"}, 3600),
            ({"X-RateLimit-Reset": "99999999999"}, 3600),
            ({"X-RateLimit-Reset": "1"}, 1),
            ({}, 10),
        ],
    )
    def test_pauses_as_long_as_it_is_told(
        self, server: SendGridServer, headers: dict[str, str], pause: float
    ) -> None:
        server.answers = [(429, headers, refusal(("too many requests", None)))]
        sending = send(server)
        assert verdicts(sending) == [Verdict.UNSENT] * 3
        assert sending.trouble is not None
        assert str(sending.trouble) == "sendgrid: 429 too many requests"
        assert sending.trouble.retry_after == pause
        assert len(server.requests) == 1

    def test_counts_the_reset_from_now(self, server: SendGridServer) -> None:
        reset = int(time.time()) + 1000
        server.answers = [(429, {"X-RateLimit-Reset": str(reset)}, "")]
        trouble = send(server).trouble
        assert trouble is not None
        assert trouble.retry_after is not None
        assert reset - time.time() <= trouble.retry_after <= 1000


class TestTheProviderCannotBeUsed:
    @pytest.mark.parametrize("status", [301, 307, 401, 403, 404, 406, 451, 500, 503])
    def test_so_nothing_was_accepted(self, server: SendGridServer, status: int) -> None:
        server.answers = [(status, {"Location": "/v3/mail/send"}, refusal(("no", "from"), ("never", None)))]
        sending = send(server)
        assert verdicts(sending) == [Verdict.UNSENT] * 3
        assert sending.outcomes[0].reason == f"sendgrid: {status} from: no; never"
        assert sending.trouble is not None
        assert sending.trouble.retry_after is None
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        ("body", "why"),
        [
            ("<html>oh</html>", "503 Service Unavailable"),
            ("", "503 Service Unavailable"),
            ("[]", "503 Service Unavailable"),
            ('{"errors": "many"}', "503 Service Unavailable"),
            ('{"errors": [1, {"message": "m", "field": ""}]}', "503 m"),
        ],
    )
    def test_says_so_whatever_the_body_is(self, server: SendGridServer, body: str, why: str) -> None:
        server.answers = [(503, {}, body)]
        assert str(send(server).trouble) == f"sendgrid: {why}"

    @pytest.mark.parametrize("host", ["ftp://127.0.0.1", "http://127.0.0.1:99999"])
    def test_nothing_leaves_for_a_host_that_is_none(self, host: str) -> None:
        with sendgrid(host) as provider:
            sending = provider.send(message(), letters(2), still_ours=lambda: True)
        assert verdicts(sending) == [Verdict.UNSENT] * 2
        assert sending.trouble is not None

    def test_nothing_leaves_over_a_certificate_that_nobody_vouches_for(self, tmp_path: Path) -> None:
        with sendgrid_server(self_signed(tmp_path / "certificate.pem")) as server:
            sending = send(server)
            assert server.requests == []
        assert verdicts(sending) == [Verdict.UNSENT] * 3
        assert "certificate verify failed" in str(sending.trouble)

    def test_goes_over_a_certificate_that_is_trusted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pem = tmp_path / "certificate.pem"
        context: ssl.SSLContext = self_signed(pem)
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        with sendgrid_server(context) as server:
            assert verdicts(send(server)) == [Verdict.ACCEPTED] * 3


class TestInDoubt:
    @pytest.mark.parametrize("answer", [(502, {}, ""), (504, {}, "<html>"), "drop"])
    def test_is_unconfirmed_and_asked_once(self, server: SendGridServer, answer: Any) -> None:
        server.answers = [answer]
        sending = send(server)
        assert verdicts(sending) == [Verdict.UNCONFIRMED] * 3
        assert sending.trouble is not None
        assert sending.trouble.retry_after is None
        assert len(server.requests) == 1

    def test_after_the_read_timeout(self, server: SendGridServer) -> None:
        server.answers = ["silence"]
        sending = send(server, read_timeout=0.5)
        assert verdicts(sending) == [Verdict.UNCONFIRMED] * 3
        assert "timed out" in str(sending.trouble)
        assert len(server.requests) == 1


class TestARefusedRequest:
    def test_that_concerns_everybody_is_not_split(self, server: SendGridServer) -> None:
        server.answers = [(400, {}, refusal(("must be shorter", "subject"), ("is empty", "content.0.value")))]
        sending = send(server, 8)
        why = "400 subject: must be shorter; content.0.value: is empty"
        assert sending == Answer(tuple(Outcome(n, Verdict.REFUSED, reason=why) for n in range(1, 9)))
        assert len(server.requests) == 1

    def test_is_halved_until_the_culprit_is_alone(self, server: SendGridServer) -> None:
        server.bad_addresses = {"reader3@example.com"}
        sending = send(server, 8)
        assert verdicts(sending) == [Verdict.ACCEPTED] * 2 + [Verdict.REFUSED] + [Verdict.ACCEPTED] * 5
        assert sending.outcomes[2].reason == "400 personalizations.0.to.0.email: bad address"
        # 8, then 4 + 4, then 2 + 2 in the first half, then 1 + 1
        sizes = [len(request["personalizations"]) for request in server.requests]
        assert sizes == [8, 4, 2, 2, 1, 1, 4]

    def test_finds_every_culprit(self, server: SendGridServer) -> None:
        server.bad_addresses = {"reader1@example.com", "reader64@example.com", "reader65@example.com"}
        sending = send(server, 200)
        refused = [o.delivery_id for o in sending.outcomes if o.verdict is Verdict.REFUSED]
        assert refused == [1, 64, 65]
        assert len(server.recipients) == len(set(server.recipients)) == 197
        # each culprit costs at most two requests a halving: 200, 100, 50, 25, 13, 7, 4, 2, 1
        assert len(server.requests) <= 1 + 3 * 2 * 8

    @pytest.mark.parametrize("status", [400, 413])
    def test_is_halved_where_no_field_is_named(self, server: SendGridServer, status: int) -> None:
        server.answers = [(status, {}, "too much")]
        sending = send(server, 4)
        assert verdicts(sending) == [Verdict.ACCEPTED] * 4
        assert [len(request["personalizations"]) for request in server.requests] == [4, 2, 2]

    def test_ends_with_the_mail_that_is_too_large_alone(self, server: SendGridServer) -> None:
        server.answers = [(413, {}, "")]
        assert send(server, 1) == Answer(
            (Outcome(1, Verdict.REFUSED, reason="413 Request Entity Too Large"),)
        )

    def test_leaves_the_rest_unsent_when_a_half_meets_trouble(self, server: SendGridServer) -> None:
        server.answers = [(400, {}, ""), (400, {}, ""), (502, {}, "")]
        sending = send(server, 8)
        assert verdicts(sending) == [Verdict.UNCONFIRMED] * 2 + [Verdict.UNSENT] * 6
        assert str(sending.trouble) == "sendgrid: 502 Bad Gateway"

    def test_asks_about_the_lease_before_each_half(self, server: SendGridServer) -> None:
        server.answers = [(400, {}, "")]
        answers = iter([True, True, False])
        with sendgrid(server.url) as provider:
            sending = provider.send(message(), letters(4), still_ours=lambda: next(answers))
        assert verdicts(sending) == [Verdict.ACCEPTED] * 2 + [Verdict.UNSENT] * 2
        assert server.recipients == ["reader1@example.com", "reader2@example.com"]


class TestKey:
    @pytest.mark.parametrize("key", ["", "SG.abc\n", "SG abc", "SG.\u00e9"])
    def test_one_that_cannot_stand_in_a_header_is_refused_and_not_repeated(self, key: str) -> None:
        with pytest.raises(ValueError, match="the API key is empty or has characters") as refusal:
            SendGrid(key, Limit("sendgrid", 0), host="http://127.0.0.1:1")
        assert not key or key not in str(refusal.value)


class TestAnswersOfGateways:
    @pytest.mark.parametrize("status", [408, 502, 504, 520, 524])
    def test_leave_the_mails_in_doubt(self, status: int) -> None:
        assert sendgrid_answer(status) is Consequence.UNKNOWN

    @pytest.mark.parametrize("status", [200, 201, 202, 204])
    def test_every_2xx_is_an_acceptance(self, status: int) -> None:
        assert sendgrid_answer(status) is None
