"""A mail that needs SMTPUTF8 among those that do not: which provider takes it, and who notices."""

from collections.abc import Iterator

import pytest
from django.test import Client
from redis import Redis

from campaigns import tracking, trial
from campaigns.breaker import Breaker, Position
from campaigns.models import Audience, Batch, Campaign, Recipient, Suppression
from campaigns.providers import Line, Smtp
from campaigns.providers.conversation import SmtpAccount
from campaigns.throttle import Limit
from tests.campaign_helpers import counts, let_time_pass, row, send, started
from tests.mail_servers import SendGridServer, SmtpServer, smtp_server

pytestmark = pytest.mark.django_db(transaction=True)

JOERG = "jörg@example.com"
OTHERS = [f"p{n}@example.com" for n in range(5)]
NOT_BY_API = "sendgrid: its API takes no address with letters outside ASCII before the @-sign"
OFFERS_NONE = "offers no SMTPUTF8 (RFC 6531), which an address with letters outside ASCII needs"


@pytest.fixture(autouse=True)
def joerg(audience: Audience) -> Recipient:
    """One among the five friends."""
    return Recipient.objects.create(
        audience=audience, email=JOERG, name="Jörg, Dr.", attributes={"city": "Köln"}
    )


@pytest.fixture
def old_smtp() -> Iterator[SmtpServer]:
    """A server that offers no SMTPUTF8."""
    with smtp_server(enable_SMTPUTF8=False) as server:
        yield server


def smtp_of(server: SmtpServer, per_day: int = 0) -> Smtp:
    account = SmtpAccount("127.0.0.1", server.port, use_tls=False, timeout=10)
    return Smtp(account, Limit("smtp", 0, per_day=per_day), window=2)


def positions(redis: Redis) -> set[Position]:
    return {Breaker(name, redis).look().position for name in ("sendgrid", "smtp")}


class TestSmtp:
    def test_that_offers_it_takes_all(self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line) -> None:
        (batch_id,) = started(campaign)
        send(batch_id, smtp_line)
        assert counts(campaign) == {"sent": 6}
        assert sorted(smtp.recipients) == sorted([JOERG, *OTHERS])
        assert smtp.utf8 == [JOERG]
        assert [content.isascii() for to, content in smtp.accepted if to != JOERG] == [True] * 5

    def test_that_does_not_is_given_only_the_others(
        self, campaign: Campaign, old_smtp: SmtpServer, redis: Redis
    ) -> None:
        limit_of_six = smtp_of(old_smtp, per_day=6)
        (batch_id,) = started(campaign)
        send(batch_id, Line((limit_of_six,), redis))
        assert old_smtp.recipients == OTHERS
        assert counts(campaign) == {"sent": 5, "failed": 1}
        failed = row(JOERG)
        assert failed.reason == f"smtp: 127.0.0.1:{old_smtp.port} {OFFERS_NONE}"
        assert (failed.attempts, failed.provider, failed.attempted_at) == (0, "", None)
        batch = Batch.objects.get(id=batch_id)
        assert (batch.trouble, batch.failures, batch.not_before) == ("", 0, None)
        assert positions(redis) == {Position.CLOSED}
        assert limit_of_six.limit.reserve(redis, 6, max_wait=0).count == 1

    @pytest.mark.parametrize(
        ("answer", "status"), [("553 5.6.7 not for you", "failed"), ("451 4.6.7 not now", "deferred")]
    )
    def test_that_offers_it_and_takes_none_holds_up_no_other(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, redis: Redis, answer: str, status: str
    ) -> None:
        smtp.mail_utf8 = answer
        (batch_id,) = started(campaign)
        send(batch_id, smtp_line)
        assert counts(campaign) == {"sent": 5, status: 1}
        assert row(JOERG).reason == f"MAIL FROM: {answer}"
        assert positions(redis) == {Position.CLOSED}

    def test_that_is_away_is_waited_for(self, campaign: Campaign, smtp: SmtpServer, redis: Redis) -> None:
        away = Line((Smtp(SmtpAccount("127.0.0.1", 1, use_tls=False), Limit("smtp", 0), window=2),), redis)
        (batch_id,) = started(campaign)
        send(batch_id, away)
        assert counts(campaign) == {"pending": 6}
        let_time_pass(batch_id)
        send(batch_id, Line((smtp_of(smtp),), redis))
        assert counts(campaign) == {"sent": 6}

    def test_fails_only_what_cannot_have_arrived(
        self, campaign: Campaign, old_smtp: SmtpServer, redis: Redis
    ) -> None:
        (batch_id,) = started(campaign)
        in_doubt = row(JOERG)
        in_doubt.doubts = 1
        in_doubt.save()
        send(batch_id, Line((smtp_of(old_smtp),), redis))
        assert counts(campaign) == {"sent": 5, "unconfirmed": 1}


