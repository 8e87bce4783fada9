"""A batch and its providers: whose sender, whose quota, which one is tried, and when none is."""

from datetime import timedelta

import pytest
from pytest_django import Settings
from redis import Redis

from campaigns import sending
from campaigns.breaker import Breaker, Position
from campaigns.models import Batch, Campaign
from campaigns.providers import Line, Smtp
from campaigns.providers.conversation import SmtpAccount
from campaigns.throttle import Limit
from tests.campaign_helpers import clock, counts, let_time_pass, row, send, started
from tests.mail_servers import SendGridServer, SmtpServer

pytestmark = pytest.mark.django_db(transaction=True)

EVERYBODY = [f"p{n}@example.com" for n in range(5)]


class TestSender:
    @pytest.mark.parametrize(
        ("own", "default", "sendgrids", "expected"),
        [
            ("", "default@example.com", "", ("default@example.com", None)),
            ("", "Shop <default@example.com>", "", ("default@example.com", "Shop")),
            ("", "default@example.com", "grid@example.com", ("grid@example.com", None)),
            (
                "own@bücher.example",
                "default@example.com",
                "grid@example.com",
                ("own@xn--bcher-kva.example", None),
            ),
        ],
    )
    def test_is_the_campaigns_own_then_the_providers_then_the_settings(
        self,
        campaign: Campaign,
        sendgrid: SendGridServer,
        sendgrid_line: Line,
        settings: Settings,
        own: str,
        default: str,
        sendgrids: str,
        expected: tuple[str, str | None],
    ) -> None:
        settings.DEFAULT_FROM_EMAIL = default
        sendgrid_line.providers[0].from_email = sendgrids
        Campaign.objects.update(from_email=own)
        (batch_id,) = started(campaign)
        send(batch_id, sendgrid_line)
        sender = sendgrid.accepted[0]["from"]
        assert (sender["email"], sender.get("name")) == expected
        assert counts(campaign) == {"sent": 5}


class TestQuota:
    def test_is_used_to_the_last_mail_and_then_nobody_is_bothered(
        self, campaign: Campaign, smtp: SmtpServer, redis: Redis, settings: Settings
    ) -> None:
        settings.CAMPAIGN_BATCH_SIZE = 3
        account = SmtpAccount("127.0.0.1", smtp.port, use_tls=False)
        line = Line((Smtp(account, Limit("smtp", 0, per_day=4), window=10),), redis)
        for batch_id in started(campaign):
            send(batch_id, line)
        assert smtp.recipients == EVERYBODY[:4]
        assert counts(campaign) == {"sent": 4, "pending": 1}
        batch = Batch.objects.get(number=2)
        assert (batch.trouble, batch.failures) == ("smtp: the quota of 4 in 24 hours is used up", 0)
        connections = smtp.connections
        let_time_pass(batch.pk)
        send(batch.pk, line)
        assert smtp.connections == connections

    def test_is_not_spent_on_a_server_that_is_away(self, campaign: Campaign, redis: Redis) -> None:
        limit = Limit("smtp", 0, per_day=4)
        line = Line((Smtp(SmtpAccount("127.0.0.1", 1, use_tls=False), limit, window=10),), redis)
        (batch_id,) = started(campaign)
        for _ in range(3):
            send(batch_id, line)
            let_time_pass(batch_id)
        assert limit.reserve(redis, 10, max_wait=0).count == 4

    def test_that_is_used_up_makes_room_for_the_next_provider(
        self, campaign: Campaign, smtp: SmtpServer, sendgrid: SendGridServer, sendgrid_line: Line
    ) -> None:
        account = SmtpAccount("127.0.0.1", smtp.port, use_tls=False)
        first = Smtp(account, Limit("smtp", 0, per_day=2), window=10)
        (batch_id,) = started(campaign)
        send(batch_id, Line((first, *sendgrid_line.providers), sendgrid_line.redis))
        assert smtp.recipients == EVERYBODY[:2]
        assert sendgrid.recipients == EVERYBODY[2:]
        assert counts(campaign) == {"sent": 5}


