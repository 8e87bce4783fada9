"""How often a mail left without a recorded answer is counted, and shown."""

from datetime import timedelta

import pytest
from django.db.models import F
from django.urls import reverse
from pytest_django import Settings

from campaigns import ledger
from campaigns.models import Batch, Campaign, DeliveryLog
from campaigns.providers import Line
from tests.admin_helpers import client_of
from tests.campaign_helpers import counts, let_time_pass, row, send, started
from tests.mail_servers import SmtpServer
from users.models import User

pytestmark = pytest.mark.django_db(transaction=True)

P2 = "p2@example.com"


def _doubts() -> dict[str, int]:
    """The deliveries that have any."""
    return dict(DeliveryLog.objects.filter(doubts__gt=0).values_list("email", "doubts"))


class TestCount:
    def test_a_mail_with_an_answer_has_none(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        smtp.rcpt[P2] = "550 5.1.1 no such user"
        (batch_id,) = started(campaign)
        send(batch_id, smtp_line)
        assert counts(campaign) == {"sent": 4, "failed": 1}
        assert _doubts() == {}

    @pytest.mark.parametrize(("policy", "after"), [("hold", "unconfirmed"), ("resend", "deferred")])
    def test_one_for_each_connection_cut_after_the_mail_was_out(
        self,
        campaign: Campaign,
        smtp: SmtpServer,
        smtp_line: Line,
        settings: Settings,
        policy: str,
        after: str,
    ) -> None:
        settings.UNCONFIRMED_POLICY = policy
        smtp.drop[P2] = "after"
        (batch_id,) = started(campaign)
        send(batch_id, smtp_line)
        assert (row(P2).status, _doubts()) == (after, {P2: 1})

    @pytest.mark.parametrize(("policy", "after"), [("hold", "unconfirmed"), ("resend", "deferred")])
    def test_one_for_each_worker_that_died_before_it_recorded(
        self, campaign: Campaign, settings: Settings, policy: str, after: str
    ) -> None:
        settings.UNCONFIRMED_POLICY = policy
        (batch_id,) = started(campaign)
        lease = ledger.claim(batch_id, "a worker that dies")
        assert lease is not None
        ledger.declare(lease, [row(P2).pk], "smtp")
        Batch.objects.update(lease_until=F("lease_until") - timedelta(days=1))
        ledger.take_back_expired()
        assert (row(P2).status, _doubts()) == (after, {P2: 1})

    def test_stays_when_the_mail_is_accepted_later(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, settings: Settings
    ) -> None:
        settings.UNCONFIRMED_POLICY = "resend"
        smtp.drop[P2] = "after"
        (batch_id,) = started(campaign)
        send(batch_id, smtp_line)
        assert not row(P2).may_have_arrived_twice
        smtp.drop.clear()
        let_time_pass(batch_id)
        send(batch_id, smtp_line)
        assert smtp.recipients.count(P2) == 2
        assert (row(P2).status, row(P2).doubts, row(P2).may_have_arrived_twice) == ("sent", 1, True)
        assert not row("p1@example.com").may_have_arrived_twice


class TestAdmin:
    def test_says_what_may_have_arrived_twice(self, campaign: Campaign, boss: User) -> None:
        started(campaign)
        client = client_of(boss)
        pages = [
            reverse("admin:campaigns_deliverylog_changelist"),
            reverse("admin:campaigns_deliverylog_change", args=[row(P2).pk]),
        ]
        for doubts, words in ((1, "left once without an answer"), (2, "may have arrived more than once")):
            assert not any(words in client.get(page).text for page in pages)
            DeliveryLog.objects.filter(email=P2).update(doubts=doubts)
            assert all(words in client.get(page).text for page in pages)