class TestSendGrid:
    def test_is_asked_for_the_others_and_smtp_takes_the_rest(
        self, campaign: Campaign, sendgrid: SendGridServer, smtp: SmtpServer, both_lines: Line
    ) -> None:
        (batch_id,) = started(campaign)
        send(batch_id, both_lines)
        assert counts(campaign) == {"sent": 6}
        assert (len(sendgrid.requests), sendgrid.recipients, sendgrid.faults) == (1, OTHERS, [])
        assert (smtp.recipients, smtp.utf8) == ([JOERG], [JOERG])
        assert (row(JOERG).provider, row(OTHERS[0]).provider) == ("smtp", "sendgrid")
        assert positions(both_lines.redis) == {Position.CLOSED}

    def test_alone_fails_it_in_words(
        self, campaign: Campaign, sendgrid: SendGridServer, sendgrid_line: Line
    ) -> None:
        (batch_id,) = started(campaign)
        send(batch_id, sendgrid_line)
        assert counts(campaign) == {"sent": 5, "failed": 1}
        assert sendgrid.recipients == OTHERS
        assert row(JOERG).reason == NOT_BY_API

    def test_is_not_asked_where_there_are_no_others(
        self, campaign: Campaign, sendgrid: SendGridServer, smtp: SmtpServer, both_lines: Line
    ) -> None:
        Recipient.objects.exclude(email=JOERG).delete()
        (batch_id,) = started(campaign)
        send(batch_id, both_lines)
        assert counts(campaign) == {"sent": 1}
        assert (sendgrid.requests, smtp.recipients) == ([], [JOERG])

    def test_fails_with_both_reasons_where_neither_takes_it(
        self, campaign: Campaign, sendgrid_line: Line, old_smtp: SmtpServer
    ) -> None:
        (batch_id,) = started(campaign)
        send(batch_id, Line((*sendgrid_line.providers, smtp_of(old_smtp)), sendgrid_line.redis))
        assert counts(campaign) == {"sent": 5, "failed": 1}
        assert row(JOERG).reason == f"{NOT_BY_API}; smtp: 127.0.0.1:{old_smtp.port} {OFFERS_NONE}"
        assert old_smtp.recipients == []

    @pytest.mark.parametrize("smtp_first", [False, True])
    def test_leaves_it_pending_while_smtp_is_away(
        self,
        campaign: Campaign,
        sendgrid: SendGridServer,
        smtp: SmtpServer,
        sendgrid_line: Line,
        smtp_first: bool,
    ) -> None:
        away = Smtp(SmtpAccount("127.0.0.1", 1, use_tls=False), Limit("smtp", 0), window=2)
        providers = [*sendgrid_line.providers, away]
        (batch_id,) = started(campaign)
        send(batch_id, Line(tuple(providers[::-1] if smtp_first else providers), sendgrid_line.redis))
        assert counts(campaign) == {"sent": 5, "pending": 1}
        assert Batch.objects.get(id=batch_id).trouble.startswith("smtp at 127.0.0.1:1: ")
        let_time_pass(batch_id)
        send(batch_id, Line((*sendgrid_line.providers, smtp_of(smtp)), sendgrid_line.redis))
        assert counts(campaign) == {"sent": 6}
        assert (sendgrid.recipients, smtp.recipients) == (OTHERS, [JOERG])

    def test_that_wants_a_pause_holds_up_the_others_alone(
        self, campaign: Campaign, sendgrid: SendGridServer, smtp: SmtpServer, both_lines: Line
    ) -> None:
        sendgrid.answers.append((429, {"Retry-After": "40"}, ""))
        (batch_id,) = started(campaign)
        send(batch_id, both_lines)
        assert counts(campaign) == {"sent": 1, "pending": 5}
        assert smtp.recipients == [JOERG]
        batch = Batch.objects.get(id=batch_id)
        assert batch.not_before is not None
        assert batch.trouble.startswith("sendgrid: 429")

    def test_that_is_unavailable_leaves_all_to_smtp(
        self, campaign: Campaign, sendgrid: SendGridServer, smtp: SmtpServer, both_lines: Line
    ) -> None:
        sendgrid.answers.append((503, {}, ""))
        (batch_id,) = started(campaign)
        send(batch_id, both_lines)
        assert counts(campaign) == {"sent": 6}
        assert sorted(smtp.recipients) == sorted([JOERG, *OTHERS])

    def test_never_moves_what_may_have_been_accepted(
        self, campaign: Campaign, sendgrid: SendGridServer, smtp: SmtpServer, both_lines: Line
    ) -> None:
        sendgrid.answers.append("drop")
        (batch_id,) = started(campaign)
        send(batch_id, both_lines)
        assert counts(campaign) == {"sent": 1, "unconfirmed": 5}
        assert smtp.recipients == [JOERG]

    def test_is_still_probed_by_the_others_after_a_pause(
        self, campaign: Campaign, sendgrid: SendGridServer, smtp: SmtpServer, both_lines: Line
    ) -> None:
        redis = both_lines.redis
        for _ in range(3):
            Breaker("sendgrid", redis).failed("down")
        redis.hset("mailer:breaker:sendgrid", "until", 1)
        Recipient.objects.exclude(email=JOERG).delete()
        (batch_id,) = started(campaign)
        send(batch_id, both_lines)
        assert smtp.recipients == [JOERG]
        assert Breaker("sendgrid", redis).look().position is Position.HALF_OPEN
        assert Breaker("sendgrid", redis).admit()  # the probe was not used up


