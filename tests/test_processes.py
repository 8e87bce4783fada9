"""The promises about processes: real workers, a real Beat, kill -9, and the mails that really arrived."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection
from django_celery_beat.models import PeriodicTask

from campaigns import actions, lifecycle, progress
from campaigns.models import Batch, Campaign
from campaigns.tasks import check_scheduled_campaigns
from tests.campaign_helpers import clock, counts
from tests.mail_servers import SendGridServer, SmtpServer
from tests.workers import celery, environment, kill, wait_until
from users.models import User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]

SENDER = ("worker", "-Q", "senders,scheduler", "-c", "2", "--loglevel", "warning")


class TestKillMinusNine:
    def test_of_a_sender_loses_nobody_and_writes_to_nobody_twice(
        self, campaign: Campaign, many: list[str], smtp: SmtpServer
    ) -> None:
        smtp.delay = 0.01  # so that many mails are left when it is killed
        env = environment(EMAIL_PORT=str(smtp.port), LEASE_SECONDS="10", SMTP_DECLARE_WINDOW="10")
        actions.start(campaign.pk, now=clock())
        with celery(*SENDER, env=env) as victim:
            wait_until(lambda: len(smtp.accepted) > 100, what="100 mails accepted")
            kill(victim)
        smtp.delay = 0.0
        held = progress.of(campaign.pk)
        assert held.adds_up
        assert held.open > 0

        with celery(*SENDER, env=env):
            wait_until(_leases_have_run_out, what="the dead worker's leases run out")
            check_scheduled_campaigns()
            wait_until(lambda: _ended(campaign), what="the campaign ended")

        unconfirmed = set(_emails(campaign, "unconfirmed"))
        assert len(unconfirmed) <= 2 * 4 * 10  # pool processes, connections, messages declared at a time
        assert counts(campaign) == {"sent": 600 - len(unconfirmed)} | (
            {"unconfirmed": len(unconfirmed)} if unconfirmed else {}
        )
        written = Counter(smtp.recipients)
        assert max(written.values()) == 1
        assert set(many) - set(written) <= unconfirmed
        assert set(_emails(campaign, "sent")) <= set(written)


class TestShortRest:
    def test_of_a_batch_needs_no_tick(self, campaign: Campaign, smtp: SmtpServer) -> None:
        smtp.rcpt = {"p2@example.com": "421 4.7.0 enough for this connection"}
        actions.start(campaign.pk, now=clock())
        with celery(*SENDER, env=environment(EMAIL_PORT=str(smtp.port))):
            wait_until(lambda: progress.of(campaign.pk).sent == 4, what="the batch taken up again")
        assert counts(campaign) == {"sent": 4, "deferred": 1}
        assert smtp.connections == 2


class TestDatabaseConnection:
    def test_is_kept_from_task_to_task_and_replaced_when_it_has_died(
        self, campaign: Campaign, smtp: SmtpServer
    ) -> None:
        other = Campaign.objects.create(name="June", audience=campaign.audience, template=campaign.template)
        with celery(*SENDER, env=environment(EMAIL_PORT=str(smtp.port))):
            actions.start(campaign.pk, now=clock())
            wait_until(lambda: _ended(campaign), what="the first campaign ended")
            assert _end_other_connections() >= 1
            actions.start(other.pk, now=clock())
            wait_until(lambda: _ended(other), what="the second campaign ended")
        assert counts(other) == {"sent": 5}


class TestZombie:
    """A sender that is stopped (SIGSTOP) past its lease, and goes on when others have done its work."""

    def test_sends_nothing_more_by_smtp(self, campaign: Campaign, many: list[str], smtp: SmtpServer) -> None:
        smtp.delay = 0.3
        env = environment(EMAIL_PORT=str(smtp.port), LEASE_SECONDS="10")
        actions.start(campaign.pk, now=clock())
        with celery(*SENDER, env=env) as zombie:
            wait_until(lambda: len(smtp.recipients) > 3, what="some mails accepted")
            _fall_asleep(zombie)
            smtp.delay = 0.0
            _let_others_finish_and_wake(zombie, env, campaign, smtp)
        written = Counter(smtp.recipients)
        assert set(written) <= set(many)
        assert max(written.values()) == 1
        unconfirmed = set(_emails(campaign, "unconfirmed"))
        assert set(many) - set(written) <= unconfirmed
        assert 2 <= len(unconfirmed) <= 2 * 10

    def test_sends_nothing_more_by_sendgrid(
        self, campaign: Campaign, many: list[str], sendgrid: SendGridServer
    ) -> None:
        sendgrid.gate.clear()
        env = environment(
            EMAIL_PROVIDERS="sendgrid",
            SENDGRID_API_KEY="SG.test",
            SENDGRID_API_HOST=sendgrid.url,
            LEASE_SECONDS="10",
        )
        actions.start(campaign.pk, now=clock())
        with celery(*SENDER, env=env) as zombie:
            wait_until(lambda: len(sendgrid.accepted) == 2, what="a request of each process taken")
            _fall_asleep(zombie)
            sendgrid.gate.set()
            _let_others_finish_and_wake(zombie, env, campaign, sendgrid)
        assert sorted(sendgrid.recipients) == sorted(many)
        assert counts(campaign) == {"sent": 200, "unconfirmed": 400}


class TestSettling:
    def test_from_the_command_line_sends_again_and_ends_the_campaign_anew(
        self, campaign: Campaign, boss: User, smtp: SmtpServer
    ) -> None:
        smtp.drop["p4@example.com"] = "before"
        env = environment(EMAIL_PORT=str(smtp.port), SMTP_DECLARE_WINDOW="1")
        with celery(*SENDER, env=env):
            actions.start(campaign.pk, now=clock())
            wait_until(lambda: _emails(campaign, "unconfirmed") == ["p4@example.com"], what="one in doubt")
            smtp.drop.clear()
            wait_until(lambda: _ended(campaign), what="the campaign ended")
            command = ("settle_unconfirmed", str(campaign.pk), "send_again", "--by", boss.email, "--json")
            said = subprocess.run(
                [sys.executable, "manage.py", *command], env=env, check=True, capture_output=True
            )
            assert json.loads(said.stdout)["settled"] == 1
            wait_until(lambda: counts(campaign) == {"sent": 5}, what="sent again")
            wait_until(lambda: _ended(campaign), what="the campaign ended again")
        assert Counter(smtp.recipients) == Counter(f"p{n}@example.com" for n in range(5))


class TestBeat:
    def test_starts_a_scheduled_campaign_by_its_minute_tick(
        self, campaign: Campaign, smtp: SmtpServer
    ) -> None:
        env = environment(EMAIL_PORT=str(smtp.port))
        soon = clock() + timedelta(seconds=1)
        lifecycle.schedule(campaign.pk, scheduled_at=soon, timezone=None, now=clock())
        with celery(*SENDER, env=env), celery("beat", "--loglevel", "warning", "--pidfile=", env=env):
            wait_until(lambda: _ended(campaign), seconds=240, what="the campaign ended")
        assert counts(campaign) == {"sent": 5}
        campaign.refresh_from_db()
        assert campaign.started_at is not None
        assert campaign.started_at >= soon
        tick = PeriodicTask.objects.get(task="campaigns.tasks.check_scheduled_campaigns")
        assert (tick.enabled, str(tick.crontab)[:9]) == (True, "* * * * *")


def _fall_asleep(zombie: "subprocess.Popen[bytes]") -> None:
    os.killpg(zombie.pid, signal.SIGSTOP)


def _let_others_finish_and_wake(
    zombie: "subprocess.Popen[bytes]",
    env: dict[str, str],
    campaign: Campaign,
    server: SmtpServer | SendGridServer,
) -> None:
    """Finish the campaign while one that held batches sleeps, then wake it; it is to change nothing."""
    wait_until(_leases_have_run_out, what="the sleeper's leases run out")
    check_scheduled_campaigns()
    with celery(*SENDER, env=env):
        wait_until(lambda: _ended(campaign), what="the campaign ended")
    accepted, rows = len(server.accepted), list(campaign.deliveries.order_by("id").values())
    os.killpg(zombie.pid, signal.SIGCONT)
    zombie.send_signal(signal.SIGTERM)
    assert zombie.wait(120) == 0
    assert len(server.accepted) == accepted
    assert list(campaign.deliveries.order_by("id").values()) == rows


def _ended(campaign: Campaign) -> bool:
    campaign.refresh_from_db()
    assert progress.of(campaign.pk).adds_up
    return campaign.status in ("completed", "failed")


def _leases_have_run_out() -> bool:
    return not Batch.objects.filter(lease_until__gt=clock()).exists()


def _end_other_connections() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()
            """
        )
        return int(cursor.rowcount)


def _emails(campaign: Campaign, status: str) -> list[str]:
    return list(campaign.deliveries.filter(status=status).values_list("email", flat=True))
