"""A mail that may have arrived ends as sent or unconfirmed, whatever else happens to it afterwards.

Under UNCONFIRMED_POLICY=resend a mail in doubt is open again. When it is then cancelled, suppressed or
refused, that says nothing of the copy that left before.
"""

import pytest
from django.db.models import Sum
from pytest_django import Settings

from campaigns import dispatch, ledger, lifecycle
from campaigns.models import Batch, Campaign, Recipient, Suppression
from campaigns.providers import Line
from tests.campaign_helpers import clock, counts, leave_in_doubt, let_time_pass, row, send, started
from tests.mail_servers import SmtpServer

pytestmark = pytest.mark.django_db(transaction=True)

P2 = "p2@example.com"


@pytest.fixture
def batch_id(campaign: Campaign, smtp: SmtpServer, smtp_line: Line, settings: Settings) -> int:
    """A batch of which one mail was accepted in silence and waits to be sent again; the rest is sent."""
    settings.UNCONFIRMED_POLICY = "resend"
    smtp.drop[P2] = "after"
    (batch_id,) = started(campaign)
    while row("p4@example.com").status != "sent":
        send(batch_id, smtp_line)
        Batch.objects.filter(id=batch_id).update(not_before=None)
    smtp.drop.clear()
    assert counts(campaign) == {"sent": 4, "deferred": 1}
    assert smtp.recipients.count(P2) == 1
    return batch_id


def _ends_unconfirmed(campaign: Campaign, reason: str) -> None:
    assert counts(campaign) == {"sent": 4, "unconfirmed": 1}
    assert row(P2).status == "unconfirmed"
    assert reason in row(P2).reason
    assert row(P2).not_before is None
    dispatch.finalize(campaign.pk, now=clock())
    campaign.refresh_from_db()
    assert campaign.status in ("completed", "cancelled")


class TestAMailInDoubtThatIsToBeSentAgain:
    def test_is_unconfirmed_when_its_campaign_is_cancelled(self, campaign: Campaign, batch_id: int) -> None:
        lifecycle.cancel(campaign.pk, now=clock())
        dispatch.finalize(campaign.pk, now=clock())
        _ends_unconfirmed(campaign, "the campaign was cancelled")

    def test_is_unconfirmed_when_its_address_was_suppressed(
        self, campaign: Campaign, batch_id: int, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        Suppression.objects.create(email=P2, reason="unsubscribe")
        let_time_pass(batch_id)
        send(batch_id, smtp_line)
        _ends_unconfirmed(campaign, "the address is suppressed: unsubscribe")
        assert smtp.recipients.count(P2) == 1

    def test_is_unconfirmed_when_its_recipient_was_deleted(
        self, campaign: Campaign, batch_id: int, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        Recipient.objects.filter(email=P2).delete()
        let_time_pass(batch_id)
        send(batch_id, smtp_line)
        _ends_unconfirmed(campaign, "the recipient was deleted")
        assert smtp.recipients.count(P2) == 1

    @pytest.mark.parametrize(
        ("happening", "reason"), [("suppress", "the address is suppressed"), ("delete", "was deleted")]
    )
    def test_is_unconfirmed_when_that_happens_just_before_it_leaves_again(
        self, campaign: Campaign, batch_id: int, happening: str, reason: str
    ) -> None:
        let_time_pass(batch_id)
        lease = ledger.claim(batch_id, "a worker")
        assert lease is not None
        (due,) = ledger.due_rows(lease)
        if happening == "suppress":
            Suppression.objects.create(email=P2)
        else:
            Recipient.objects.filter(email=P2).delete()
        assert ledger.declare(lease, [due.id], "smtp") == {due.id}
        ledger.release(lease)
        _ends_unconfirmed(campaign, reason)

    def test_is_unconfirmed_when_it_is_refused_for_good(
        self, campaign: Campaign, batch_id: int, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        smtp.rcpt[P2] = "550 5.1.1 no such user"
        let_time_pass(batch_id)
        send(batch_id, smtp_line)
        _ends_unconfirmed(campaign, "550 5.1.1 no such user")

    def test_is_unconfirmed_when_it_is_refused_for_now_once_too_often(
        self, campaign: Campaign, batch_id: int, smtp: SmtpServer, smtp_line: Line, settings: Settings
    ) -> None:
        smtp.rcpt[P2] = "450 4.2.1 try later"
        for _ in range(settings.RETRY_MAX_ATTEMPTS):
            let_time_pass(batch_id)
            send(batch_id, smtp_line)
        _ends_unconfirmed(campaign, "450 4.2.1 try later")

    def test_is_sent_when_it_is_accepted(
        self, campaign: Campaign, batch_id: int, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        let_time_pass(batch_id)
        send(batch_id, smtp_line)
        assert counts(campaign) == {"sent": 5}
        assert smtp.recipients.count(P2) == 2
        assert row(P2).may_have_arrived_twice


class TestACampaignOfWhichEverythingIsInDoubt:
    @pytest.mark.parametrize("ending", ["cancel", "suppress", "delete"])
    def test_ends_with_all_of_it_unconfirmed(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, settings: Settings, ending: str
    ) -> None:
        settings.UNCONFIRMED_POLICY = "resend"
        (batch_id,) = started(campaign)
        leave_in_doubt(batch_id)
        assert counts(campaign) == {"deferred": 5}
        match ending:
            case "cancel":
                lifecycle.cancel(campaign.pk, now=clock())
            case "suppress":
                Suppression.objects.bulk_create(
                    Suppression(email=email) for email in campaign.deliveries.values_list("email", flat=True)
                )
            case "delete":
                Recipient.objects.filter(audience=campaign.audience).delete()
        let_time_pass(batch_id)
        send(batch_id, smtp_line)
        dispatch.finalize(campaign.pk, now=clock())
        assert counts(campaign) == {"unconfirmed": 5}
        assert smtp.recipients == []
        assert campaign.deliveries.aggregate(doubts=Sum("doubts")) == {"doubts": 5}


class TestAMailThatNeverLeft:
    def test_is_cancelled_beside_one_in_doubt(self, campaign: Campaign, settings: Settings) -> None:
        settings.UNCONFIRMED_POLICY = "resend"
        (batch_id,) = started(campaign)
        leave_in_doubt(batch_id, P2)
        lifecycle.cancel(campaign.pk, now=clock())
        dispatch.finalize(campaign.pk, now=clock())
        assert counts(campaign) == {"cancelled": 4, "unconfirmed": 1}
        assert row(P2).status == "unconfirmed"
