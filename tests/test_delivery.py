"""One batch: what is sent, what is written down, and what each kind of answer leads to."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from typing import Any
from unittest.mock import ANY

import pytest
from django.db import connection, transaction
from django.db.models import F
from pytest_django import Settings
from redis import Redis

from campaigns import delivery, ledger, lifecycle, sending
from campaigns.ledger import holding, steps
from campaigns.models import Batch, Campaign, DeliveryLog, DeliveryStatus, Recipient, Suppression
from campaigns.providers import Line
from tests.campaign_helpers import clock, counts, let_time_pass, row, send, somebody_waits_for_a_lock, started
from tests.mail_servers import SendGridServer, SmtpServer
from tests.workers import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

EVERYBODY = [f"p{n}@example.com" for n in range(5)]


class TestSending:
    def test_writes_once_to_each_recipient_and_keeps_the_answer(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        (batch_id,) = started(campaign)
        assert send(batch_id, smtp_line) == delivery.Handled(campaign.pk, None)
        assert smtp.recipients == EVERYBODY
        assert counts(campaign) == {"sent": 5}
        first = row("p0@example.com")
        assert (first.provider, first.provider_message_id) == ("smtp", "2.0.0 queued as Q1")
        assert (first.attempts, first.reason) == (1, "")

    def test_uses_one_connection_for_the_whole_batch(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        (batch_id,) = started(campaign)
        send(batch_id, smtp_line)
        assert smtp.connections == 1

    def test_puts_a_whole_batch_into_one_valid_sendgrid_request(
        self, campaign: Campaign, sendgrid: SendGridServer, sendgrid_line: Line
    ) -> None:
        (batch_id,) = started(campaign)
        send(batch_id, sendgrid_line)
        assert len(sendgrid.requests) == 1
        assert sendgrid.faults == []
        assert sendgrid.recipients == EVERYBODY
        assert counts(campaign) == {"sent": 5}
        assert row("p0@example.com").provider_message_id == "request-1"

    @pytest.mark.parametrize("number", [123456789012345678901, -(10**30), 10**400])
    def test_writes_numbers_of_any_size_digit_by_digit(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, number: int
    ) -> None:
        Recipient.objects.filter(email="p1@example.com").update(attributes={"city": number})
        (batch_id,) = started(campaign)
        send(batch_id, smtp_line)
        assert counts(campaign) == {"sent": 5}
        content = dict(smtp.accepted)["p1@example.com"]
        assert str(number).encode() in content.replace(b"=\r\n", b"")

    def test_leaves_a_batch_alone_that_is_done(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        (batch_id,) = started(campaign)
        send(batch_id, smtp_line)
        assert send(batch_id, smtp_line) is None
        assert smtp.recipients == EVERYBODY

    def test_leaves_a_batch_alone_that_another_worker_holds(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        (batch_id,) = started(campaign)
        assert ledger.claim(batch_id, "the other worker") is not None
        assert send(batch_id, smtp_line) is None
        assert smtp.recipients == []


class TestCheck:
    def test_skips_who_was_suppressed_after_the_start(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        Recipient.objects.filter(email="p1@example.com").update(email="P1@Example.com")
        (batch_id,) = started(campaign)
        Suppression.objects.create(email="p1@example.com", reason="unsubscribe")
        send(batch_id, smtp_line)
        assert smtp.recipients == ["p0@example.com", "p2@example.com", "p3@example.com", "p4@example.com"]
        assert counts(campaign) == {"sent": 4, "suppressed": 1}
        assert row("P1@Example.com").reason == "the address is suppressed: unsubscribe"

    def test_skips_who_is_suppressed_while_the_batch_is_under_way(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (batch_id,) = started(campaign)
        declare = ledger.declare

        def after_somebody_unsubscribed(lease: ledger.Lease, ids: Sequence[int], provider: str) -> set[int]:
            if smtp.recipients:
                Suppression.objects.get_or_create(email="p4@example.com")
            return declare(lease, ids, provider)

        monkeypatch.setattr(ledger, "declare", after_somebody_unsubscribed)
        send(batch_id, smtp_line)
        assert smtp.recipients == EVERYBODY[:4]
        assert counts(campaign) == {"sent": 4, "suppressed": 1}

    def test_skips_who_was_deleted_after_the_start(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        (batch_id,) = started(campaign)
        Recipient.objects.get(email="p4@example.com").delete()
        send(batch_id, smtp_line)
        assert smtp.recipients == EVERYBODY[:4]
        assert counts(campaign) == {"sent": 4, "cancelled": 1}

    def test_sends_the_template_as_it_was_at_the_start(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        (batch_id,) = started(campaign)
        campaign.template.subject = "Edited"
        campaign.template.save()
        send(batch_id, smtp_line)
        assert b"Subject: Hello P 0\r\n" in smtp.accepted[0][1]

    @pytest.mark.parametrize("change", [lifecycle.pause, lambda id: lifecycle.cancel(id, now=clock())])
    def test_sends_nothing_of_a_campaign_that_was_stopped(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, change: object
    ) -> None:
        (batch_id,) = started(campaign)
        assert callable(change)
        change(campaign.pk)
        assert send(batch_id, smtp_line) is None
        assert smtp.recipients == []
        assert counts(campaign) == {"pending": 5}


class TestAnswers:
    def test_a_refused_recipient_fails_and_the_others_are_sent(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        smtp.rcpt["p2@example.com"] = "550 5.1.1 No such user"
        (batch_id,) = started(campaign)
        send(batch_id, smtp_line)
        assert counts(campaign) == {"sent": 4, "failed": 1}
        assert row("p2@example.com").reason == "RCPT TO: 550 5.1.1 No such user"

    def test_a_recipient_refused_for_now_is_tried_again_after_not_before(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        smtp.rcpt["p2@example.com"] = "450 4.2.1 Too fast"
        (batch_id,) = started(campaign)
        before = clock()
        send(batch_id, smtp_line)
        assert counts(campaign) == {"sent": 4, "deferred": 1}
        deferred, batch = row("p2@example.com"), Batch.objects.get(id=batch_id)
        assert deferred.not_before is not None
        assert before + timedelta(seconds=30) <= deferred.not_before <= clock() + timedelta(seconds=90)
        assert batch.not_before == deferred.not_before
        assert send(batch_id, smtp_line) is None

        smtp.rcpt.clear()
        let_time_pass(batch_id)
        send(batch_id, smtp_line)
        assert counts(campaign) == {"sent": 5}
        assert sorted(smtp.recipients) == EVERYBODY

    def test_a_mail_with_a_time_of_its_own_lets_the_batch_rest_until_then(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        (batch_id,) = started(campaign)
        in_an_hour = clock() + timedelta(hours=1)
        DeliveryLog.objects.filter(email="p1@example.com").update(not_before=in_an_hour)
        DeliveryLog.objects.filter(email="p3@example.com").update(not_before=in_an_hour + timedelta(hours=1))
        send(batch_id, smtp_line)
        assert counts(campaign) == {"sent": 3, "pending": 2}
        assert Batch.objects.get(id=batch_id).not_before == in_an_hour
        assert send(batch_id, smtp_line) is None

    def test_a_recipient_refused_for_now_three_times_fails(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        smtp.rcpt["p2@example.com"] = "450 4.2.1 Too fast"
        (batch_id,) = started(campaign)
        for _ in range(3):
            send(batch_id, smtp_line)
            let_time_pass(batch_id)
        assert counts(campaign) == {"sent": 4, "failed": 1}
        assert row("p2@example.com").reason == "RCPT TO: 450 4.2.1 Too fast (after 3 attempts)"
        assert row("p2@example.com").attempts == 3

    def test_a_connection_cut_before_the_mail_was_out_costs_that_mail_alone_an_attempt(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        smtp.rcpt["p2@example.com"] = "421 4.7.0 Closing"
        (batch_id,) = started(campaign)
        send(batch_id, smtp_line)
        assert counts(campaign) == {"sent": 2, "deferred": 1, "pending": 2}
        assert (row("p2@example.com").attempts, row("p3@example.com").attempts) == (1, 0)
        batch = Batch.objects.get(id=batch_id)
        assert batch.trouble == "smtp: RCPT TO: 421 4.7.0 Closing"
        assert batch.not_before is not None

        smtp.rcpt.clear()
        let_time_pass(batch_id)
        send(batch_id, smtp_line)
        assert sorted(smtp.recipients) == EVERYBODY
        assert counts(campaign) == {"sent": 5}

    def test_a_mail_that_always_ends_the_connection_holds_up_no_other_and_fails_in_the_end(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, redis: Redis
    ) -> None:
        smtp.rcpt["p1@example.com"] = "421 4.7.0 Closing"
        (batch_id,) = started(campaign)
        for _ in range(3):
            send(batch_id, smtp_line)
            let_time_pass(batch_id)
            redis.delete("mailer:breaker:smtp")
        assert smtp.recipients == ["p0@example.com", "p2@example.com", "p3@example.com", "p4@example.com"]
        assert counts(campaign) == {"sent": 4, "failed": 1}

    def test_a_connection_cut_after_the_mail_was_out_leaves_it_unconfirmed_for_good(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        smtp.drop["p2@example.com"] = "after"
        (batch_id,) = started(campaign)
        send(batch_id, smtp_line)
        assert counts(campaign) == {"sent": 2, "unconfirmed": 1, "pending": 2}
        let_time_pass(batch_id)
        send(batch_id, smtp_line)
        assert counts(campaign) == {"sent": 4, "unconfirmed": 1}
        assert smtp.recipients == EVERYBODY

    def test_an_unconfirmed_mail_is_sent_again_only_where_the_policy_says_so(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, settings: Settings
    ) -> None:
        settings.UNCONFIRMED_POLICY = "resend"
        smtp.drop["p2@example.com"] = "after"
        (batch_id,) = started(campaign)
        send(batch_id, smtp_line)
        assert counts(campaign) == {"sent": 2, "deferred": 1, "pending": 2}
        smtp.drop.clear()
        let_time_pass(batch_id)
        send(batch_id, smtp_line)
        assert counts(campaign) == {"sent": 5}
        assert sorted(smtp.recipients) == sorted([*EVERYBODY, "p2@example.com"])


class TestLease:
    def test_a_pause_made_while_declaring_waited_for_the_batch_is_seen(self, campaign: Campaign) -> None:
        (batch_id,) = started(campaign)
        lease = ledger.claim(batch_id, "w")
        assert lease
        ids = [due.id for due in ledger.due_rows(lease)]
        with ThreadPoolExecutor(1) as pool:
            with transaction.atomic():
                Batch.objects.select_for_update().get(id=batch_id)
                declaring = pool.submit(_declare, lease, ids)
                wait_until(somebody_waits_for_a_lock)
                lifecycle.pause(campaign.pk)
            with pytest.raises(ledger.CampaignHeld):
                declaring.result(120)
        assert Batch.objects.get(id=batch_id).leaving == []

    def test_a_worker_that_slept_through_its_lease_sends_and_writes_nothing(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (batch_id,) = started(campaign)
        check = delivery._check

        def sleep_after_the_check(lease: ledger.Lease) -> list[ledger.Row]:
            due = check(lease)
            _expire_leases()
            assert ledger.take_back_expired() == [campaign.pk]
            return due

        monkeypatch.setattr(delivery, "_check", sleep_after_the_check)
        send(batch_id, smtp_line)
        assert smtp.recipients == []
        assert counts(campaign) == {"pending": 5}

    def test_stops_between_two_messages_when_its_lease_runs_out(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (batch_id,) = started(campaign)
        asked = iter([True, False])
        monkeypatch.setattr(sending.Sending, "_still_ours", lambda sending: next(asked, False))
        send(batch_id, smtp_line)
        assert smtp.recipients == ["p0@example.com"]
        assert counts(campaign) == {"sent": 1, "pending": 4}

    def test_what_a_dead_worker_had_declared_becomes_unconfirmed_and_the_rest_is_sent(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        (batch_id,) = started(campaign)
        lease = ledger.claim(batch_id, "a worker that dies")
        assert lease is not None
        declared = [row("p0@example.com").id, row("p1@example.com").id]
        ledger.declare(lease, declared, "smtp")
        assert send(batch_id, smtp_line) is None
        _expire_leases()
        assert ledger.take_back_expired() == [campaign.pk]
        assert counts(campaign) == {"pending": 3, "unconfirmed": 2}
        send(batch_id, smtp_line)
        assert smtp.recipients == ["p2@example.com", "p3@example.com", "p4@example.com"]
        assert counts(campaign) == {"sent": 3, "unconfirmed": 2}
        with pytest.raises(ledger.LeaseLost):
            ledger.record(lease, [ledger.Change(declared[0], DeliveryStatus.SENT)])

    def test_an_error_inside_gives_the_batch_back(
        self, campaign: Campaign, smtp_line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (batch_id,) = started(campaign)
        monkeypatch.setattr(delivery, "_compile", lambda campaign, provider: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            send(batch_id, smtp_line)
        batch = Batch.objects.get(id=batch_id)
        assert (batch.lease_until, batch.failures, batch.trouble) == (None, 1, "division by zero")
        assert batch.not_before is not None
        assert counts(campaign) == {"pending": 5}

    def test_a_slow_answer_does_not_outlast_the_lease(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, settings: Settings
    ) -> None:
        settings.LEASE_SECONDS = 10
        smtp.delay = 2.0
        (batch_id,) = started(campaign)
        send(batch_id, smtp_line)
        assert counts(campaign) == {"sent": 5}

    def test_an_answer_survives_a_connection_to_the_database_that_does_not(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (batch_id,) = started(campaign)
        whole_step, cut = steps.whole_step, iter([True])

        def cut_once(statement: str, *args: Any, **kwargs: Any) -> Any:
            if "release_batch" in statement and next(cut, False):
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            return whole_step(statement, *args, **kwargs)

        monkeypatch.setattr(holding, "whole_step", cut_once)
        send(batch_id, smtp_line)
        assert not next(cut, False)
        assert counts(campaign) == {"sent": 5}
        assert smtp.recipients == EVERYBODY

    def test_an_answer_that_nobody_awaits_is_refused_and_none_is_written(self, campaign: Campaign) -> None:
        lease, first, second = self._declared_one_of_two(campaign)
        with pytest.raises(ledger.LeaseLost, match="1 of 2 answers are awaited"):
            ledger.record(lease, [_accepted(first), _accepted(second)])
        assert counts(campaign) == {"pending": 5}
        assert Batch.objects.get().leaving == [first]

    def test_an_answer_that_a_broken_step_may_have_written_is_left_out(self, campaign: Campaign) -> None:
        lease, first, second = self._declared_one_of_two(campaign)
        lease.unsure = True
        ledger.record(lease, [_accepted(first), _accepted(second)])
        assert counts(campaign) == {"pending": 4, "sent": 1}
        assert Batch.objects.get().leaving == []

    def test_giving_back_what_was_not_worked_on_does_not_count_in_the_speed(self, campaign: Campaign) -> None:
        (batch_id,) = started(campaign)
        lease = ledger.claim(batch_id, "a worker")
        assert lease is not None
        ledger.release(lease)
        assert Batch.objects.get().recorded_at is None

    def _declared_one_of_two(self, campaign: Campaign) -> tuple[ledger.Lease, int, int]:
        (batch_id,) = started(campaign)
        lease = ledger.claim(batch_id, "a worker")
        assert lease is not None
        first, second, *_ = (due.id for due in ledger.due_rows(lease))
        ledger.declare(lease, [first], "smtp")
        return lease, first, second

    def test_each_lease_has_a_higher_token(self, campaign: Campaign) -> None:
        (batch_id,) = started(campaign)
        first = ledger.claim(batch_id, "one")
        assert first is not None
        ledger.release(first)
        second = ledger.claim(batch_id, "two")
        assert second == ledger.Lease(batch_id, campaign.pk, first.built_at, first.token + 1, 0, ANY)

    def test_a_lease_is_good_for_less_time_than_the_database_grants(
        self, campaign: Campaign, settings: Settings
    ) -> None:
        settings.LEASE_SECONDS = 10
        (batch_id,) = started(campaign)
        lease = ledger.claim(batch_id, "one")
        assert lease is not None
        assert lease.is_good()
        assert lease._good_until <= time.monotonic() + 5


def _accepted(delivery_id: int) -> ledger.Change:
    return ledger.Change(delivery_id, DeliveryStatus.SENT)


def _declare(lease: ledger.Lease, ids: Sequence[int]) -> None:
    with closing(connection):  # of this thread
        ledger.declare(lease, ids, "smtp")


def _expire_leases() -> None:
    Batch.objects.filter(lease_until__isnull=False).update(lease_until=F("lease_until") - timedelta(days=1))
