"""From a due campaign to batches in the queue, and from the last batch to the end."""

from datetime import datetime, timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from pytest_django import Settings

from campaigns import dispatch, ledger, lifecycle, preflight, progress
from campaigns.models import Batch, Campaign, DeliveryLog, EmailTemplate, ImportJob, Recipient
from campaigns.providers import Line
from tests.campaign_helpers import clock, counts, send, started
from tests.mail_servers import SmtpServer

pytestmark = pytest.mark.django_db(transaction=True)


class TestStartDue:
    def test_starts_what_is_due_and_nothing_else(self, campaign: Campaign, now: datetime) -> None:
        start_at = now + timedelta(minutes=2)
        lifecycle.schedule(campaign.pk, scheduled_at=start_at, timezone=None, now=now)
        assert dispatch.start_due(now=start_at - timedelta(seconds=1)) == []
        assert dispatch.start_due(now=start_at) == [campaign.pk]
        assert dispatch.start_due(now=start_at) == []
        campaign.refresh_from_db()
        assert (campaign.status, campaign.started_at) == ("in_progress", start_at)

    def test_a_campaign_that_became_unsendable_fails_and_says_why(
        self, campaign: Campaign, now: datetime
    ) -> None:
        start_at = now + timedelta(minutes=2)
        lifecycle.schedule(campaign.pk, scheduled_at=start_at, timezone=None, now=now)
        Recipient.objects.all().delete()
        assert dispatch.start_due(now=start_at) == []
        campaign.refresh_from_db()
        assert campaign.status == "failed"
        assert campaign.status_reason.startswith("audience: The audience 'Friends' has no recipients.")
        assert progress.of(campaign.pk).adds_up

    def test_one_that_nobody_foresaw_fails_alone(
        self, campaign: Campaign, now: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        odd = Campaign.objects.create(name="Odd", audience=campaign.audience, template=campaign.template)
        start_at = now + timedelta(minutes=2)
        for scheduled in (odd, campaign):
            lifecycle.schedule(scheduled.pk, scheduled_at=start_at, timezone=None, now=now)
        check = preflight.check

        def stumble(one: Campaign) -> None:
            if one.pk == odd.pk:
                raise TypeError("what nobody foresaw")
            check(one)

        monkeypatch.setattr(preflight, "check", stumble)
        assert dispatch.start_due(now=start_at) == [campaign.pk]
        odd.refresh_from_db()
        assert odd.status == "failed"
        assert odd.status_reason == "It could not be started: TypeError('what nobody foresaw')"

    def test_the_total_of_one_that_failed_does_not_follow_its_audience(
        self, campaign: Campaign, now: datetime
    ) -> None:
        lifecycle.cancel(campaign.pk, now=now)
        Recipient.objects.filter(email="p0@example.com").delete()
        ended = progress.of(campaign.pk)
        assert (ended.total, ended.cancelled, ended.adds_up) == (5, 5, True)


class TestBuildLedger:
    def test_writes_one_row_per_recipient_in_batches_of_the_set_size(
        self, campaign: Campaign, settings: Settings
    ) -> None:
        settings.CAMPAIGN_BATCH_SIZE = 2
        batches = started(campaign)
        assert list(Batch.objects.values_list("number", "size", "pending")) == [
            (1, 2, 2),
            (2, 2, 2),
            (3, 1, 1),
        ]
        rows = DeliveryLog.objects.order_by("id").values_list("batch_id", "email", "status")
        assert list(rows) == [(batches[n // 2], f"p{n}@example.com", "pending") for n in range(5)]
        assert counts(campaign) == {"pending": 5}

    def test_gives_each_mail_a_message_id_of_its_own_in_the_senders_domain(self, campaign: Campaign) -> None:
        started(campaign)
        message_ids = set(DeliveryLog.objects.values_list("message_id", flat=True))
        assert len(message_ids) == 5
        assert {message_id.partition("@")[2] for message_id in message_ids} == {"example.com"}

    def test_waits_while_half_an_import_is_in_the_audience(self, campaign: Campaign) -> None:
        job = ImportJob.objects.create(
            audience=campaign.audience, original_name="p.csv", status="running", written_through=50_000
        )
        started(campaign)
        assert not DeliveryLog.objects.exists()
        ImportJob.objects.filter(pk=job.pk).update(status="completed")
        dispatch.build_ledger(campaign.pk, now=clock())
        assert counts(campaign) == {"pending": 5}

    def test_does_it_once(self, campaign: Campaign) -> None:
        started(campaign)
        dispatch.build_ledger(campaign.pk, now=clock())
        assert counts(campaign) == {"pending": 5}

    def test_a_recipient_added_later_is_not_part_of_it(self, campaign: Campaign) -> None:
        started(campaign)
        Recipient.objects.create(audience=campaign.audience, email="late@example.com")
        assert progress.of(campaign.pk).total == 5

    def test_the_same_address_cannot_stand_in_it_twice(self, campaign: Campaign) -> None:
        (batch_id,) = started(campaign)
        with pytest.raises(IntegrityError, match="delivery_email_unique_in_campaign"), transaction.atomic():
            DeliveryLog.objects.create(
                campaign=campaign, batch_id=batch_id, email="P0@EXAMPLE.com", message_id="x"
            )

    def test_counters_that_do_not_add_up_cannot_be_stored(self, campaign: Campaign) -> None:
        (batch_id,) = started(campaign)
        with pytest.raises(IntegrityError, match="batch_counters_add_up"), transaction.atomic():
            Batch.objects.filter(id=batch_id).update(sent=1)

    def test_a_campaign_that_cannot_be_sent_after_all_fails(self, campaign: Campaign) -> None:
        lifecycle.start(campaign.pk, now=clock())
        EmailTemplate.objects.update(html="{{ oops")
        dispatch.build_ledger(campaign.pk, now=clock())
        campaign.refresh_from_db()
        assert campaign.status == "failed"
        assert campaign.status_reason.startswith("template: 'Greeting': HTML, line 1: ")
        assert DeliveryLog.objects.count() == 0


class TestNextBatches:
    def test_keeps_no_more_than_a_window_of_messages_in_the_queue(
        self, campaign: Campaign, smtp_line: Line, settings: Settings
    ) -> None:
        settings.CAMPAIGN_BATCH_SIZE, settings.CAMPAIGN_WINDOW = 1, 2
        batches = started(campaign)
        assert dispatch.next_batches(campaign.pk) == batches[:2]
        assert dispatch.next_batches(campaign.pk) == []
        send(batches[0], smtp_line)
        assert dispatch.next_batches(campaign.pk) == [batches[2]]

    def test_publishes_nothing_of_a_paused_campaign(self, campaign: Campaign) -> None:
        batches = started(campaign)
        lifecycle.pause(campaign.pk)
        assert dispatch.next_batches(campaign.pk) == []
        lifecycle.resume(campaign.pk)
        assert dispatch.next_batches(campaign.pk) == batches

    def test_a_message_used_up_while_paused_is_published_again_after_the_resume(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        (batch_id,) = started(campaign)
        assert dispatch.next_batches(campaign.pk) == [batch_id]
        lifecycle.pause(campaign.pk)
        assert send(batch_id, smtp_line) is None
        lifecycle.resume(campaign.pk)
        assert dispatch.next_batches(campaign.pk) == [batch_id]

    def test_leaves_out_what_waits_for_its_time(self, campaign: Campaign) -> None:
        (batch_id,) = started(campaign)
        Batch.objects.update(not_before=clock() + timedelta(minutes=1))
        assert dispatch.next_batches(campaign.pk) == []
        Batch.objects.update(not_before=clock())
        assert dispatch.next_batches(campaign.pk) == [batch_id]


class TestIsToEnd:
    def test_not_while_anything_is_open(self, campaign: Campaign) -> None:
        started(campaign)
        assert not dispatch.is_to_end(campaign.pk)

    def test_not_while_a_worker_has_the_last_answers_in_hand(self, campaign: Campaign) -> None:
        (batch_id,) = started(campaign)
        assert ledger.claim(batch_id, "a worker")
        Batch.objects.update(sent=F("pending"), pending=0)
        assert not dispatch.is_to_end(campaign.pk)

    def test_once_nothing_is_open_or_held(self, campaign: Campaign) -> None:
        started(campaign)
        Batch.objects.update(sent=F("pending"), pending=0)
        assert dispatch.is_to_end(campaign.pk)

    def test_of_a_cancelled_one_at_once_for_there_is_something_to_cancel(self, campaign: Campaign) -> None:
        (batch_id,) = started(campaign)
        assert ledger.claim(batch_id, "a worker")
        lifecycle.cancel(campaign.pk, now=clock())
        assert dispatch.is_to_end(campaign.pk)

    def test_not_of_one_that_is_gone(self) -> None:
        assert not dispatch.is_to_end(12345)


class TestFinalize:
    def test_completes_a_campaign_whose_rows_all_have_an_answer(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, now: datetime
    ) -> None:
        smtp.rcpt["p0@example.com"] = "550 5.1.1 No such user"
        (batch_id,) = started(campaign)
        dispatch.finalize(campaign.pk, now=now)
        campaign.refresh_from_db()
        assert campaign.status == "in_progress"
        send(batch_id, smtp_line)
        dispatch.finalize(campaign.pk, now=now)
        campaign.refresh_from_db()
        assert (campaign.status, campaign.finished_at) == ("completed", now)

    def test_calls_a_campaign_failed_of_which_nothing_was_accepted(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, now: datetime
    ) -> None:
        smtp.rcpt = {f"p{n}@example.com": "550 5.1.1 No such user" for n in range(5)}
        (batch_id,) = started(campaign)
        send(batch_id, smtp_line)
        dispatch.finalize(campaign.pk, now=now)
        campaign.refresh_from_db()
        assert campaign.status == "failed"
        assert campaign.status_reason == "Not one mail was accepted; see the delivery log."

    def test_refuses_to_finish_a_campaign_that_lost_a_row(
        self, campaign: Campaign, smtp_line: Line, now: datetime
    ) -> None:
        (batch_id,) = started(campaign)
        send(batch_id, smtp_line)
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM campaigns_deliverylog WHERE email = 'p3@example.com'")
        with pytest.raises(dispatch.LedgerBroken):
            dispatch.finalize(campaign.pk, now=now)
        campaign.refresh_from_db()
        assert campaign.status == "in_progress"


class TestCancel:
    def test_cancels_what_has_not_left_and_keeps_what_was_sent(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, settings: Settings
    ) -> None:
        settings.CAMPAIGN_BATCH_SIZE = 2
        batches = started(campaign)
        send(batches[0], smtp_line)
        held = ledger.claim(batches[1], "another worker")
        assert held is not None
        lifecycle.cancel(campaign.pk, now=clock())
        dispatch.finalize(campaign.pk, now=clock())
        assert counts(campaign) == {"sent": 2, "pending": 2, "cancelled": 1}

        ledger.release(held)
        dispatch.finalize(campaign.pk, now=clock())
        assert counts(campaign) == {"sent": 2, "cancelled": 3}
        assert smtp.recipients == ["p0@example.com", "p1@example.com"]
