"""Real workers: a single mail does not wait behind a campaign, and comes through what it meets on the way."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from copy import copy
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from kombu import Connection
from redis import Redis

from campaigns import actions, broker, outbound, tasks
from campaigns.addresses import BadAddress
from campaigns.broker import QUICK_PATIENCE
from campaigns.mail import send_email
from campaigns.models import Campaign, OutboundEmail
from campaigns.providers import Line
from campaigns.tasks import check_scheduled_campaigns
from campaigns.throttle import Limit
from tests.campaign_helpers import clock
from tests.mail_servers import SmtpServer
from tests.schedule_helpers import user
from tests.workers import celery, environment, kill, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]

SENDERS = ("worker", "-Q", "senders,scheduler", "-c", "4", "--loglevel", "error", "-n", "senders@%h")
POST = ("worker", "-Q", "transactional", "-c", "1", "--loglevel", "error", "-n", "post@%h")


@pytest.fixture(autouse=True)
def _quick_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test before may have found the broker away."""
    monkeypatch.setattr(broker, "_rest_until", 0.0)
    with current_app.connection_for_write() as connection:
        queue = connection.SimpleQueue("transactional")
        queue.clear()
        queue.close()


def _status() -> str:
    return OutboundEmail.objects.get().status


def _waiting(count: int) -> tuple[int, int]:
    """Store a mail of the system, and so many of a user that are due and of the system that rest.

    Return one of the user's, and the first.
    """
    asha, later = user(), clock() + timedelta(hours=1)
    own = send_email("Mine", "x", [asha.email], created_by=asha).id
    first = send_email("Reset", "x", [asha.email]).id
    for like, not_before in ((own, None), (first, later)):
        mail = OutboundEmail.objects.get(id=like)
        mail.not_before = not_before
        copies = []
        for _ in range(count):
            mail.pk = None
            copies.append(copy(mail))
        OutboundEmail.objects.bulk_create(copies)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE campaigns_outboundemail")
    return own, first