class TestFailover:
    def test_takes_the_next_provider_when_the_first_is_unavailable(
        self, campaign: Campaign, sendgrid: SendGridServer, smtp: SmtpServer, both_lines: Line
    ) -> None:
        sendgrid.answers.append((503, {}, ""))
        (batch_id,) = started(campaign)
        send(batch_id, both_lines)
        assert sendgrid.recipients == []
        assert smtp.recipients == EVERYBODY
        assert counts(campaign) == {"sent": 5}
        assert row("p0@example.com").provider == "smtp"

    def test_never_moves_what_may_have_been_accepted(
        self, campaign: Campaign, sendgrid: SendGridServer, smtp: SmtpServer, both_lines: Line
    ) -> None:
        sendgrid.answers.append("drop")
        (batch_id,) = started(campaign)
        send(batch_id, both_lines)
        assert smtp.recipients == []
        assert counts(campaign) == {"unconfirmed": 5}

    def test_waits_for_a_provider_that_asks_for_a_pause(
        self, campaign: Campaign, sendgrid: SendGridServer, smtp: SmtpServer, both_lines: Line
    ) -> None:
        sendgrid.answers.append((429, {"Retry-After": "40"}, ""))
        (batch_id,) = started(campaign)
        before = clock()
        send(batch_id, both_lines)
        assert smtp.recipients == []
        assert counts(campaign) == {"pending": 5}
        not_before = Batch.objects.get(id=batch_id).not_before
        assert not_before is not None
        assert before + timedelta(seconds=39) <= not_before <= clock() + timedelta(seconds=41)


class TestBreaker:
    def test_a_provider_that_failed_three_batches_is_left_alone_and_its_fallback_is_used(
        self,
        campaign: Campaign,
        sendgrid: SendGridServer,
        smtp: SmtpServer,
        both_lines: Line,
        settings: Settings,
    ) -> None:
        settings.CAMPAIGN_BATCH_SIZE = 1
        sendgrid.answers += [(503, {}, "")] * 3
        for batch_id in started(campaign):
            send(batch_id, both_lines)
        assert len(sendgrid.requests) == 3
        assert smtp.recipients == EVERYBODY
        assert counts(campaign) == {"sent": 5}

    def test_one_probe_brings_it_back(
        self, campaign: Campaign, sendgrid: SendGridServer, sendgrid_line: Line, settings: Settings
    ) -> None:
        settings.CAMPAIGN_BATCH_SIZE = 1
        sendgrid.answers += [(503, {}, "")] * 3
        batches = started(campaign)
        for batch_id in batches:
            send(batch_id, sendgrid_line)
        assert len(sendgrid.requests) == 3
        waiting = Batch.objects.get(id=batches[4])
        assert waiting.trouble.startswith("sendgrid: open since ")
        sendgrid_line.redis.hset("mailer:breaker:sendgrid", "until", 1)
        for batch_id in batches:
            let_time_pass(batch_id)
            send(batch_id, sendgrid_line)
        assert sendgrid.recipients == EVERYBODY
        assert counts(campaign) == {"sent": 5}

    @pytest.mark.parametrize(
        ("seconds", "by_smtp", "found"), [("40", [], {"pending": 5}), ("3600", EVERYBODY, {"sent": 5})]
    )
    def test_a_pause_holds_for_all_and_a_long_one_is_for_the_other_provider(
        self,
        campaign: Campaign,
        sendgrid: SendGridServer,
        smtp: SmtpServer,
        both_lines: Line,
        settings: Settings,
        seconds: str,
        by_smtp: list[str],
        found: dict[str, int],
    ) -> None:
        settings.CAMPAIGN_BATCH_SIZE = 1
        sendgrid.answers.append((429, {"Retry-After": seconds}, ""))
        for batch_id in started(campaign):
            send(batch_id, both_lines)
        assert len(sendgrid.requests) == 1
        assert smtp.recipients == by_smtp
        assert counts(campaign) == found

    def test_a_campaign_whose_sender_is_refused_does_not_open_it_for_the_others(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, settings: Settings
    ) -> None:
        settings.CAMPAIGN_BATCH_SIZE = 1
        smtp.mail = "553 5.7.1 sender address rejected: not owned by user"
        batches = started(campaign)
        for batch_id in batches:
            send(batch_id, smtp_line)
        assert counts(campaign) == {"pending": 5}
        smtp.mail = ""
        for batch_id in batches:
            let_time_pass(batch_id)
            send(batch_id, smtp_line)
        assert smtp.recipients == EVERYBODY

    def test_a_relay_that_ends_connections_after_some_mails_stays_in_use(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, redis: Redis
    ) -> None:
        (batch_id,) = started(campaign)
        for n in (1, 3, 1):
            smtp.rcpt = {f"p{n}@example.com": "421 4.7.0 enough for this connection"}
            send(batch_id, smtp_line)
            assert Breaker("smtp", redis).look().position is Position.CLOSED
            batch = Batch.objects.get(id=batch_id)
            assert batch.failures == 0
            let_time_pass(batch_id)
        smtp.rcpt = {}
        send(batch_id, smtp_line)
        assert sorted(smtp.recipients) == EVERYBODY

    def test_a_campaign_paused_meanwhile_does_not_open_it(
        self, campaign: Campaign, smtp_line: Line, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sending.Sending, "_still_ours", lambda sending: False)
        (batch_id,) = started(campaign)
        for _ in range(4):
            send(batch_id, smtp_line)
            let_time_pass(batch_id)
        assert Breaker("smtp", redis).look().position is Position.CLOSED
