"""What operators decide about unconfirmed mails, and what follows from it."""

import threading
from collections.abc import Callable

import pytest
from django.db import connection, transaction
from pytest_django import Settings

from campaigns import actions, dispatch, ledger, lifecycle, progress, settling
from campaigns.models import (
    Batch,
    Campaign,
    CampaignStatus,
    Decision,
    DeliveryStatus,
    Recipient,
    Settlement,
    Suppression,
)
from campaigns.providers import Line
from tests.campaign_helpers import (
    clock,
    counts,
    leave_in_doubt,
    row,
    send,
    somebody_waits_for_a_lock,
    started,
)
from tests.mail_servers import SmtpServer
from tests.workers import wait_until
from users.models import User

pytestmark = pytest.mark.django_db(transaction=True)

P2 = "p2@example.com"


def _settle(campaign: Campaign, decision: Decision, by: User, note: str = "") -> int:
    return actions.settle_campaign(campaign.pk, decision, by=by, note=note, now=clock())


def _settle_rows(ids: list[int], decision: Decision, by: User) -> int:
    return actions.settle_deliveries(ids, decision, by=by, now=clock())


def _finish(campaign: Campaign) -> str:
    dispatch.finalize(campaign.pk, now=clock())
    campaign.refresh_from_db()
    return campaign.status


def _thread(work: Callable[[], object]) -> threading.Thread:
    """Return a thread that does `work` on a connection of its own."""

    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    return threading.Thread(target=run)


def _end(thread: threading.Thread) -> None:
    thread.join(timeout=120)
    assert not thread.is_alive()


def _while_uncommitted(first: Callable[[], object], second: Callable[[], object]) -> None:
    """Do `first`, and let `second` begin before that is committed."""
    other = _thread(second)
    with transaction.atomic():
        first()
        other.start()
        wait_until(somebody_waits_for_a_lock, what="the second one at the lock")
    _end(other)


@pytest.fixture
def doubtful(campaign: Campaign, smtp_line: Line) -> Campaign:
    """A completed campaign: four mails sent, p2 unconfirmed."""
    (batch_id,) = started(campaign)
    leave_in_doubt(batch_id, P2)
    send(batch_id, smtp_line)
    assert _finish(campaign) == CampaignStatus.COMPLETED
    assert counts(campaign) == {"sent": 4, "unconfirmed": 1}
    return campaign


