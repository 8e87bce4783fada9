"""From a preferred time to a mail: the sweep, whoever does it and whenever."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from pytest_django import Settings

from campaigns import dispatch
from campaigns.models import Batch, Campaign, DeliveryLog, EmailTemplate, Recipient, Suppression
from campaigns.providers import Line
from schedules import allowance, broadcasting, mirrors, outcomes, planning, reading, sweeping
from schedules.models import Schedule, ScheduleRun
from tests.campaign_helpers import counts, let_time_pass, send
from tests.mail_servers import SmtpServer
from tests.schedule_helpers import MONDAY, schedule, user
from users.models import User

pytestmark = pytest.mark.django_db(transaction=True)

NINE = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def letter(db: None) -> EmailTemplate:
    return EmailTemplate.objects.create(name="Daily", subject="Good morning, {{ name }}", text="It is time.")


def runs() -> list[tuple[datetime, str]]:
    return list(ScheduleRun.objects.order_by("scheduled_for", "id").values_list("scheduled_for", "state"))


def in_parallel(count: int, work: Callable[[], Any]) -> list[Any]:
    """Do the same in several threads at one moment, each with its own connection."""
    start = threading.Barrier(count)
    results: list[Any] = []

    def one() -> None:
        start.wait()
        try:
            results.append(work())
        finally:
            connection.close()

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class TestSweep:
    def test_writes_a_run_and_the_next_moment_and_starts_a_campaign(self, letter: EmailTemplate) -> None:
        owned = schedule(user(), letter)
        assert owned.next_run_at == NINE
        swept = sweeping.sweep(now=NINE)
        owned.refresh_from_db()
        assert (owned.next_run_at, owned.last_run_for) == (NINE + DAY, NINE)
        assert runs() == [(NINE, "sending")]
        campaign = Campaign.objects.get()
        assert swept.campaign_ids == [campaign.pk]
        assert (campaign.status, campaign.subject) == ("in_progress", "Good morning, {{ name }}")
        assert list(DeliveryLog.objects.values_list("email", flat=True)) == ["asha@example.com"]
        assert sweeping.sweep(now=NINE) == sweeping.Swept()

    def test_leaves_alone_what_is_not_due(self, letter: EmailTemplate) -> None:
        schedule(user(), letter)
        assert sweeping.sweep(now=NINE - timedelta(minutes=2)) == sweeping.Swept()
        assert runs() == []

    def test_takes_what_comes_before_the_next_tick_and_holds_it_to_the_second(
        self, letter: EmailTemplate, smtp_line: Line
    ) -> None:
        now = datetime.now(UTC).replace(microsecond=0)
        at = now + timedelta(seconds=40)
        schedule(user(), letter, now=now, kind="once", at=at.isoformat())
        sweeping.sweep(now=now)
        batch = Batch.objects.get()
        assert batch.not_before == at
        assert DeliveryLog.objects.get().not_before == at
        assert send(batch.pk, smtp_line) is None
        assert dispatch.next_batches(batch.campaign_id) == []
        (seconds,) = dispatch.soon_batches(batch.campaign_id).values()
        assert (at - datetime.now(UTC)).total_seconds() <= seconds <= 40

    def test_makes_one_campaign_of_all_who_are_due_in_batches_of_the_set_size(
        self, letter: EmailTemplate, settings: Settings
    ) -> None:
        settings.CAMPAIGN_BATCH_SIZE = 2
        for n in range(5):
            schedule(user(f"u{n}@example.com"), letter)
        swept = sweeping.sweep(now=NINE)
        assert len(swept.campaign_ids) == 1
        assert list(Batch.objects.order_by("number").values_list("size", flat=True)) == [2, 2, 1]
        assert counts(Campaign.objects.get()) == {"pending": 5}
        assert ScheduleRun.objects.exclude(delivery=None).count() == 5

    def test_sends_what_the_template_says_to_that_user(
        self, letter: EmailTemplate, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        schedule(user(name="Ada Lovelace"), letter)
        sweeping.sweep(now=NINE)
        send(Batch.objects.get().pk, smtp_line)
        assert smtp.recipients == ["asha@example.com"]
        assert b"Subject: Good morning, Ada Lovelace" in smtp.accepted[0][1]
        assert outcomes.of() == outcomes.Outcomes(1, 0, 1, 0, 0, 0, 0, 0)

    def test_keeps_templates_and_variables_apart(self, letter: EmailTemplate) -> None:
        other = EmailTemplate.objects.create(name="Other", subject="{{ city }}", text="x")
        owner = user()
        schedule(owner, letter)
        schedule(owner, other, variables={"city": "Pune"})
        schedule(user("b@example.com"), other, variables={"city": "Delhi"})
        schedule(user("c@example.com"), other, variables={"city": "Delhi"})
        assert len(sweeping.sweep(now=NINE).campaign_ids) == 3
        found = Campaign.objects.values_list("template__name", "variables__city", "ledger_size")
        assert set(found) == {("Daily", None, 1), ("Other", "Delhi", 2), ("Other", "Pune", 1)}

    def test_gives_a_user_with_two_schedules_at_once_both_mails(self, letter: EmailTemplate) -> None:
        owner = user()
        schedule(owner, letter)
        schedule(owner, letter)
        schedule(user("b@example.com"), letter)
        sweeping.sweep(now=NINE)
        assert set(Campaign.objects.values_list("ledger_size", flat=True)) == {1, 2}
        assert {state for _, state in runs()} == {"sending"}

    def test_only_advances_a_schedule_without_a_template(self) -> None:
        owned = schedule(user(), None)
        assert sweeping.sweep(now=NINE) == sweeping.Swept()
        owned.refresh_from_db()
        assert owned.next_run_at == NINE + DAY

    def test_sends_nothing_to_a_user_who_was_switched_off(self, letter: EmailTemplate) -> None:
        schedule(user(is_active=False), letter)
        assert sweeping.sweep(now=NINE) == sweeping.Swept()
        assert runs() == []

    def test_lets_runs_fail_that_cannot_be_written_and_says_why(self, letter: EmailTemplate) -> None:
        schedule(user(), letter)
        EmailTemplate.objects.update(text="Dear {{ nobody }}")
        sweeping.sweep(now=NINE)
        run = ScheduleRun.objects.get()
        assert run.state == "failed"
        assert "'nobody'" in run.reason
        assert not Campaign.objects.exists()
        assert outcomes.of().failed == 1

    def test_pauses_a_schedule_that_cannot_be_read_and_runs_the_others(self, letter: EmailTemplate) -> None:
        odd = schedule(user(), letter)
        schedule(user("b@example.com"), letter)
        Schedule.objects.filter(id=odd.pk).update(recurrence={"kind": "daily"})
        sweeping.sweep(now=NINE)
        odd.refresh_from_db()
        assert odd.paused_at == NINE
        assert "cannot be read" in odd.pause_note
        assert len(runs()) == 1

    def test_finishes_a_schedule_after_its_last_moment(self, letter: EmailTemplate) -> None:
        owned = schedule(user(), letter, kind="daily", times=["09:00"], timezone="UTC", count=1)
        sweeping.sweep(now=NINE)
        owned.refresh_from_db()
        assert (owned.next_run_at, owned.state) == (None, "finished")

    def test_suppressed_users_are_not_mailed(
        self, letter: EmailTemplate, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        Suppression.objects.create(email="asha@example.com", reason="unsubscribed")
        schedule(user(), letter)
        sweeping.sweep(now=NINE)
        send(Batch.objects.get().pk, smtp_line)
        assert smtp.recipients == []
        assert outcomes.of().suppressed == 1


class TestTwoSweepsAtOnce:
    def test_run_each_moment_once(self, letter: EmailTemplate, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sweeping, "CHUNK", 7)
        monkeypatch.setattr(sweeping, "HANDED_AT_ONCE", 20)
        for n in range(100):
            schedule(user(f"u{n}@example.com"), letter)
        swept = in_parallel(4, lambda: sweeping.sweep(now=NINE))
        while more := sweeping.sweep(now=NINE).campaign_ids:
            swept.append(sweeping.Swept([], more))
        assert sorted(run for each in swept for run in each.run_ids) == sorted(
            ScheduleRun.objects.values_list("id", flat=True)
        )
        assert ScheduleRun.objects.count() == 100
        assert DeliveryLog.objects.count() == 100
        assert DeliveryLog.objects.values("email").distinct().count() == 100
        assert {state for _, state in runs()} == {"sending"}

    def test_cannot_write_a_moment_twice(self, letter: EmailTemplate) -> None:
        owned = schedule(user(), letter)
        again = {"schedule": owned, "scheduled_for": NINE, "created_at": NINE}
        ScheduleRun.objects.create(**again)
        with pytest.raises(IntegrityError, match="run_once_for_each_moment"), transaction.atomic():
            ScheduleRun.objects.create(**again)


class TestCrash:
    def test_between_planning_and_handing_over_loses_nothing(
        self, letter: EmailTemplate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        schedule(user(), letter)

        def die(**_: object) -> list[int]:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(sweeping, "hand_over", die)
            with pytest.raises(KeyboardInterrupt):
                sweeping.sweep(now=NINE)
        assert runs() == [(NINE, "due")]
        assert len(sweeping.sweep(now=NINE + timedelta(minutes=1)).campaign_ids) == 1
        assert runs() == [(NINE, "sending")]

    def test_while_handing_over_leaves_nothing_half_done(
        self, letter: EmailTemplate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        schedule(user(), letter)

        def die(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(sweeping, "_link", die)
            with pytest.raises(KeyboardInterrupt):
                sweeping.sweep(now=NINE)
        assert not Campaign.objects.exists()
        assert not DeliveryLog.objects.exists()
        sweeping.sweep(now=NINE)
        assert Campaign.objects.count() == DeliveryLog.objects.count() == 1


class TestBeatStopped:
    """The clock is an argument: what a tick finds after a time without any."""

    def test_for_ten_minutes_runs_late_and_once(self, letter: EmailTemplate) -> None:
        owned = schedule(user(), letter)
        sweeping.sweep(now=NINE + timedelta(minutes=10))
        owned.refresh_from_db()
        assert runs() == [(NINE, "sending")]
        assert DeliveryLog.objects.get().not_before is None
        assert owned.next_run_at == NINE + DAY

    def test_for_days_runs_the_latest_once(self, letter: EmailTemplate) -> None:
        schedule(user(), letter)
        sweeping.sweep(now=NINE + 3 * DAY + timedelta(minutes=10))
        assert runs() == [(NINE + 3 * DAY, "sending")]

    def test_for_longer_than_the_grace_shows_what_was_missed(self, letter: EmailTemplate) -> None:
        owned = schedule(user(), letter)
        sweeping.sweep(now=NINE + 3 * DAY + timedelta(hours=13))
        owned.refresh_from_db()
        assert runs() == [(NINE + 3 * DAY, "missed")]
        assert ScheduleRun.objects.get().reason == "It was 780 minutes late when the scheduler ran again."
        assert owned.next_run_at == NINE + 4 * DAY
        assert not Campaign.objects.exists()
        assert outcomes.of() == outcomes.Outcomes(1, 0, 0, 0, 0, 0, 0, 1)

    def test_past_a_one_off_runs_it_within_its_grace_or_shows_it(self, letter: EmailTemplate) -> None:
        for email, grace in (("a@example.com", 3600), ("b@example.com", 60)):
            owned = schedule(user(email), letter, kind="once", at="2026-05-04T09:00Z")
            Schedule.objects.filter(id=owned.pk).update(grace_seconds=grace)
        sweeping.sweep(now=NINE + timedelta(minutes=30))
        assert sorted(state for _, state in runs()) == ["missed", "sending"]
        assert not Schedule.objects.exclude(next_run_at=None).exists()


class TestPause:
    def test_keeps_it_from_running_and_resume_makes_up_for_nothing(self, letter: EmailTemplate) -> None:
        owned = schedule(user(), letter)
        paused = planning.pause(owned.pk, note="on leave", now=MONDAY)
        assert (paused.state, paused.next_run_at, paused.pause_note) == ("paused", None, "on leave")
        assert sweeping.sweep(now=NINE + DAY) == sweeping.Swept()
        resumed = planning.resume(owned.pk, now=NINE + 10 * DAY + timedelta(hours=1))
        assert (resumed.state, resumed.next_run_at) == ("active", NINE + 11 * DAY)
        assert sweeping.sweep(now=NINE + 10 * DAY + timedelta(hours=1)) == sweeping.Swept()
        assert runs() == []

    def test_outlasts_an_edit(self, letter: EmailTemplate) -> None:
        owned = schedule(user(), letter)
        planning.pause(owned.pk, now=MONDAY)
        when = reading.read({"kind": "daily", "times": ["10:00"]}, now=MONDAY, default_timezone="UTC")
        edited = planning.edit(owned.pk, when, {"name": "Ten"}, now=MONDAY)
        assert (edited.state, edited.next_run_at) == ("paused", None)
        assert planning.resume(owned.pk, now=MONDAY).next_run_at == datetime(2026, 5, 4, 10, 0, tzinfo=UTC)


class TestPlanning:
    def test_refuses_a_template_that_names_what_nobody_gives(self, letter: EmailTemplate) -> None:
        EmailTemplate.objects.update(text="Dear {{ name }} of {{ city }}")
        letter.refresh_from_db()
        with pytest.raises(ValidationError) as refusal:
            schedule(user(), letter)
        assert list(refusal.value.message_dict) == ["variables"]
        schedule(user(), letter, variables={"city": "Pune"})

    def test_lets_a_user_have_so_many(self, letter: EmailTemplate, settings: Settings) -> None:
        settings.SCHEDULES_PER_USER = 2
        owner = user()
        schedule(owner, letter)
        schedule(owner, letter)
        with pytest.raises(planning.TooManySchedules):
            schedule(owner, letter)
        assert Schedule.objects.count() == 2

    def test_bounds_what_each_campaign_of_a_schedule_copies(self, letter: EmailTemplate) -> None:
        owned = schedule(user(), letter, variables={"city": "x" * 9_000})
        too_large = {"variables": {"city": "x" * 10_000}}
        with pytest.raises(ValidationError) as refusal:
            planning.edit(owned.pk, None, too_large, now=MONDAY)
        assert refusal.value.message_dict == {
            "variables": ["They have 10,012 characters as JSON; at most 10,000 are allowed."]
        }
        owned.refresh_from_db()
        assert owned.variables == {"city": "x" * 9_000}


class TestAllowance:
    """As anybody may register with anybody's address."""

    def test_ends_what_schedules_send_in_a_day_and_says_so(
        self, letter: EmailTemplate, settings: Settings
    ) -> None:
        settings.SCHEDULE_MAILS_PER_DAY = 3
        for _ in range(4):
            schedule(user(), letter)
        schedule(user("ravi@example.com"), letter)
        sweeping.sweep(now=NINE)
        sent = ScheduleRun.objects.filter(state="sending").values_list("schedule__user__email", flat=True)
        assert sorted(sent) == [*["asha@example.com"] * 3, "ravi@example.com"]
        refused = ScheduleRun.objects.get(state="failed")
        assert refused.reason == "Your schedules have sent 3 mails today (UTC), as many as they may."
        assert outcomes.of(user().pk).failed == 1
        sweeping.sweep(now=NINE + DAY)
        assert ScheduleRun.objects.filter(state="sending").count() == 8

    def test_is_not_won_back_by_deleting_schedules(self, letter: EmailTemplate, settings: Settings) -> None:
        settings.SCHEDULE_MAILS_PER_DAY = 2
        for _ in range(3):
            schedule(user(), letter)
            sweeping.sweep(now=NINE)
            Schedule.objects.all().delete()
        assert DeliveryLog.objects.count() == 2

    def test_is_no_limit_to_operators(self, letter: EmailTemplate, settings: Settings) -> None:
        settings.SCHEDULE_MAILS_PER_DAY = 0
        schedule(user(is_staff=True), letter)
        schedule(user("ravi@example.com"), letter)
        sweeping.sweep(now=NINE)
        assert [each.email for each in DeliveryLog.objects.all()] == ["asha@example.com"]

    def test_is_forgotten_when_the_day_is_over(self, letter: EmailTemplate) -> None:
        schedule(user(), letter)
        sweeping.sweep(now=NINE)
        assert allowance.forget_old(now=NINE) == 0
        assert allowance.forget_old(now=NINE + DAY) == 1


