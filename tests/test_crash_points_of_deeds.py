"""kill -9 just before and just after the commit of each deed that is not a sender's five steps.

The usual recovery follows each time: what the tick does, and the operator who asks again.
"""

import subprocess
import sys
from datetime import timedelta

import pytest
from django.db.models import F
from pytest_django import Settings

from campaigns import dispatch, ledger, lifecycle, recovery, settling
from campaigns.models import Batch, Campaign, Decision, DeliveryLog, Settlement, Suppression
from campaigns.providers import Line
from tests.campaign_helpers import clock, counts, leave_in_doubt, let_time_pass, row, send, started
from tests.mail_servers import SmtpServer
from tests.workers import environment
from users.models import User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]

MOMENTS = pytest.mark.parametrize("moment", ["before", "after"])


def _die(deed: str, id: int, moment: str, **settings: str) -> None:
    died = subprocess.run(
        [sys.executable, "-m", "tests.chaos.crashing_deeds", deed, str(id), moment],
        env=environment(**settings),
        stderr=subprocess.PIPE,
        check=False,
        timeout=300,
    )
    assert died.returncode == -9, f"it did not come to the commit: {died.stderr.decode()[-500:]}"


def _recover(line: Line) -> None:
    """Do what the ticks and the workers of the next minutes do."""
    Batch.objects.filter(lease_until__isnull=False).update(lease_until=F("lease_until") - timedelta(days=1))
    recovery.take_back_expired_leases()
    Batch.objects.filter(published_at__isnull=False).update(
        published_at=F("published_at") - timedelta(minutes=1)
    )
    recovery.forget_lost_messages(held=0)
    for campaign_id in recovery.unfinished_campaigns():
        dispatch.build_ledger(campaign_id, now=clock())
        for batch_id in Batch.objects.filter(campaign=campaign_id).values_list("id", flat=True):
            let_time_pass(batch_id)
        while batch_ids := dispatch.next_batches(campaign_id):
            for batch_id in batch_ids:
                send(batch_id, line)
        dispatch.finalize(campaign_id, now=clock())


def _ends(campaign: Campaign, status: str, smtp: SmtpServer, **expected: int) -> None:
    assert counts(campaign) == expected
    campaign.refresh_from_db()
    assert campaign.status == status
    assert len(smtp.recipients) == len(set(smtp.recipients)) == expected.get("sent", 0)
    assert not Batch.objects.exclude(lease_until=None).exists()


@MOMENTS
class TestSender:
    def test_ruling_out(self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, moment: str) -> None:
        Suppression.objects.create(email="p1@example.com")
        (batch_id,) = started(campaign)
        _die("rule out", batch_id, moment, EMAIL_PORT=str(smtp.port))
        assert row("p1@example.com").status == ("suppressed" if moment == "after" else "pending")
        _recover(smtp_line)
        _ends(campaign, "completed", smtp, sent=4, suppressed=1)

    def test_renewing_its_lease(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, moment: str
    ) -> None:
        (batch_id,) = started(campaign)
        smtp.delay = 1.1  # seconds: the lease is renewed before the second mail of the pair
        _die("renew", batch_id, moment, EMAIL_PORT=str(smtp.port), SMTP_DECLARE_WINDOW="2")
        smtp.delay = 0
        assert smtp.recipients == ["p0@example.com"]
        smtp.accepted.clear()
        _recover(smtp_line)
        _ends(campaign, "completed", smtp, sent=3, unconfirmed=2)
        assert smtp.recipients == ["p2@example.com", "p3@example.com", "p4@example.com"]


@MOMENTS
class TestScheduler:
    def test_building_the_ledger(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, moment: str
    ) -> None:
        lifecycle.start(campaign.pk, now=clock())
        _die("build the ledger", campaign.pk, moment)
        assert DeliveryLog.objects.count() == (5 if moment == "after" else 0)
        _recover(smtp_line)
        _ends(campaign, "completed", smtp, sent=5)

    @pytest.mark.parametrize("deed", ["choose what to publish", "publish"])
    def test_publishing(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, moment: str, deed: str
    ) -> None:
        started(campaign)
        _die(deed, campaign.pk, moment)
        published = Batch.objects.filter(published_at__isnull=False).exists()
        assert published is ((deed, moment) != ("choose what to publish", "before"))
        _recover(smtp_line)
        _ends(campaign, "completed", smtp, sent=5)

    def test_taking_back(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, settings: Settings, moment: str
    ) -> None:
        settings.CAMPAIGN_BATCH_SIZE = 3
        batch_ids = started(campaign)
        for batch_id in batch_ids:
            lease = ledger.claim(batch_id, "a worker that died")
            assert lease is not None
            ledger.declare(lease, [ledger.due_rows(lease)[0].id], "smtp")
        Batch.objects.update(lease_until=F("lease_until") - timedelta(days=1))
        _die("take back", 0, moment)
        assert Batch.objects.filter(lease_until=None).count() == (1 if moment == "after" else 0)
        _recover(smtp_line)
        _ends(campaign, "completed", smtp, sent=3, unconfirmed=2)

    def test_finishing(self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, moment: str) -> None:
        (batch_id,) = started(campaign)
        send(batch_id, smtp_line)
        _die("finalize", campaign.pk, moment)
        campaign.refresh_from_db()
        assert campaign.status == ("completed" if moment == "after" else "in_progress")
        _recover(smtp_line)
        _ends(campaign, "completed", smtp, sent=5)

    def test_cancelling_what_is_open(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, moment: str
    ) -> None:
        started(campaign)
        lifecycle.cancel(campaign.pk, now=clock())
        _die("cancel what is open", campaign.pk, moment)
        assert counts(campaign) == ({"cancelled": 5} if moment == "after" else {"pending": 5})
        _recover(smtp_line)
        _ends(campaign, "cancelled", smtp, cancelled=5)


@MOMENTS
class TestOperator:
    def test_settling_a_campaign_of_two_batches(
        self,
        campaign: Campaign,
        smtp: SmtpServer,
        smtp_line: Line,
        settings: Settings,
        boss: User,
        moment: str,
    ) -> None:
        settings.CAMPAIGN_BATCH_SIZE = 3
        for batch_id in started(campaign):
            leave_in_doubt(batch_id)
        dispatch.finalize(campaign.pk, now=clock())
        _die("settle", campaign.pk, moment)
        assert counts(campaign) == (
            {"pending": 3, "unconfirmed": 2} if moment == "after" else {"unconfirmed": 5}
        )
        ruling = ledger.Ruling(Decision.SEND_AGAIN, boss.pk, boss.email, "", clock())
        assert settling.settle_campaign(campaign.pk, ruling) == (2 if moment == "after" else 5)
        assert Settlement.objects.values("delivery").distinct().count() == Settlement.objects.count() == 5
        _recover(smtp_line)
        _ends(campaign, "completed", smtp, sent=5)