class TestTestMail:
    def test_goes_by_the_provider_that_takes_it(
        self, campaign: Campaign, sendgrid: SendGridServer, smtp: SmtpServer, both_lines: Line
    ) -> None:
        answers = trial.send(campaign.pk, [JOERG, "asha@example.com"], line=both_lines)
        assert (sendgrid.recipients, smtp.recipients) == (["asha@example.com"], [JOERG])
        assert answers[JOERG].startswith("smtp: accepted")

    def test_says_why_none_takes_it(self, campaign: Campaign, sendgrid_line: Line) -> None:
        answers = trial.send(campaign.pk, [JOERG, "asha@example.com"], line=sendgrid_line)
        assert answers[JOERG] == f"refused {NOT_BY_API}"
        assert answers["asha@example.com"].startswith("sendgrid: accepted")


def test_the_link_in_it_unsubscribes(
    campaign: Campaign, smtp: SmtpServer, smtp_line: Line, client: Client, template: object
) -> None:
    (batch_id,) = started(campaign)
    token = tracking.unsubscribe_url(row(JOERG).pk).rpartition("/u/")[2]
    assert client.post(f"/u/{token}").status_code == 200
    assert Suppression.objects.get().email == JOERG
    send(batch_id, smtp_line)
    assert counts(campaign) == {"sent": 5, "suppressed": 1}
    assert smtp.recipients == OTHERS
    assert "already" in client.get(f"/u/{token}").content.decode()