class TestDecisions:
    def test_an_arrived_mail_counts_as_sent_at_no_known_time(self, doubtful: Campaign, boss: User) -> None:
        assert _settle(doubtful, Decision.SENT, boss) == 1
        assert counts(doubtful) == {"sent": 5}
        mail = row(P2)
        assert (mail.sent_at, mail.doubts, mail.may_have_arrived_twice) == (None, 1, False)
        assert mail.reason == (
            "boss@example.com counts it as sent; before that: "
            "it was leaving when its worker stopped; no answer was recorded"
        )

    def test_one_that_is_given_up_counts_as_failed(self, doubtful: Campaign, boss: User) -> None:
        assert _settle(doubtful, Decision.GIVE_UP, boss) == 1
        assert counts(doubtful) == {"sent": 4, "failed": 1}
        assert row(P2).reason.startswith("boss@example.com gave it up; before that: ")

    def test_one_that_is_sent_again_leaves_once_under_the_same_message_id(
        self, doubtful: Campaign, boss: User, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        message_id = row(P2).message_id
        assert _settle(doubtful, Decision.SEND_AGAIN, boss) == 1
        assert counts(doubtful) == {"sent": 4, "pending": 1}
        assert (row(P2).attempts, row(P2).not_before) == (0, None)
        (batch_id,) = dispatch.next_batches(doubtful.pk)
        send(batch_id, smtp_line)
        send(batch_id, smtp_line)
        assert smtp.recipients.count(P2) == 1
        (content,) = [content for recipient, content in smtp.accepted if recipient == P2]
        assert f"<{message_id}>".encode() in content
        assert counts(doubtful) == {"sent": 5}
        assert row(P2).may_have_arrived_twice

    @pytest.mark.parametrize("decision", Decision)
    def test_is_kept_with_who_and_when(self, doubtful: Campaign, boss: User, decision: Decision) -> None:
        now = clock()
        actions.settle_campaign(doubtful.pk, decision, by=boss, note="asked by telephone", now=now)
        (kept,) = Settlement.objects.all()
        assert (kept.delivery, kept.decision, kept.decided_at) == (row(P2), decision, now)
        assert (kept.decided_by, kept.decided_by_email) == (boss, "boss@example.com")
        assert kept.note == "asked by telephone"

    def test_outlives_the_account_of_who_made_it(self, doubtful: Campaign, boss: User) -> None:
        _settle(doubtful, Decision.SENT, boss)
        stood_for_them = f"user-{boss.pk}@deleted.invalid"
        boss.delete()
        (kept,) = Settlement.objects.all()
        assert (kept.decided_by, kept.decided_by_email) == (None, stood_for_them)

    def test_does_not_count_as_speed(self, doubtful: Campaign, boss: User) -> None:
        before = Batch.objects.get().recorded_at
        _settle(doubtful, Decision.SENT, boss)
        assert Batch.objects.get().recorded_at == before

    def test_a_second_doubt_is_settled_anew(
        self, doubtful: Campaign, boss: User, smtp_line: Line, smtp: SmtpServer
    ) -> None:
        _settle(doubtful, Decision.SEND_AGAIN, boss)
        smtp.drop[P2] = "after"
        send(Batch.objects.get().pk, smtp_line)
        assert (row(P2).status, row(P2).doubts) == ("unconfirmed", 2)
        assert _settle(doubtful, Decision.SENT, boss) == 1
        assert row(P2).may_have_arrived_twice
        history = row(P2).settlements.values_list("decision", flat=True)
        assert list(history) == ["send_again", "sent"]


class TestSendAgain:
    def test_the_usual_checks_decide_who_is_mailed(
        self, campaign: Campaign, boss: User, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        (batch_id,) = started(campaign)
        leave_in_doubt(batch_id)
        assert counts(campaign) == {"unconfirmed": 5}
        Suppression.objects.create(email="p0@example.com", reason="unsubscribe")
        Recipient.objects.filter(email="p1@example.com").delete()
        _settle(campaign, Decision.SEND_AGAIN, boss)
        send(batch_id, smtp_line)
        assert counts(campaign) == {"suppressed": 1, "cancelled": 1, "sent": 3}
        assert smtp.recipients == [P2, "p3@example.com", "p4@example.com"]

    def test_does_not_wait_for_what_is_deferred(
        self, campaign: Campaign, boss: User, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        smtp.rcpt["p3@example.com"] = "451 4.2.1 later"
        (batch_id,) = started(campaign)
        leave_in_doubt(batch_id, P2)
        send(batch_id, smtp_line)
        assert counts(campaign) == {"sent": 3, "deferred": 1, "unconfirmed": 1}
        assert dispatch.next_batches(campaign.pk) == []
        _settle(campaign, Decision.SEND_AGAIN, boss)
        assert dispatch.next_batches(campaign.pk) == [batch_id]
        send(batch_id, smtp_line)
        assert counts(campaign) == {"sent": 4, "deferred": 1}


class TestCampaign:
    def test_that_has_ended_goes_on_and_ends_again(
        self, doubtful: Campaign, boss: User, smtp_line: Line
    ) -> None:
        first_end = doubtful.finished_at
        _settle(doubtful, Decision.SEND_AGAIN, boss)
        doubtful.refresh_from_db()
        assert (doubtful.status, doubtful.finished_at) == (CampaignStatus.IN_PROGRESS, None)
        assert _finish(doubtful) == CampaignStatus.IN_PROGRESS
        send(Batch.objects.get().pk, smtp_line)
        assert _finish(doubtful) == CampaignStatus.COMPLETED
        assert first_end is not None
        assert doubtful.finished_at is not None
        assert doubtful.finished_at > first_end

    @pytest.mark.parametrize("decision", [Decision.SENT, Decision.GIVE_UP])
    def test_that_ended_rightly_stays_ended(self, doubtful: Campaign, boss: User, decision: Decision) -> None:
        first_end = doubtful.finished_at
        _settle(doubtful, decision, boss)
        doubtful.refresh_from_db()
        assert (doubtful.status, doubtful.finished_at) == (CampaignStatus.COMPLETED, first_end)

    def test_of_which_nothing_is_left_fails_after_all(self, campaign: Campaign, boss: User) -> None:
        (batch_id,) = started(campaign)
        leave_in_doubt(batch_id)
        assert _finish(campaign) == CampaignStatus.COMPLETED
        _settle(campaign, Decision.GIVE_UP, boss)
        assert _finish(campaign) == CampaignStatus.FAILED
        assert campaign.status_reason == "Not one mail was accepted; see the delivery log."
        assert counts(campaign) == {"failed": 5}

    def test_that_is_paused_stays_paused(
        self, campaign: Campaign, boss: User, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        (batch_id,) = started(campaign)
        leave_in_doubt(batch_id)
        lifecycle.pause(campaign.pk)
        assert _settle(campaign, Decision.SEND_AGAIN, boss) == 5
        campaign.refresh_from_db()
        assert campaign.status == CampaignStatus.PAUSED
        assert send(batch_id, smtp_line) is None
        assert smtp.recipients == []
        lifecycle.resume(campaign.pk)
        send(batch_id, smtp_line)
        assert counts(campaign) == {"sent": 5}

    def test_that_is_cancelled_sends_nothing_again(self, campaign: Campaign, boss: User) -> None:
        (batch_id,) = started(campaign)
        leave_in_doubt(batch_id)
        lifecycle.cancel(campaign.pk, now=clock())
        with pytest.raises(settling.CampaignCancelled, match="was cancelled, so nothing of it is sent again"):
            _settle(campaign, Decision.SEND_AGAIN, boss)
        with pytest.raises(settling.CampaignCancelled):
            _settle_rows([row(P2).pk], Decision.SEND_AGAIN, boss)
        assert counts(campaign) == {"unconfirmed": 5}
        assert not Settlement.objects.exists()

    @pytest.mark.parametrize(("decision", "status"), [(Decision.SENT, "sent"), (Decision.GIVE_UP, "failed")])
    def test_that_is_cancelled_is_settled_otherwise(
        self, campaign: Campaign, boss: User, decision: Decision, status: str
    ) -> None:
        (batch_id,) = started(campaign)
        leave_in_doubt(batch_id)
        lifecycle.cancel(campaign.pk, now=clock())
        assert _settle(campaign, decision, boss) == 5
        assert counts(campaign) == {status: 5}
        campaign.refresh_from_db()
        assert campaign.status == CampaignStatus.CANCELLED

    def test_without_doubts_has_nothing_to_settle(self, campaign: Campaign, boss: User) -> None:
        started(campaign)
        assert _settle(campaign, Decision.SEND_AGAIN, boss) == 0
        assert counts(campaign) == {"pending": 5}

    def test_is_settled_batch_by_batch(self, campaign: Campaign, boss: User, settings: Settings) -> None:
        settings.CAMPAIGN_BATCH_SIZE = 2
        batch_ids = started(campaign)
        for batch_id in batch_ids:
            leave_in_doubt(batch_id)
        with (
            transaction.atomic(),
            pytest.raises(RuntimeError, match="durable atomic block cannot be nested"),
        ):
            _settle(campaign, Decision.SENT, boss)
        assert _settle(campaign, Decision.SENT, boss) == 5
        assert counts(campaign) == {"sent": 5}


class TestNamed:
    def test_settles_only_those(self, campaign: Campaign, boss: User) -> None:
        (batch_id,) = started(campaign)
        leave_in_doubt(batch_id)
        assert _settle_rows([row(P2).pk, row("p3@example.com").pk], Decision.SENT, boss) == 2
        assert counts(campaign) == {"sent": 2, "unconfirmed": 3}

    def test_settles_none_where_one_is_not_unconfirmed(
        self, campaign: Campaign, boss: User, settings: Settings
    ) -> None:
        settings.CAMPAIGN_BATCH_SIZE = 3
        first, _ = started(campaign)
        leave_in_doubt(first)
        pending = row("p3@example.com").pk
        with pytest.raises(settling.NotUnconfirmed) as refusal:
            _settle_rows([row(P2).pk, pending, 999_999_999], Decision.GIVE_UP, boss)
        assert refusal.value.delivery_ids == [pending, 999_999_999]
        assert str(refusal.value) == (
            f"Nothing was settled, because these deliveries are not unconfirmed: {pending}, 999999999."
        )
        assert counts(campaign) == {"unconfirmed": 3, "pending": 2}
        assert not Settlement.objects.exists()

    def test_takes_no_more_than_fit_one_transaction(self, db: None, boss: User) -> None:
        with pytest.raises(settling.TooManyNamed, match="Name up to 1,000 deliveries at a time, not 1,001"):
            _settle_rows(list(range(1, 1_002)), Decision.SENT, boss)


class TestAtTheSameMoment:
    def test_a_worker_that_holds_the_batch_finds_its_own_rows_as_it_left_them(
        self, campaign: Campaign, boss: User, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        (batch_id,) = started(campaign)
        leave_in_doubt(batch_id, P2)
        lease = ledger.claim(batch_id, "a worker")
        assert lease is not None
        own = [found.id for found in ledger.due_rows(lease)]
        assert len(own) == 4
        ledger.declare(lease, own, "smtp")
        assert _settle(campaign, Decision.SEND_AGAIN, boss) == 1
        assert counts(campaign) == {"pending": 5}
        assert Batch.objects.get(id=batch_id).leaving == own
        ledger.record(lease, [ledger.Change(pk, DeliveryStatus.SENT) for pk in own])
        assert counts(campaign) == {"sent": 4, "pending": 1}
        ledger.release(lease)
        assert dispatch.next_batches(campaign.pk) == [batch_id]
        send(batch_id, smtp_line)
        assert smtp.recipients == [P2]
        assert counts(campaign) == {"sent": 5}

    def test_what_a_worker_itself_left_in_doubt_is_not_sent_by_it_again(
        self, campaign: Campaign, boss: User, smtp: SmtpServer
    ) -> None:
        (batch_id,) = started(campaign)
        lease = ledger.claim(batch_id, "a worker")
        assert lease is not None
        ledger.declare(lease, [row(P2).pk], "smtp")
        ledger.record(lease, [ledger.Change(row(P2).pk, DeliveryStatus.UNCONFIRMED, doubts=1)])
        _settle(campaign, Decision.SEND_AGAIN, boss)
        with pytest.raises(ledger.LeaseLost):  # it has its answer already
            ledger.record(lease, [ledger.Change(row(P2).pk, DeliveryStatus.SENT)])
        ledger.release(lease)
        assert counts(campaign) == {"pending": 5}

    def test_two_operators_settle_each_row_once(
        self, campaign: Campaign, boss: User, settings: Settings
    ) -> None:
        settings.CAMPAIGN_BATCH_SIZE = 1
        for batch_id in started(campaign):
            leave_in_doubt(batch_id)
        together = threading.Barrier(2)
        settled: list[int] = []

        def decide(decision: Decision) -> None:
            together.wait(timeout=120)
            settled.append(_settle(campaign, decision, boss))

        operators = [_thread(lambda: decide(Decision.SENT)), _thread(lambda: decide(Decision.GIVE_UP))]
        for operator in operators:
            operator.start()
        for operator in operators:
            _end(operator)
        assert sum(settled) == 5
        assert Settlement.objects.values("delivery").distinct().count() == 5
        decided = list(Settlement.objects.values_list("decision", flat=True))
        assert len(decided) == 5
        found = counts(campaign)
        assert found.get("sent", 0) == decided.count("sent")
        assert found.get("failed", 0) == decided.count("give_up")

    def test_the_equation_holds_at_every_reading(
        self, campaign: Campaign, boss: User, smtp: SmtpServer, smtp_line: Line, settings: Settings
    ) -> None:
        settings.CAMPAIGN_BATCH_SIZE = 1
        batch_ids = started(campaign)
        for batch_id in batch_ids[:4]:
            leave_in_doubt(batch_id)
        done = threading.Event()
        readings: list[progress.Progress] = []

        def read() -> None:
            while not done.is_set():
                readings.append(progress.of(campaign.pk))

        reader = _thread(read)
        reader.start()
        try:
            wait_until(lambda: bool(readings))
            for batch_id in batch_ids:
                send(batch_id, smtp_line)
                _settle(campaign, Decision.SEND_AGAIN, boss)
            for batch_id in batch_ids:
                send(batch_id, smtp_line)
            assert _finish(campaign) == CampaignStatus.COMPLETED
            wait_until(lambda: readings[-1].unconfirmed == 0, what="the end read")
        finally:
            done.set()
            _end(reader)
        assert {(reading.adds_up, reading.total) for reading in readings} == {(True, 5)}
        assert {reading.unconfirmed for reading in readings} >= {4, 0}
        assert sorted(smtp.recipients) == [f"p{n}@example.com" for n in range(5)]
        assert counts(campaign) == {"sent": 5}

    def test_of_two_who_name_the_same_row_the_second_is_refused(self, campaign: Campaign, boss: User) -> None:
        (batch_id,) = started(campaign)
        leave_in_doubt(batch_id)
        pk = row(P2).pk
        refused: list[list[int]] = []

        def be_second() -> None:
            try:
                _settle_rows([pk], Decision.GIVE_UP, boss)
            except settling.NotUnconfirmed as refusal:
                refused.append(refusal.delivery_ids)

        _while_uncommitted(lambda: _settle_rows([pk], Decision.SENT, boss), be_second)
        assert refused == [[pk]]
        assert counts(campaign) == {"sent": 1, "unconfirmed": 4}
        assert Settlement.objects.count() == 1

    @pytest.mark.parametrize("first", ["settling", "the end"])
    def test_no_campaign_ends_while_mails_become_pending(
        self, campaign: Campaign, boss: User, smtp: SmtpServer, smtp_line: Line, first: str
    ) -> None:
        (batch_id,) = started(campaign)
        leave_in_doubt(batch_id, P2)
        send(batch_id, smtp_line)
        pk = row(P2).pk

        def settle() -> None:
            _settle_rows([pk], Decision.SEND_AGAIN, boss)

        def end() -> None:
            dispatch.finalize(campaign.pk, now=clock())

        _while_uncommitted(*((settle, end) if first == "settling" else (end, settle)))
        campaign.refresh_from_db()
        assert (campaign.status, campaign.finished_at) == (CampaignStatus.IN_PROGRESS, None)
        assert counts(campaign) == {"sent": 4, "pending": 1}
        send(batch_id, smtp_line)
        assert smtp.recipients.count(P2) == 1
        assert _finish(campaign) == CampaignStatus.COMPLETED
