"""The promises about processes: real workers, a real Beat, kill -9, and the mails that really arrived."""

from collections import Counter
from datetime import timedelta

import pytest
from celery import current_app
from django.core.cache import cache
from django_celery_beat.models import PeriodicTask

from campaigns import actions, lifecycle, progress
from campaigns.models import Audience, Batch, Campaign, Recipient
from campaigns.tasks import check_scheduled_campaigns
from tests.campaign_helpers import clock, counts
from tests.mail_servers import SmtpServer
from tests.workers import celery, environment, kill, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

SENDER = ("worker", "-Q", "senders,scheduler", "-c", "2", "--loglevel", "warning")


@pytest.fixture(autouse=True)
def _empty_queues() -> None:
    """A message of an earlier test must not wake this one's workers."""
    with current_app.connection_for_write() as connection:
        for name in ("senders", "scheduler"):
            queue = connection.SimpleQueue(name)
            queue.clear()
            queue.close()
    cache.clear()


@pytest.fixture
def many(audience: Audience) -> list[str]:
    """600 addresses, three batches."""
    extra = [f"m{n}@example.com" for n in range(595)]
    Recipient.objects.bulk_create(
        Recipient(audience=audience, email=email, attributes={"city": "Pune"}) for email in extra
    )
    return [f"p{n}@example.com" for n in range(5)] + extra


class TestKillMinusNine:
    def test_of_a_sender_loses_nobody_and_writes_to_nobody_twice(
        self, campaign: Campaign, many: list[str], smtp: SmtpServer
    ) -> None:
        env = environment(EMAIL_PORT=str(smtp.port), LEASE_SECONDS="10", SMTP_DECLARE_WINDOW="10")
        actions.start(campaign.pk, now=clock())
        with celery(*SENDER, env=env) as victim:
            wait_until(lambda: len(smtp.accepted) > 100, seconds=60, what="100 mails accepted")
            kill(victim)
        held = progress.of(campaign.pk)
        assert held.adds_up
        assert held.open > 0

        with celery(*SENDER, env=env):
            wait_until(_leases_have_run_out, seconds=30, what="the dead worker's leases run out")
            check_scheduled_campaigns()
            wait_until(lambda: _ended(campaign), seconds=60, what="the campaign ended")

        unconfirmed = set(_emails(campaign, "unconfirmed"))
        assert len(unconfirmed) <= 2 * 10  # two pool processes, ten messages declared at a time
        assert counts(campaign) == {"sent": 600 - len(unconfirmed)} | (
            {"unconfirmed": len(unconfirmed)} if unconfirmed else {}
        )
        written = Counter(smtp.recipients)
        assert max(written.values()) == 1
        assert set(many) - set(written) <= unconfirmed
        assert set(_emails(campaign, "sent")) <= set(written)


class TestBeat:
    def test_starts_a_scheduled_campaign_by_its_minute_tick(
        self, campaign: Campaign, smtp: SmtpServer
    ) -> None:
        env = environment(EMAIL_PORT=str(smtp.port))
        soon = clock() + timedelta(seconds=1)
        lifecycle.schedule(campaign.pk, scheduled_at=soon, timezone=None, now=clock())
        with celery(*SENDER, env=env), celery("beat", "--loglevel", "warning", "--pidfile=", env=env):
            wait_until(lambda: _ended(campaign), seconds=100, what="the campaign ended")
        assert counts(campaign) == {"sent": 5}
        campaign.refresh_from_db()
        assert campaign.started_at is not None
        assert campaign.started_at >= soon
        tick = PeriodicTask.objects.get(task="campaigns.tasks.check_scheduled_campaigns")
        assert (tick.enabled, str(tick.crontab)[:9]) == (True, "* * * * *")


def _ended(campaign: Campaign) -> bool:
    campaign.refresh_from_db()
    assert progress.of(campaign.pk).adds_up
    return campaign.status in ("completed", "failed")


def _leases_have_run_out() -> bool:
    return not Batch.objects.filter(lease_until__gt=clock()).exists()


def _emails(campaign: Campaign, status: str) -> list[str]:
    return list(campaign.deliveries.filter(status=status).values_list("email", flat=True))
