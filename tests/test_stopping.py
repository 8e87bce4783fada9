"""SIGTERM, as `docker stop` sends it: the batch in hand goes back within seconds, and nothing is in doubt."""

import signal
import subprocess
from pathlib import Path

import pytest
from redis import Redis

from campaigns import actions
from campaigns.models import Audience, Batch, Campaign, Recipient
from campaigns.throttle import Limit
from tests.campaign_helpers import clock, counts
from tests.mail_servers import SendGridServer, SmtpServer
from tests.workers import celery, environment, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues", "redis")]

SENDER = ("worker", "-Q", "senders,scheduler", "-c", "2", "--loglevel", "warning")


@pytest.fixture
def audience(audience: Audience) -> Audience:
    """2,000 people, ten batches."""
    Recipient.objects.bulk_create(
        Recipient(audience=audience, email=f"m{n}@example.com", attributes={"city": "Pune"})
        for n in range(1995)
    )
    return audience


def _stop(worker: "subprocess.Popen[bytes]") -> None:
    """Send SIGTERM to the main process alone, as Docker does, and wait for the end of all of it."""
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(120) == 0


def _check(campaign: Campaign, recipients: list[str]) -> None:
    """Nothing is in doubt, every batch is free at once, and who was written to is known."""
    assert counts(campaign) == {"sent": len(recipients), "pending": 2000 - len(recipients)}
    sent = campaign.deliveries.filter(status="sent").values_list("email", flat=True)
    assert sorted(recipients) == sorted(sent)
    held = Batch.objects.filter(lease_until__isnull=False)
    resting = Batch.objects.filter(not_before__isnull=False)
    assert (held.count(), resting.count()) == (0, 0)


def _completed(campaign: Campaign) -> bool:
    campaign.refresh_from_db()
    return campaign.status == "completed"


class TestSigterm:
    def test_gives_back_a_batch_that_a_slow_smtp_server_would_keep_for_minutes(
        self, campaign: Campaign, smtp: SmtpServer
    ) -> None:
        smtp.delay = 1.0
        env = environment(EMAIL_PORT=str(smtp.port))
        actions.start(campaign.pk, now=clock())
        with celery(*SENDER, env=env) as worker:
            wait_until(lambda: len(smtp.recipients) >= 4, what="four mails accepted")
            _stop(worker)
        assert len(smtp.recipients) < 200  # not one batch was sent to its end
        _check(campaign, smtp.recipients)
        smtp.delay = 0.0  # the next worker finds in the queue what went back
        with celery(*SENDER, env={**env, "SMTP_DECLARE_WINDOW": "100"}):
            wait_until(lambda: _completed(campaign), what="completed by the next worker")
        assert counts(campaign) == {"sent": 2000}
        assert len(smtp.recipients) == len(set(smtp.recipients)) == 2000

    def test_waits_for_the_answer_to_a_request_that_is_out(
        self, campaign: Campaign, sendgrid: SendGridServer, tmp_path: Path
    ) -> None:
        sendgrid.gate.clear()
        env = environment(
            EMAIL_PROVIDERS="sendgrid", SENDGRID_API_KEY="SG.test", SENDGRID_API_HOST=sendgrid.url
        )
        actions.start(campaign.pk, now=clock())
        log = tmp_path / "log"
        with celery(*SENDER[:-1], "debug", env=env, output=log) as worker:
            wait_until(lambda: len(sendgrid.accepted) == 2, what="a request of each process taken")
            worker.send_signal(signal.SIGTERM)
            wait_until(lambda: "Worker: Closing" in log.read_text(), what="the worker ending")
            sendgrid.gate.set()
            assert worker.wait(120) == 0
        assert len(sendgrid.accepted) == 2
        _check(campaign, sendgrid.recipients)

    def test_wakes_who_waits_for_the_rate_limit(
        self, campaign: Campaign, smtp: SmtpServer, redis: Redis
    ) -> None:
        # thirty mails are a group, so the second one waits for half a minute
        env = environment(EMAIL_PORT=str(smtp.port), SMTP_RATE_LIMIT_PER_SEC="1", SMTP_DECLARE_WINDOW="30")
        limit = Limit("smtp", 1)
        actions.start(campaign.pk, now=clock())
        with celery(*SENDER, "-c", "1", env=env) as worker:
            wait_until(lambda: limit.look(redis).booked_for > 30, what="the second group's places booked")
            _stop(worker)
            assert limit.look(redis).booked_for > 30, "it waited until its places came"
        assert len(smtp.recipients) == 30
        _check(campaign, smtp.recipients)
