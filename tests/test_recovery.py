"""What the tick finds after a crash, and puts right."""

from datetime import datetime, timedelta

import pytest
from django.db.models import F

from campaigns import dispatch, ledger, lifecycle, recovery, watchdog
from campaigns.models import Batch, Campaign
from campaigns.providers import Line
from campaigns.tasks import check_scheduled_campaigns
from tests.campaign_helpers import clock, counts, send, started

pytestmark = pytest.mark.django_db(transaction=True)


def _published_a_minute_ago() -> None:
    Batch.objects.filter(published_at__isnull=False).update(
        published_at=F("published_at") - timedelta(minutes=1)
    )


class TestLostMessages:
    def test_a_message_that_the_broker_does_not_hold_is_published_again(self, campaign: Campaign) -> None:
        (batch_id,) = started(campaign)
        assert dispatch.next_batches(campaign.pk) == [batch_id]
        _published_a_minute_ago()
        assert recovery.forget_lost_messages(held=0) == 1
        assert dispatch.next_batches(campaign.pk) == [batch_id]

    def test_one_that_waits_in_a_long_queue_is_not(self, campaign: Campaign) -> None:
        started(campaign)
        dispatch.next_batches(campaign.pk)
        _published_a_minute_ago()
        assert recovery.forget_lost_messages(held=1) == 0
        assert dispatch.next_batches(campaign.pk) == []

    def test_one_that_was_published_just_now_is_not(self, campaign: Campaign) -> None:
        started(campaign)
        dispatch.next_batches(campaign.pk)
        assert recovery.forget_lost_messages(held=0) == 0

    def test_one_that_a_worker_works_on_is_not(self, campaign: Campaign) -> None:
        (batch_id,) = started(campaign)
        dispatch.next_batches(campaign.pk)
        _published_a_minute_ago()
        assert ledger.claim(batch_id, "a worker") is not None
        assert recovery.forget_lost_messages(held=0) == 0


class TestExpiredLeases:
    def test_a_lease_that_holds_is_left_alone(self, campaign: Campaign, smtp_line: Line) -> None:
        (batch_id,) = started(campaign)
        assert ledger.claim(batch_id, "a worker") is not None
        assert recovery.take_back_expired_leases() == []
        assert send(batch_id, smtp_line) is None

    def test_says_whose_lease_ran_out(self, campaign: Campaign) -> None:
        (batch_id,) = started(campaign)
        ledger.claim(batch_id, "sender-2")
        Batch.objects.update(lease_until=clock() - timedelta(seconds=1))
        assert recovery.take_back_expired_leases() == [campaign.pk]
        assert Batch.objects.get().trouble == "the worker sender-2 did not finish this batch"

    def test_the_status_says_that_batches_were_left(self, campaign: Campaign) -> None:
        (batch_id,) = started(campaign)
        ledger.claim(batch_id, "sender-2")
        Batch.objects.update(lease_until=clock() - timedelta(seconds=1))
        assert watchdog.of(campaign.pk).trouble.startswith(
            "1 batch was left by a worker that has gone; the next tick takes it back"
        )


class TestTick:
    def test_does_each_step_whatever_becomes_of_the_others(
        self, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (batch_id,) = started(campaign)
        ledger.claim(batch_id, "a worker that died")
        Batch.objects.update(lease_until=clock() - timedelta(seconds=1))

        def stumble(*, now: datetime) -> list[int]:
            raise TypeError("what nobody foresaw")

        monkeypatch.setattr(dispatch, "start_due", stumble)
        with pytest.raises(ExceptionGroup, match="the tick"):
            check_scheduled_campaigns()
        assert Batch.objects.get().lease_until is None


class TestUnfinishedCampaigns:
    def test_names_running_campaigns_and_cancelled_ones_with_open_rows(
        self, campaign: Campaign, smtp_line: Line
    ) -> None:
        assert recovery.unfinished_campaigns() == []
        started(campaign)
        assert recovery.unfinished_campaigns() == [campaign.pk]
        lifecycle.cancel(campaign.pk, now=clock())
        assert recovery.unfinished_campaigns() == [campaign.pk]
        dispatch.finalize(campaign.pk, now=clock())
        assert counts(campaign) == {"cancelled": 5}
        assert recovery.unfinished_campaigns() == []
