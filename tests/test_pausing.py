"""Pause, resume and cancel while a batch is under way: nothing leaves after the worker's next look."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest
from django.db import connection
from redis import Redis

from campaigns import dispatch, lifecycle
from campaigns.models import Batch, Campaign
from campaigns.providers import Line, Smtp
from campaigns.providers.conversation import SmtpAccount
from campaigns.sending import LOOK_SECONDS
from campaigns.throttle import Limit
from tests.campaign_helpers import clock, counts, let_time_pass, send, started
from tests.mail_servers import SendGridServer, SmtpServer
from tests.workers import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("many")]


@contextmanager
def working(batch_id: int, line: Line) -> Iterator[None]:
    """Send a batch beside the test, and wait for its end."""

    def work() -> None:
        send(batch_id, line)
        connection.close()

    worker = Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        worker.join(120)
        assert not worker.is_alive()


def _is_free(batch_id: int) -> bool:
    return Batch.objects.filter(id=batch_id, lease_until=None, not_before=None, failures=0).exists()


@pytest.fixture
def slow_line(smtp: SmtpServer, redis: Redis) -> Line:
    """Ten messages are declared at a time, and the server needs so long for each that a look is due again."""
    smtp.delay = LOOK_SECONDS
    account = SmtpAccount("127.0.0.1", smtp.port, use_tls=False, timeout=10)
    return Line((Smtp(account, Limit("smtp", 0), window=10),), redis)


@pytest.fixture
def waiting_line(smtp: SmtpServer, redis: Redis) -> Line:
    """Thirty messages a group, one a second: the second group waits for half a minute."""
    account = SmtpAccount("127.0.0.1", smtp.port, use_tls=False, timeout=10)
    return Line((Smtp(account, Limit("smtp", 1), window=30),), redis)


def _is_waiting(redis: Redis) -> bool:
    """Say whether the places of the second group of thirty are booked and have not come yet."""
    return Limit("smtp", 1).look(redis).booked_for > 30


class TestPause:
    def test_stops_a_batch_at_a_slow_smtp_server_between_two_messages(
        self, campaign: Campaign, smtp: SmtpServer, slow_line: Line
    ) -> None:
        batch_id, *_ = started(campaign)
        with working(batch_id, slow_line):
            wait_until(lambda: len(smtp.recipients) >= 2, what="two mails accepted")
            lifecycle.pause(campaign.pk)
            accepted = len(smtp.recipients)
        assert _is_free(batch_id)
        assert len(smtp.recipients) <= accepted + 1  # one may have been on its way
        assert counts(campaign) == {"sent": len(smtp.recipients), "pending": 600 - len(smtp.recipients)}

    def test_lets_only_the_request_that_is_out_be_answered(
        self, campaign: Campaign, sendgrid: SendGridServer, sendgrid_line: Line
    ) -> None:
        sendgrid.gate.clear()
        batch_id, *others = started(campaign)
        with working(batch_id, sendgrid_line):
            wait_until(lambda: bool(sendgrid.accepted), what="a request taken")
            lifecycle.pause(campaign.pk)
            sendgrid.gate.set()
        assert [send(other, sendgrid_line) for other in others] == [None, None]
        assert counts(campaign) == {"sent": 200, "pending": 400}

    def test_wakes_who_waits_for_the_rate_limit(
        self, campaign: Campaign, smtp: SmtpServer, waiting_line: Line, redis: Redis
    ) -> None:
        batch_id, *_ = started(campaign)
        with working(batch_id, waiting_line):
            wait_until(lambda: _is_waiting(redis), what="waiting")
            lifecycle.pause(campaign.pk)
            wait_until(lambda: _is_free(batch_id), what="the batch free")
            assert _is_waiting(redis), "it waited until its places came"
        assert counts(campaign) == {"sent": 30, "pending": 570}

    def test_gives_the_places_that_were_booked_back_to_the_quota(
        self, campaign: Campaign, smtp: SmtpServer, redis: Redis
    ) -> None:
        account = SmtpAccount("127.0.0.1", smtp.port, use_tls=False, timeout=10)
        line = Line((Smtp(account, Limit("smtp", 1, 1000), window=30),), redis)
        batch_id, *_ = started(campaign)
        with working(batch_id, line):
            wait_until(lambda: _is_waiting(redis), what="waiting")
            lifecycle.pause(campaign.pk)
        assert redis.get("mailer:booked:smtp") == b"30"

    def test_leaves_a_batch_resting_whose_provider_is_away(
        self, campaign: Campaign, slow_line: Line, smtp: SmtpServer
    ) -> None:
        smtp.mail = "451 4.3.0 try later"
        batch_id, *_ = started(campaign)
        send(batch_id, slow_line)
        rests_until = Batch.objects.get(id=batch_id).not_before
        lifecycle.pause(campaign.pk)
        lifecycle.resume(campaign.pk)
        assert rests_until is not None
        assert Batch.objects.get(id=batch_id).not_before == rests_until
        assert batch_id not in dispatch.next_batches(campaign.pk)


class TestResume:
    def test_goes_on_at_once_and_writes_to_nobody_twice(
        self, campaign: Campaign, smtp: SmtpServer, slow_line: Line, many: list[str]
    ) -> None:
        batches = started(campaign)
        for seen in (2, 4):  # two pauses in the same batch
            with working(batches[0], slow_line):
                wait_until(lambda seen=seen: len(smtp.recipients) >= seen, what="more accepted")  # type: ignore[misc]  # a default binds the loop's value
                lifecycle.pause(campaign.pk)
            lifecycle.resume(campaign.pk)
        smtp.delay = 0.0
        assert dispatch.next_batches(campaign.pk) == batches
        for batch_id in batches:
            send(batch_id, slow_line)
        assert counts(campaign) == {"sent": 600}
        assert sorted(smtp.recipients) == sorted(many)

    def test_during_the_wait_for_the_rate_limit_changes_nothing(
        self, campaign: Campaign, smtp: SmtpServer, redis: Redis
    ) -> None:
        account = SmtpAccount("127.0.0.1", smtp.port, use_tls=False, timeout=10)
        line = Line((Smtp(account, Limit("smtp", 100), window=100),), redis)
        batch_id, *_ = started(campaign)
        with working(batch_id, line):
            wait_until(lambda: bool(smtp.recipients), what="a mail accepted")
            lifecycle.pause(campaign.pk)
            lifecycle.resume(campaign.pk)
            time.sleep(0.2)  # the worker may look at any moment
        let_time_pass(batch_id)
        send(batch_id, line)
        assert counts(campaign) == {"sent": 200, "pending": 400}
        assert len(smtp.recipients) == len(set(smtp.recipients)) == 200


class TestCancel:
    def test_stops_a_batch_at_a_slow_smtp_server_and_cancels_the_rest(
        self, campaign: Campaign, smtp: SmtpServer, slow_line: Line
    ) -> None:
        batch_id, *_ = started(campaign)
        with working(batch_id, slow_line):
            wait_until(lambda: len(smtp.recipients) >= 2, what="two mails accepted")
            lifecycle.cancel(campaign.pk, now=clock())
            accepted = len(smtp.recipients)
            dispatch.finalize(campaign.pk, now=clock())
        assert _is_free(batch_id)
        dispatch.finalize(campaign.pk, now=clock())
        assert len(smtp.recipients) <= accepted + 1  # one may have been on its way
        assert counts(campaign) == {"sent": len(smtp.recipients), "cancelled": 600 - len(smtp.recipients)}

    def test_wakes_who_waits_for_the_rate_limit(
        self, campaign: Campaign, smtp: SmtpServer, waiting_line: Line, redis: Redis
    ) -> None:
        batch_id, *_ = started(campaign)
        with working(batch_id, waiting_line):
            wait_until(lambda: _is_waiting(redis), what="waiting")
            lifecycle.cancel(campaign.pk, now=clock())
            wait_until(lambda: _is_free(batch_id), what="the batch free")
            assert _is_waiting(redis), "it waited until its places came"
        dispatch.finalize(campaign.pk, now=clock())
        assert counts(campaign) == {"sent": 30, "cancelled": 570}

    def test_cancels_a_batch_that_rests_after_a_failure(
        self, campaign: Campaign, smtp: SmtpServer, slow_line: Line
    ) -> None:
        smtp.mail = "451 4.3.0 try later"
        batch_id, *_ = started(campaign)
        send(batch_id, slow_line)
        lifecycle.cancel(campaign.pk, now=clock())
        dispatch.finalize(campaign.pk, now=clock())
        assert counts(campaign) == {"cancelled": 600}