class TestMirrors:
    def test_follow_the_user(self) -> None:
        owner = user()
        first = mirrors.recipients_of([owner.pk])
        User.objects.update(name="Asha Rao", timezone="Europe/Paris")
        assert mirrors.recipients_of([owner.pk]) == first
        mirror = Recipient.objects.get()
        assert (mirror.name, mirror.timezone, mirror.user) == ("Asha Rao", "Europe/Paris", owner)

    def test_of_a_new_address_cancel_what_was_open_to_the_old_one(
        self, letter: EmailTemplate, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        owner = user()
        schedule(owner, letter)
        sweeping.sweep(now=NINE)
        User.objects.update(email="new@example.com")
        sweeping.sweep(now=NINE + DAY)
        for batch_id in Batch.objects.order_by("id").values_list("id", flat=True):
            send(batch_id, smtp_line)
        assert smtp.recipients == ["new@example.com"]
        assert (outcomes.of().cancelled, outcomes.of().sent) == (1, 1)

    def test_of_a_deleted_user_are_gone_and_nothing_leaves(
        self, letter: EmailTemplate, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        owner = user()
        schedule(owner, letter)
        sweeping.sweep(now=NINE)
        owner.delete()
        send(Batch.objects.get().pk, smtp_line)
        assert smtp.recipients == []
        assert counts(Campaign.objects.get()) == {"cancelled": 1}

    def test_let_an_address_go_from_one_user_to_another(self) -> None:
        a, b = user("a@example.com"), user("b@example.com")
        mirrors.recipients_of([a.pk, b.pk])
        User.objects.filter(id=a.pk).update(email="c@example.com")
        User.objects.filter(id=b.pk).update(email="a@example.com")
        found = mirrors.recipients_of([a.pk, b.pk])
        emails = {key: Recipient.objects.get(id=value).email for key, value in found.items()}
        assert emails == {a.pk: "c@example.com", b.pk: "a@example.com"}


class TestBroadcast:
    def test_holds_each_mail_until_its_user_s_next_moment(
        self, letter: EmailTemplate, smtp: SmtpServer, smtp_line: Line, boss: User
    ) -> None:
        asha, ravi, late = user(), user("ravi@example.com"), user("late@example.com")
        user("gone@example.com", is_active=False)
        schedule(asha, None)
        schedule(asha, None, kind="daily", times=["08:00"], timezone="UTC")
        schedule(ravi, None, kind="weekly", weekdays=["wednesday"], times=["10:00"], timezone="UTC")
        schedule(late, None, kind="once", at="2026-08-01T09:00Z")
        broadcast = broadcasting.create(letter, {}, by=boss, now=MONDAY)
        assert broadcasting.waiting() == [broadcast.pk]
        assert broadcasting.start(broadcast.pk, now=MONDAY) == broadcast.campaign_id
        assert dict(DeliveryLog.objects.values_list("email", "not_before")) == {
            "asha@example.com": datetime(2026, 5, 4, 8, 0, tzinfo=UTC),
            "ravi@example.com": datetime(2026, 5, 6, 10, 0, tzinfo=UTC),
            "late@example.com": MONDAY + timedelta(days=7),
            "boss@example.com": None,
        }
        assert broadcasting.waiting() == []
        assert broadcasting.start(broadcast.pk, now=MONDAY) is None
        for batch in Batch.objects.order_by("id"):
            let_time_pass(batch.pk)
            send(batch.pk, smtp_line)
        assert len(smtp.recipients) == 4

    def test_waits_for_a_moment_that_the_tick_has_taken_already(
        self, letter: EmailTemplate, boss: User
    ) -> None:
        """Or it would come a day late, and to a user with a one-off at once."""
        asha, ravi, quiet = user(), user("ravi@example.com"), user("quiet@example.com")
        schedule(asha, letter)
        schedule(ravi, None, kind="once", at="2026-05-04T09:00:10Z")
        planning.pause(schedule(quiet, None).pk, now=NINE)
        now = NINE - timedelta(seconds=20)
        sweeping.sweep(now=now)
        broadcast = broadcasting.create(letter, {}, by=boss, now=now)
        broadcasting.start(broadcast.pk, now=now)
        mails = DeliveryLog.objects.filter(campaign=broadcast.campaign)
        assert dict(mails.values_list("email", "not_before")) == {
            "asha@example.com": NINE,
            "ravi@example.com": NINE + timedelta(seconds=10),
            "quiet@example.com": None,
            "boss@example.com": None,
        }

    def test_goes_at_once_to_whose_moment_has_come_and_was_not_taken(
        self, letter: EmailTemplate, boss: User
    ) -> None:
        schedule(user(), None)
        late = NINE + timedelta(hours=1)
        broadcast = broadcasting.create(letter, {}, by=boss, now=late)
        broadcasting.start(broadcast.pk, now=late)
        assert DeliveryLog.objects.get(email="asha@example.com").not_before == NINE

    def test_that_cannot_be_sent_fails_and_says_why(
        self, letter: EmailTemplate, boss: User, settings: Settings
    ) -> None:
        broadcast = broadcasting.create(letter, {}, by=boss, now=MONDAY)
        settings.DEFAULT_FROM_EMAIL = ""
        assert broadcasting.start(broadcast.pk, now=MONDAY) is None
        failed = Campaign.objects.get(id=broadcast.campaign_id)
        assert failed.status == "failed"
        assert failed.status_reason.startswith("from_email: ")
        assert broadcasting.waiting() == []

    def test_is_one_campaign_in_chunks_of_users(
        self, letter: EmailTemplate, boss: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(broadcasting, "CHUNK", 3)
        for n in range(10):
            schedule(user(f"u{n}@example.com"), None)
        broadcast = broadcasting.create(letter, {}, by=boss, now=MONDAY)
        broadcasting.start(broadcast.pk, now=MONDAY)
        assert counts(broadcast.campaign) == {"pending": 11}
