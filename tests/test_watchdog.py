"""Why a campaign does not move, in words, from real rows."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db.models import F
from django.db.models.functions import Now
from pytest_django import Settings
from redis import Redis

from campaigns import dispatch, ledger, lifecycle, throttle, vitals, watchdog
from campaigns.breaker import Breaker
from campaigns.models import Audience, Batch, Campaign, EmailTemplate
from campaigns.providers import Line, Smtp
from campaigns.providers.conversation import SmtpAccount
from campaigns.tasks import check_scheduled_campaigns
from campaigns.throttle import Limit
from campaigns.vitals import moment
from tests.campaign_helpers import clock, leave_in_doubt, send, started
from tests.mail_servers import SmtpServer

pytestmark = pytest.mark.django_db(transaction=True)

NOBODY = "redis://127.0.0.1:1/0"
TIME = r"(\d\d \w{3} )?\d\d:\d\d(:\d\d)? UTC"  # with the day when the test runs around midnight


@pytest.fixture(autouse=True)
def tick(redis: Redis) -> None:
    """The tick has just run, as far as anybody knows."""
    vitals.note_tick(redis, now=clock())


def trouble(campaign: Campaign) -> str:
    return watchdog.of(campaign.pk).trouble


def says(campaign: Campaign, sentence: str) -> bool:
    """Whether the trouble is this sentence; TIME in it stands for any time."""
    pattern = re.escape(sentence).replace("TIME", TIME)
    assert re.fullmatch(pattern, trouble(campaign)), trouble(campaign)
    return True


def minutes_pass(minutes: int = 2) -> None:
    """Everything that the ledger knows of happened so much earlier."""
    earlier = timedelta(minutes=minutes)
    Campaign.objects.update(
        updated_at=F("updated_at") - earlier,
        started_at=F("started_at") - earlier,
        ledger_built_at=F("ledger_built_at") - earlier,
    )
    Batch.objects.update(
        published_at=F("published_at") - earlier,
        recorded_at=F("recorded_at") - earlier,
        lease_until=F("lease_until") - earlier,
    )


def the_tick_was(redis: Redis, *, minutes_ago: int) -> None:
    vitals.note_tick(redis, now=clock() - timedelta(minutes=minutes_ago))


class TestBeforeTheStart:
    def test_says_nothing_of_a_draft_or_of_one_whose_time_has_not_come(self, campaign: Campaign) -> None:
        assert trouble(campaign) == ""
        start_at = clock() + timedelta(minutes=2)
        lifecycle.schedule(campaign.pk, scheduled_at=start_at, timezone=None, now=clock())
        assert trouble(campaign) == ""

    def test_says_that_no_tick_started_what_is_due(self, campaign: Campaign, redis: Redis) -> None:
        start_at = clock() + timedelta(minutes=2)
        lifecycle.schedule(campaign.pk, scheduled_at=start_at, timezone=None, now=clock())
        Campaign.objects.update(scheduled_at=clock() - timedelta(minutes=4))
        the_tick_was(redis, minutes_ago=7)
        assert says(
            campaign,
            "It was to start at TIME, and no tick has started it. The last tick was at TIME, 7 minutes ago: "
            "Beat, the scheduler's worker or the broker is not running",
        )


class TestTheLedgerIsNotBuilt:
    def test_says_since_when_it_is_in_the_making(self, campaign: Campaign) -> None:
        lifecycle.start(campaign.pk, now=clock())
        assert says(campaign, "The delivery log has been in the making since TIME")

    def test_and_that_no_tick_comes_to_make_it(self, campaign: Campaign, redis: Redis) -> None:
        lifecycle.start(campaign.pk, now=clock())
        minutes_pass()
        redis.delete("mailer:tick")
        assert says(
            campaign,
            "The delivery log has been in the making since TIME. "
            "No tick is known: are Beat and the scheduler's worker running?",
        )


class TestPausedOrCancelled:
    def test_says_since_when_it_is_paused(self, campaign: Campaign) -> None:
        started(campaign)
        lifecycle.pause(campaign.pk)
        Campaign.objects.update(updated_at=datetime(2026, 5, 4, 9, 7, tzinfo=UTC))
        assert trouble(campaign) == "Paused since 04 May 09:07 UTC; resume it to go on"

    def test_and_that_a_worker_is_still_at_it(self, campaign: Campaign) -> None:
        (batch_id,) = started(campaign)
        ledger.claim(batch_id, "a worker")
        lifecycle.pause(campaign.pk)
        assert says(
            campaign,
            "Paused since TIME; resume it to go on. 1 batch is with workers, who stop before their next mail",
        )

    def test_says_what_is_still_to_be_cancelled(self, campaign: Campaign) -> None:
        started(campaign)
        lifecycle.cancel(campaign.pk, now=clock())
        assert trouble(campaign) == "5 mails are still to be cancelled; the next tick does it"
        dispatch.finalize(campaign.pk, now=clock())
        assert trouble(campaign) == ""

    def test_promises_no_tick_for_what_a_worker_holds(self, campaign: Campaign) -> None:
        (batch_id,) = started(campaign)
        ledger.claim(batch_id, "a worker")
        lifecycle.cancel(campaign.pk, now=clock())
        assert trouble(campaign) == (
            "5 mails are still to be cancelled; 1 batch is with workers, cancelled once they give it back "
            "or their leases end"
        )


class TestNobodyTakesABatch:
    def test_says_nothing_in_the_first_seconds(self, campaign: Campaign) -> None:
        started(campaign)
        dispatch.next_batches(campaign.pk)
        assert trouble(campaign) == ""

    def test_asks_whether_a_sender_runs(self, campaign: Campaign, settings: Settings) -> None:
        settings.CAMPAIGN_BATCH_SIZE = 2
        started(campaign)
        dispatch.next_batches(campaign.pk)
        minutes_pass()
        assert says(
            campaign,
            "3 batches have been in the queue since TIME, and no sender takes them: is one running?",
        )

    def test_says_that_the_senders_are_busy_with_others(
        self, campaign: Campaign, audience: Audience, template: EmailTemplate
    ) -> None:
        other = Campaign.objects.create(name="June", audience=audience, template=template)
        started(campaign)
        dispatch.next_batches(campaign.pk)
        minutes_pass()
        ledger.claim(started(other)[0], "a worker")
        assert says(
            campaign,
            "1 batch has been in the queue since TIME; the senders are busy with other campaigns",
        )

    def test_says_that_nothing_is_in_the_queue(self, campaign: Campaign, redis: Redis) -> None:
        started(campaign)
        minutes_pass()
        assert trouble(campaign) == "1 batch is due and in no queue; the next tick publishes it"
        the_tick_was(redis, minutes_ago=5)
        assert says(
            campaign,
            "1 batch is due and in no queue; the next tick publishes it. The last tick was at TIME, 5 "
            "minutes ago: Beat, the scheduler's worker or the broker is not running",
        )

    def test_says_so_when_redis_is_away(self, campaign: Campaign, settings: Settings) -> None:
        started(campaign)
        minutes_pass()
        settings.REDIS_URL = NOBODY
        assert trouble(campaign) == (
            "Redis does not answer; it keeps the rate limits, so senders wait until it does"
        )


class TestBatchesWait:
    def test_says_until_when_and_why_for_most_of_them(self, campaign: Campaign, settings: Settings) -> None:
        settings.CAMPAIGN_BATCH_SIZE = 1
        batches = started(campaign)
        Batch.objects.filter(id__in=batches[:4]).update(
            not_before=Now() + timedelta(minutes=5), trouble="smtp: waiting for the rate limit of 20/s"
        )
        words = "4 batches wait until TIME: smtp: waiting for the rate limit of 20/s"
        assert says(campaign, words)
        Batch.objects.filter(id=batches[3]).update(trouble="smtp: 451 later")
        assert says(campaign, words.replace("TIME: ", "TIME: mostly "))

    def test_says_when_deferred_mails_are_tried_again(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        smtp.rcpt["p1@example.com"] = smtp.rcpt["p2@example.com"] = "450 4.2.1 too fast"
        (batch_id,) = started(campaign)
        send(batch_id, smtp_line)
        assert says(campaign, "2 mails wait for the next try at TIME")

    def test_says_what_a_batch_met_that_is_due_again(self, campaign: Campaign) -> None:
        started(campaign)
        Batch.objects.update(trouble="smtp: 451 later", not_before=Now(), recorded_at=Now())
        assert trouble(campaign) == "smtp: 451 later"

    def test_says_when_the_quota_has_more(
        self, campaign: Campaign, smtp: SmtpServer, redis: Redis, settings: Settings
    ) -> None:
        settings.SMTP_DAILY_LIMIT = 3
        account = SmtpAccount("127.0.0.1", smtp.port, use_tls=False, timeout=10)
        line = Line((Smtp(account, Limit("smtp", 0, per_day=3), window=2),), redis)
        (batch_id,) = started(campaign)
        send(batch_id, line)
        assert len(smtp.recipients) == 3
        assert says(campaign, "1 batch waits until TIME: smtp: the quota of 3 in 24 hours is used up")
        Batch.objects.update(trouble="", not_before=None, recorded_at=Now())
        assert says(campaign, "smtp: the quota of 3 in 24 hours is used up; more from TIME")


class TestProviders:
    def test_names_the_breaker_that_is_open_since_when_and_why(
        self, campaign: Campaign, redis: Redis
    ) -> None:
        started(campaign)
        Breaker("smtp", redis).paused(90, "smtp: 421 4.7.28 unusual rate")
        assert says(campaign, "smtp: open since TIME: 421 4.7.28 unusual rate; asked again at TIME")

    def test_names_the_provider_that_is_used_instead(
        self, campaign: Campaign, redis: Redis, settings: Settings
    ) -> None:
        settings.EMAIL_PROVIDERS = ["sendgrid", "smtp"]
        started(campaign)
        Breaker("sendgrid", redis).paused(90, "sendgrid: 503 down")
        words = "sendgrid: open since TIME: 503 down; asked again at TIME; smtp is used instead"
        assert says(campaign, words)

    def test_says_nothing_of_a_fallback_that_is_not_needed(
        self, campaign: Campaign, redis: Redis, settings: Settings
    ) -> None:
        settings.EMAIL_PROVIDERS = ["sendgrid", "smtp"]
        started(campaign)
        Breaker("smtp", redis).paused(90, "smtp: 421 later")
        assert trouble(campaign) == ""

    def test_sees_a_sender_that_sleeps_until_its_places_come(
        self, campaign: Campaign, redis: Redis, settings: Settings
    ) -> None:
        settings.SMTP_RATE_LIMIT_PER_SEC = 20
        (batch_id,) = started(campaign)
        assert ledger.claim(batch_id, "a worker") is not None
        assert trouble(campaign) == ""
        Limit("smtp", 20).reserve(redis, 100, max_wait=30)
        assert trouble(campaign) == "smtp: waiting for the rate limit of 20/s"

    def test_sees_by_the_pace_that_the_rate_is_the_limit(
        self, campaign: Campaign, smtp_line: Line, settings: Settings
    ) -> None:
        settings.SMTP_RATE_LIMIT_PER_SEC, settings.CAMPAIGN_BATCH_SIZE = 2, 2
        batches = started(campaign)
        send(batches[0], smtp_line)
        ledger.claim(batches[1], "a worker")
        Campaign.objects.update(started_at=Now())  # 2 mails in the last second, at most
        assert trouble(campaign) == "smtp: waiting for the rate limit of 2/s"


class TestWorkers:
    def test_says_that_batches_were_left_and_that_no_tick_takes_them_back(
        self, campaign: Campaign, redis: Redis, settings: Settings
    ) -> None:
        settings.CAMPAIGN_BATCH_SIZE = 2
        for batch_id in started(campaign)[:2]:
            ledger.claim(batch_id, "a worker")
        Batch.objects.filter(lease_until__isnull=False).update(lease_until=Now() - timedelta(seconds=1))
        words = "2 batches were left by workers that have gone; the next tick takes them back"
        assert trouble(campaign) == words
        the_tick_was(redis, minutes_ago=5)
        assert trouble(campaign).startswith(f"{words}. The last tick was at ")

    def test_says_since_when_a_worker_was_not_heard_of(self, campaign: Campaign) -> None:
        (batch_id,) = started(campaign)
        ledger.claim(batch_id, "a worker")
        assert trouble(campaign) == ""
        minutes_pass(1)
        assert says(
            campaign,
            "1 batch is with workers who have not been heard of since TIME: the provider is slow, or they "
            "died and their leases will run out",
        )

    def test_counts_that_from_the_lease_and_not_from_what_others_did(
        self, campaign: Campaign, smtp_line: Line, many: list[str], settings: Settings
    ) -> None:
        first, second, _ = started(campaign)
        ledger.claim(first, "a worker that dies")
        minutes_pass(2)
        send(second, smtp_line)
        Batch.objects.filter(id=second).update(recorded_at=F("recorded_at") - timedelta(minutes=1))
        until = Batch.objects.values_list("lease_until", flat=True).get(id=first)
        assert until is not None
        since = moment(until - timedelta(seconds=settings.LEASE_SECONDS), clock())
        assert f"not been heard of since {since}: " in trouble(campaign)

    def test_says_that_only_the_end_is_missing(self, campaign: Campaign, smtp_line: Line) -> None:
        (batch_id,) = started(campaign)
        send(batch_id, smtp_line)
        assert trouble(campaign) == ""
        minutes_pass()
        assert trouble(campaign) == "Every mail has its answer; the next tick ends the campaign"


class TestTheTick:
    def test_leaves_its_time(self, redis: Redis, db: None) -> None:
        redis.delete("mailer:tick")
        before = clock()
        check_scheduled_campaigns()
        tick_at = vitals.look().tick_at
        assert tick_at is not None
        assert before <= tick_at + timedelta(microseconds=1) <= clock() + timedelta(microseconds=1)

    def test_runs_without_redis(self) -> None:
        vitals.note_tick(throttle.connect(NOBODY), now=clock())


class TestEnded:
    def test_says_what_is_left_to_decide(self, campaign: Campaign) -> None:
        (batch_id,) = started(campaign)
        leave_in_doubt(batch_id)
        dispatch.finalize(campaign.pk, now=clock())
        assert says(
            campaign,
            "5 mails are unconfirmed: they may have left, and no answer was recorded. Settle them in the "
            f"delivery log or by settle_unconfirmed {campaign.pk}",
        )


class TestTheReading:
    def test_asks_redis_only_of_what_may_move(self, campaign: Campaign, settings: Settings) -> None:
        settings.REDIS_URL = "no address at all"
        started(campaign)
        lifecycle.pause(campaign.pk)
        assert says(campaign, "Paused since TIME; resume it to go on")
        with pytest.raises(ValueError, match="Redis URL"):
            vitals.look()