def _explained(statement: str) -> list[dict[str, Any]]:
    """Run a query; return how PostgreSQL did it."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
        (found,) = cursor.fetchone()
    plan: list[dict[str, Any]] = json.loads(found) if isinstance(found, str) else found
    return plan


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for each in node.get("Plans", []):
        yield from _nodes(each)


class TestBesideACampaign:
    def test_leaves_before_what_the_campaign_has_booked(
        self, campaign: Campaign, many: list[str], smtp: SmtpServer, redis: Redis
    ) -> None:
        limit = Limit("smtp", 10)
        env = environment(EMAIL_PORT=str(smtp.port), SMTP_RATE_LIMIT_PER_SEC="10")
        actions.start(campaign.pk, now=clock())
        with celery(*SENDERS, env=env), celery(*POST, env=env):
            wait_until(lambda: len(smtp.accepted) > 30, what="the campaign is being sent")
            limit.reserve(redis, 6000, max_wait=60)  # ten minutes: longer than anybody waits below
            for number in range(3):
                reader = f"reader{number}@example.com"
                send_email("Your new password", "Here", [reader])
                wait_until(lambda: reader in smtp.recipients, what="arrived")  # noqa: B023  # called at once
            assert limit.look(redis).booked_for > 0
            assert len(smtp.recipients) < len(many)


class TestBesideUsersOwnMails:
    def test_what_the_system_sends_goes_first(self, smtp: SmtpServer) -> None:
        asha = user()
        smtp.delay = 0.1
        for number in range(40):
            send_email(f"Reminder {number}", "Water the plants", [asha.email], created_by=asha)
        with celery(*POST, env=environment(EMAIL_PORT=str(smtp.port))):
            wait_until(lambda: len(smtp.accepted) >= 5, seconds=60, what="some have left")
            send_email("Your new password", "Here", ["reader@example.com"])
            wait_until(lambda: len(smtp.accepted) == 41, seconds=60, what="all have left")
        assert smtp.recipients.index("reader@example.com") < 20

    def test_whom_it_lets_go_first(self) -> None:
        asha, boss = user(), user("boss@example.com", is_staff=True)
        own = [send_email("Mine", "x", [asha.email], created_by=asha).id for _ in range(2)]
        first = [send_email("Reset", "x", [asha.email]).id]
        first += [send_email("Invoice", "x", [asha.email], created_by=boss).id]
        assert [outbound.ahead_of(each) for each in (*own, *first)] == [first, first, [], []]
        OutboundEmail.objects.filter(id=first[0]).update(status="sent")
        assert outbound.steps.claim(first[1], "another worker") is not None
        assert outbound.ahead_of(own[0]) == []

    def test_looks_at_nothing_but_what_is_due_however_much_waits(self) -> None:
        own, first = _waiting(2_000)
        with CaptureQueriesContext(connection) as captured:
            assert outbound.ahead_of(own) == [first]
        assert len(captured) == 2
        (plan,) = _explained(captured[1]["sql"])
        used = [each for each in _nodes(plan["Plan"]) if "Index Name" in each]
        assert [each["Index Name"] for each in used] == ["outbound_first"]
        assert (used[0]["Actual Rows"], used[0].get("Rows Removed by Filter", 0)) == (1, 0)

    def test_knows_whose_the_mails_are_that_were_stored_before_it_was_noted(self) -> None:
        asha, boss = user(), user("boss@example.com", is_staff=True)
        own, *first = (
            send_email("Hello", "x", [asha.email], created_by=each).id for each in (asha, boss, None)
        )
        latest = MigrationExecutor(connection).loader.graph.leaf_nodes("campaigns")
        try:
            MigrationExecutor(connection).migrate([("campaigns", "0013_write_imports_in_chunks")])
        finally:
            MigrationExecutor(connection).migrate(latest)
        assert outbound.ahead_of(own) == first
        assert [outbound.ahead_of(each) for each in first] == [[], []]

    def test_what_goes_first_and_cannot_be_written_holds_up_nobody(
        self, smtp: SmtpServer, smtp_line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asha = user()
        monkeypatch.setattr(tasks, "configured_line", lambda: smtp_line)
        monkeypatch.setattr(tasks, "_looked_at", -tasks.FIRST_LOOK_SECONDS)
        own = send_email("Mine", "x", [asha.email], created_by=asha).id
        send_email("Reset", "x", ["reader@example.com"])
        OutboundEmail.objects.filter(created_by=None).update(reply_to=["no address"])
        with pytest.raises(BadAddress):
            tasks.send_outbound(own)
        assert smtp.recipients == [asha.email]


class TestKillMinusNine:
    def test_of_its_worker_is_made_up_for_by_the_tick(self, smtp: SmtpServer) -> None:
        smtp.delay = 30
        env = environment(EMAIL_PORT=str(smtp.port), LEASE_SECONDS="10")
        with celery(*POST, env=env) as victim:
            send_email("Hello", "Hi", ["a@example.com"])
            wait_until(lambda: len(smtp.accepted) == 1, what="the mail left")
            kill(victim)
        smtp.delay = 0
        OutboundEmail.objects.update(lease_until=F("lease_until") - timedelta(days=1))
        check_scheduled_campaigns()
        assert _status() == "unconfirmed"
        with celery(*POST, env=env):
            send_email("Hello", "Hi", ["b@example.com"])
            wait_until(lambda: "b@example.com" in smtp.recipients, what="the next one arrived")
        assert smtp.recipients == ["a@example.com", "b@example.com"]

    def test_before_it_was_sent_costs_only_time(self, smtp: SmtpServer) -> None:
        mail_id = send_email("Hello", "Hi", ["a@example.com"]).id
        assert outbound.steps.claim(mail_id, "a worker that dies") is not None
        OutboundEmail.objects.update(
            lease_until=F("lease_until") - timedelta(days=1),
            created_at=F("created_at") - timedelta(minutes=1),
        )
        with celery(*POST, env=environment(EMAIL_PORT=str(smtp.port))):
            check_scheduled_campaigns()
            wait_until(lambda: _status() == "sent", what="sent")
        assert smtp.recipients == ["a@example.com"]


class TestBrokerAway:
    def test_mails_stored_meanwhile_are_found_by_the_tick(
        self, smtp: SmtpServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as away:
            away.setattr(broker, "_rest_until", time.monotonic() + 3600)
            for number in range(10):
                send_email("Hello", "Hi", [f"p{number}@example.com"])
        OutboundEmail.objects.update(created_at=F("created_at") - timedelta(minutes=1))
        with celery(*POST, env=environment(EMAIL_PORT=str(smtp.port))):
            check_scheduled_campaigns()
            wait_until(lambda: len(smtp.accepted) == 10, what="all sent")
        assert len(set(smtp.recipients)) == 10

    def test_that_hangs_is_asked_on_the_kept_connection_and_on_a_new_one_and_then_left_alone(
        self, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broker._kept.connection = None
        send_email("Hello", "Hi", ["warm@example.com"])
        kept = broker._kept.connection
        use_kept, asked = broker._use_kept, []

        def ask(use: Callable[[Connection], object]) -> None:
            asked.append(broker._kept.connection)
            use_kept(use)

        monkeypatch.setattr(broker, "_use_kept", ask)
        monkeypatch.setattr(broker, "REST", 3600.0)
        monkeypatch.setattr(broker, "QUICK_PATIENCE", QUICK_PATIENCE)
        pid = int(redis.info("server")["process_id"])
        os.kill(pid, signal.SIGSTOP)
        try:
            for number in range(20):
                send_email("Hello", "Hi", [f"p{number}@example.com"])
        finally:
            os.kill(pid, signal.SIGCONT)
        assert asked == [kept, None]
        assert OutboundEmail.objects.count() == 21
