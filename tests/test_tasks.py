"""A user's jobs: queued, run, tried again, ended, told of."""

import json
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import IntegrityError, transaction
from django.db.models import F
from pytest_django import Settings

from campaigns.mail import send_email
from campaigns.models import Audience, OutboundEmail, Recipient
from schedules import assigning, kinds, queueing, reading, running
from schedules.kinds import Kind, PayloadRefused, TaskFailed, Work, WorkResult, processing
from schedules.models import Task, TaskRun
from schedules.tasks import look_at_task, run_task
from tests.schedule_helpers import MONDAY, user
from users import accounts
from users.models import User

pytestmark = pytest.mark.django_db(transaction=True)

NINE = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)
LETTER = {"subject": "Hello", "body": "It is time."}


@pytest.fixture
def media(settings: Settings, tmp_path: Path) -> Path:
    settings.MEDIA_ROOT = str(tmp_path)
    return tmp_path


class Scripted:
    """A kind whose tries do what the test says, one after the other; the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Exception | None] = [None]
        self.tries = 0

    def run(self, work: Work) -> WorkResult:
        answer = self.answers[min(self.tries, len(self.answers) - 1)]
        self.tries += 1
        if answer:
            raise answer
        return WorkResult({"done": self.tries})


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    script = Scripted()
    kinds.KINDS["scripted"] = Kind("scripted", "For tests.", lambda payload, *_: dict(payload), script.run)
    yield script
    del kinds.KINDS["scripted"]


def make(owner: User | None = None, kind: str = "send_email", **given: Any) -> Task:
    """Store a task, at once unless `recurrence` says when; by the clock of MONDAY."""
    recurrence = given.pop("recurrence", None)
    when = reading.read(recurrence, now=MONDAY, default_timezone="UTC") if recurrence else None
    file, payload = given.pop("file", None), given.pop("payload", LETTER if kind == "send_email" else {})
    fields = {"title": "Hello", "kind": kind, "payload": payload, **given}
    return assigning.create(owner or user(), fields, when=when, file=file, now=MONDAY)


def run_of(task: Task) -> TaskRun:
    return TaskRun.objects.filter(task=task).latest("scheduled_for")


def work(task: Task, *, now: datetime = NINE) -> TaskRun:
    running.run(run_of(task).pk, clock=lambda: now)
    task.refresh_from_db()
    return run_of(task)


def mails() -> list[str]:
    return list(OutboundEmail.objects.order_by("id").values_list("subject", flat=True))


DAILY = {"kind": "daily", "times": ["09:00"], "timezone": "UTC"}


class TestAtOnce:
    def test_is_queued_run_and_told_of(self) -> None:
        task = make()
        assert (task.status, run_of(task).state) == ("pending", "queued")
        run = work(task)
        assert (run.state, run.attempts, run.error) == ("completed", 1, "")
        assert run.result is not None
        assert run.result["recipients"] == 1
        assert run.late_seconds is not None
        assert task.status == "completed"
        assert mails() == ["Hello", "Done: Hello"]

    def test_is_done_once_however_many_messages_come(self) -> None:
        task = make()
        work(task)
        work(task)
        assert run_of(task).attempts == 1
        assert mails() == ["Hello", "Done: Hello"]

    def test_tells_nobody_who_does_not_want_to_know(self) -> None:
        work(make(user(notify_completed=False)))
        assert mails() == ["Hello"]


class TestSweep:
    def test_queues_a_run_for_its_moment_and_plans_the_next(self) -> None:
        task = make(recurrence=DAILY)
        assert queueing.sweep(now=NINE - timedelta(seconds=30)) == 1
        run = run_of(task)
        assert (run.scheduled_for, run.not_before, run.state) == (NINE, NINE, "queued")
        task.refresh_from_db()
        assert task.next_run_at == NINE + DAY
        (told,) = queueing.to_publish(now=NINE - timedelta(seconds=30))
        assert told == queueing.Hint(run.pk, False, 30)
        assert queueing.to_publish(now=NINE) == []
        assert len(queueing.to_publish(now=NINE + timedelta(minutes=6))) == 1

    def test_shows_what_was_missed(self) -> None:
        task = make(recurrence=DAILY)
        queueing.sweep(now=NINE + timedelta(hours=2))
        assert (run_of(task).state, task.status) == ("missed", "pending")

    def test_calls_a_task_failed_whose_only_moment_was_missed(self) -> None:
        task = make(recurrence={"kind": "once", "at": "2026-05-04T09:00:00"})
        queueing.sweep(now=NINE + timedelta(hours=2))
        task.refresh_from_db()
        assert (run_of(task).state, task.status) == ("missed", "failed")
        assert (
            task.last_error == run_of(task).error == "It was 120 minutes late when the scheduler ran again."
        )

    def test_skips_a_moment_while_the_run_before_is_not_at_its_end(self) -> None:
        task = make(recurrence=DAILY)
        queueing.sweep(now=NINE)
        queueing.sweep(now=NINE + DAY)
        assert list(task.runs.order_by("scheduled_for").values_list("state", flat=True)) == [
            "queued",
            "skipped",
        ]

    def test_runs_a_moment_although_a_run_is_open_shortly_before_it(self) -> None:
        task = make(recurrence={"kind": "once", "at": "2026-05-04T09:00:00"})
        before = NINE - timedelta(seconds=45)
        by_hand = assigning.run(task.pk, now=before)
        assert queueing.sweep(now=before) == 0
        running.run(by_hand.pk, clock=lambda: before)
        assert queueing.sweep(now=NINE - timedelta(seconds=44), task_id=task.pk) == 1
        run = run_of(task)
        assert (run.scheduled_for, run.state) == (NINE, "queued")

    def test_plans_each_moment_of_every_minute_in_its_turn(self) -> None:
        task = make(recurrence={"kind": "interval", "interval_seconds": 60, "start": "2026-05-04T09:00:05Z"})
        for minute in range(3):
            tick = NINE + minute * timedelta(minutes=1)
            queueing.sweep(now=tick)
            work(task, now=tick + timedelta(seconds=6))
        states = list(task.runs.values_list("state", flat=True))
        assert states == ["completed"] * 3

    def test_sets_one_aside_that_cannot_be_read_and_runs_all_the_others(self) -> None:
        odd, good = make(recurrence=DAILY), make(recurrence=DAILY)
        Task.objects.filter(id=odd.pk).update(recurrence={"kind": "weekly"}, next_run_at=NINE)
        assert queueing.sweep(now=NINE) == 2
        odd.refresh_from_db()
        assert (odd.next_run_at, odd.paused_at) == (None, NINE)
        assert odd.pause_note.startswith("It cannot be read: ")
        assert run_of(good).state == "queued"
        assert queueing.sweep(now=NINE) == 0

    def test_ends_with_a_one_off(self) -> None:
        task = make(recurrence={"kind": "once", "at": "2026-05-04T09:00:00"})
        queueing.sweep(now=NINE)
        work(task, now=NINE)
        assert (task.status, task.next_run_at) == ("completed", None)

    def test_leaves_out_those_who_were_switched_off(self) -> None:
        task = make(recurrence=DAILY)
        User.objects.update(is_active=False)
        queueing.sweep(now=NINE)
        assert not task.runs.exists()

    def test_has_one_open_run_of_a_task_by_the_database(self) -> None:
        task = make()
        with pytest.raises(IntegrityError, match="one_open_run_of_a_task"), transaction.atomic():
            TaskRun.objects.create(task=task, scheduled_for=NINE)


class TestRetries:
    def test_happen_inside_one_run_and_are_told_of_once(self, scripted: Scripted) -> None:
        scripted.answers = [OSError("away"), OSError("away"), None]
        task = make(kind="scripted")
        first = running.run(run_of(task).pk, clock=lambda: NINE)
        assert first is not None
        assert 10 <= first <= 30
        run = run_of(task)
        assert (run.state, run.error) == ("queued", "OSError: away")
        assert task.status == "pending"
        assert mails() == []
        for _ in range(2):
            TaskRun.objects.update(not_before=None)
            run = work(task)
        assert (run.state, run.attempts, run.result) == ("completed", 3, {"done": 3})
        assert mails() == ["Done: Hello"]

    def test_end_in_a_failure_with_its_reason(self, scripted: Scripted) -> None:
        scripted.answers = [OSError("away")]
        task = make(kind="scripted", retries=1)
        for _ in range(3):
            TaskRun.objects.update(not_before=None)
            run = work(task)
        assert (run.state, run.attempts, run.error) == ("failed", 2, "OSError: away")
        assert (task.status, task.last_error, task.failures) == ("failed", "OSError: away", 1)
        assert mails() == ["Failed: Hello"]

    def test_are_not_made_of_what_cannot_succeed(self, scripted: Scripted) -> None:
        scripted.answers = [TaskFailed("there is nothing to do")]
        task = make(kind="scripted")
        assert work(task).state == "failed"
        assert scripted.tries == 1


class TestFailures:
    def test_ten_in_a_row_pause_the_task_and_its_owner_is_told(self, scripted: Scripted) -> None:
        scripted.answers = [TaskFailed("no")]
        task = make(kind="scripted", recurrence=DAILY)
        for day in range(12):
            queueing.sweep(now=NINE + day * DAY)
            if TaskRun.objects.filter(state="queued").exists():
                TaskRun.objects.update(not_before=None)
                work(task)
        task.refresh_from_db()
        assert (task.failures, task.next_run_at) == (10, None)
        assert task.pause_note == "10 runs in a row failed."
        assert task.runs.count() == 10
        assert mails() == ["Failed: Hello"] * 10
        assert "It is paused" in OutboundEmail.objects.latest("id").text

        scripted.answers = [None]
        resumed = assigning.resume(task.pk, now=NINE + 20 * DAY)
        assert (resumed.failures, resumed.next_run_at) == (0, NINE + 21 * DAY)

    def test_are_counted_anew_after_a_success(self, scripted: Scripted) -> None:
        scripted.answers = [TaskFailed("no"), None]
        task = make(kind="scripted", recurrence=DAILY)
        for day in range(2):
            queueing.sweep(now=NINE + day * DAY)
            TaskRun.objects.update(not_before=None)
            work(task)
        assert (task.status, task.failures, task.last_error) == ("completed", 0, "")


def die_in(task: Task) -> TaskRun:
    """Claim the run in the name of a worker that then dies; its lease has run out."""
    claimed = running._claim(run_of(task).pk)
    assert claimed is not None
    TaskRun.objects.filter(id=claimed.pk).update(lease_until=F("lease_until") - DAY)
    return claimed


class TestWorkerThatDies:
    def test_leaves_a_run_that_is_tried_again(self, scripted: Scripted) -> None:
        task = make(kind="scripted")
        die_in(task)
        assert queueing.take_back(now=NINE) == [run_of(task).pk]
        TaskRun.objects.update(not_before=None)
        run = work(task)
        assert (run.state, run.attempts) == ("completed", 2)

    def test_too_often_fails_it(self, scripted: Scripted) -> None:
        task = make(kind="scripted", retries=0)
        die_in(task)
        queueing.take_back(now=NINE)
        assert (run_of(task).state, run_of(task).error) == ("failed", "Its worker stopped before its end.")
        assert mails() == ["Failed: Hello"]

    def test_and_wakes_up_writes_nothing(self, scripted: Scripted) -> None:
        task = make(kind="scripted")
        zombie = die_in(task)
        queueing.take_back(now=NINE)
        TaskRun.objects.update(not_before=None)
        work(task)
        running._completed(zombie, WorkResult({"done": "by a zombie"}), lambda: NINE)
        assert run_of(task).result == {"done": 1}
        assert mails() == ["Done: Hello"]

    def test_after_its_mail_was_stored_does_not_send_it_twice(self) -> None:
        task = make()
        claimed = running._claim(run_of(task).pk)
        assert claimed is not None
        running._work(claimed, Path("/nonexistent"), NINE)
        TaskRun.objects.update(lease_until=F("lease_until") - DAY)
        queueing.take_back(now=NINE)
        TaskRun.objects.update(not_before=None)
        work(task)
        assert mails() == ["Hello", "Done: Hello"]

    def test_is_told_when_its_lease_is_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        task = make()
        monkeypatch.setattr(running, "LOOK_SECONDS", 0)
        claimed = running._claim(run_of(task).pk)
        assert claimed is not None
        lease = running._Lease(claimed)
        lease.look()
        assigning.cancel(task.pk, now=NINE)
        with pytest.raises(running.RunLost):
            lease.look()

    def test_or_whose_mail_was_changed_meanwhile_does_not_send_another(self) -> None:
        task = make()
        claimed = running._claim(run_of(task).pk)
        assert claimed is not None
        first = running._work(claimed, Path("/nonexistent"), NINE)
        TaskRun.objects.update(lease_until=F("lease_until") - DAY)
        queueing.take_back(now=NINE)
        assigning.edit(task.pk, {"payload": {**LETTER, "subject": "Changed"}}, now=NINE)
        TaskRun.objects.update(not_before=None)
        run = work(task)
        assert (run.state, run.result) == ("completed", first.figures)
        assert mails() == ["Hello", "Done: Hello"]


class TestRun:
    def test_fails_when_its_owner_has_lost_the_right(
        self, media: Path, boss: User, audience: Audience
    ) -> None:
        file = ContentFile(b"email\nnew@example.com\n", "people.csv")
        task = make(boss, kind="import_recipients", payload={"audience": audience.pk}, file=file)
        User.objects.filter(id=boss.pk).update(is_staff=False)
        run = work(task)
        assert (run.state, run.attempts) == ("failed", 1)
        assert run.error == ("kind: Importing needs an operator's account that may add imports.")
        assert not Recipient.objects.filter(email="new@example.com").exists()

    def test_fails_when_the_database_cannot_store_its_outcome(
        self, media: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def nul(work: Work) -> WorkResult:
            file = work.folder / "out.json"
            file.write_text("{}")
            return WorkResult({"name": "\0"}, file)

        kind = Kind("process_data", "For tests.", lambda payload, *_: dict(payload), nul)
        monkeypatch.setitem(kinds.KINDS, "process_data", kind)
        run = work(make(kind="process_data"))
        assert (run.state, run.attempts) == ("failed", 1)
        assert run.error.startswith("The database cannot store what came of it: ")
        assert files(media) == []

    def test_failed_with_words_that_the_database_cannot_store(self, scripted: Scripted) -> None:
        scripted.answers = [TaskFailed("no \0 column")]
        assert work(make(kind="scripted")).error == "no  column"


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


class TestSoon:
    """By the database's clock: what comes before the tick could, and messages that come too early."""

    def soon(self, seconds: int) -> Task:
        now = queueing.clock()
        at = (now + timedelta(seconds=seconds)).isoformat()
        when = reading.read({"kind": "once", "at": at}, now=now, default_timezone="UTC")
        fields = {"title": "Hello", "kind": "send_email", "payload": LETTER}
        return assigning.create(user(), fields, when=when, now=now)

    def test_is_queued_and_told_of_without_a_tick(self) -> None:
        task = self.soon(40)
        look_at_task(task.pk)
        run = run_of(task)
        assert run.state == "queued"
        assert run.published_at is not None

    def test_is_told_of_with_the_seconds_until_then(self) -> None:
        task = self.soon(40)
        queueing.sweep(now=queueing.clock())
        (told,) = queueing.to_publish(now=queueing.clock(), task_id=task.pk)
        run = run_of(task)
        assert told == queueing.Hint(run.pk, False, told.seconds)
        assert (run.scheduled_for - queueing.clock()).total_seconds() <= told.seconds <= 40

    def test_leaves_what_is_later_to_the_tick(self) -> None:
        task = self.soon(200)
        look_at_task(task.pk)
        assert not task.runs.exists()

    def test_is_told_of_again_when_its_message_comes_early(self) -> None:
        task = self.soon(40)
        look_at_task(task.pk)
        first = run_of(task)
        run_task(first.pk)
        again = run_of(task)
        assert again.state == "queued"
        assert first.published_at is not None
        assert again.published_at is not None
        assert again.published_at > first.published_at

    def test_waits_for_the_end_of_the_run_before_it(self) -> None:
        task = self.soon(40)
        by_hand = assigning.run(task.pk, now=queueing.clock())
        look_at_task(task.pk)
        assert task.runs.count() == 1
        run_task(by_hand.pk)
        assert task.runs.get(id=by_hand.pk).state == "completed"
        assert (task.runs.count(), run_of(task).state) == (2, "queued")


class TestOwner:
    def test_may_delete_a_task_while_it_runs(self, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        task = make(kind="process_data", file=ContentFile(CSV.encode(), "people.csv"))
        run_id, delete = run_of(task).pk, task.delete

        def delete_meanwhile(work: Work) -> WorkResult:
            delete()
            file = work.folder / "out.json"
            file.write_text("{}")
            return WorkResult({}, file)

        gone = Kind("process_data", "For tests.", lambda payload, *_: dict(payload), delete_meanwhile)
        monkeypatch.setitem(kinds.KINDS, "process_data", gone)
        run_task(run_id)
        assert not TaskRun.objects.exists()
        assert mails() == []
        assert files(media) == []

    def test_cancels_what_is_queued_and_planned(self) -> None:
        task = make(recurrence=DAILY)
        queueing.sweep(now=NINE)
        cancelled = assigning.cancel(task.pk, now=NINE)
        assert (cancelled.status, cancelled.next_run_at) == ("cancelled", None)
        assert run_of(task).state == "cancelled"
        assert work(task).state == "cancelled"
        with pytest.raises(assigning.NotNow):
            assigning.run(task.pk, now=NINE)
        with pytest.raises(assigning.NotNow):
            assigning.cancel(task.pk, now=NINE)

    def test_pauses_and_resumes_without_a_burst(self) -> None:
        task = make(recurrence=DAILY)
        assigning.pause(task.pk, note="later", now=MONDAY)
        assert queueing.sweep(now=NINE + 5 * DAY) == 0
        resumed = assigning.resume(task.pk, now=NINE + 5 * DAY + timedelta(hours=1))
        assert resumed.next_run_at == NINE + 6 * DAY

    def test_runs_it_now_beside_its_moments(self) -> None:
        task = make(recurrence=DAILY)
        assigning.run(task.pk, now=MONDAY)
        with pytest.raises(assigning.NotNow, match="queued or running"):
            assigning.run(task.pk, now=MONDAY)
        task.refresh_from_db()
        assert task.next_run_at == NINE

    def test_may_have_so_many(self, settings: Settings) -> None:
        settings.TASKS_PER_USER = 1
        make()
        with pytest.raises(assigning.NotNow, match="as many as one may have"):
            make()

    def test_who_is_deleted_takes_tasks_and_files_along(self, media: Path) -> None:
        task = make(kind="process_data", file=ContentFile(CSV.encode(), "people.csv"))
        work(task)
        other = make(user("ravi@example.com"), kind="process_data", file=ContentFile(b"a\n1\n", "his.csv"))
        assert len(files(media)) == 3
        accounts.delete(task.user)
        assert not TaskRun.objects.exclude(task=other).exists()
        assert files(media) == [Path(other.file.path)]
        assert running.run(1, clock=lambda: NINE) is None


CSV = "name,email\nAsha,asha@example.com\nRavi,ravi@\n,x@example.com\nAsha,asha@example.com\n"


class TestProcessData:
    FIGURES = {
        "rows": 4,
        "columns": ["name", "email"],
        "missing": {"name": 1, "email": 0},
        "duplicates": 1,
        "invalid_addresses": 1,
        "addresses": {"email": {"filled": 4, "invalid": 1, "examples": ["ravi@"]}},
    }

    def test_summarises_a_file_and_keeps_the_summary(self, media: Path) -> None:
        task = make(kind="process_data", file=ContentFile(CSV.encode(), "people.csv"))
        run = work(task)
        assert run.error == ""
        assert run.result == self.FIGURES
        assert json.loads(Path(run.result_file.path).read_bytes()) == self.FIGURES
        assert "duplicates: 1" in OutboundEmail.objects.get().text

    def test_takes_a_text_or_rows_too(self, media: Path) -> None:
        assert work(make(kind="process_data", payload={"content": CSV})).result == self.FIGURES
        rows = [{"name": "Asha", "age": 3}, {"name": None, "age": 4}]
        found = work(make(kind="process_data", payload={"rows": rows})).result
        assert found is not None
        assert (found["rows"], found["missing"]) == (2, {"name": 1, "age": 0})

    def test_fails_at_once_on_what_is_no_table(self, media: Path) -> None:
        run = work(make(kind="process_data", file=ContentFile(b"PK\x03\x04nonsense", "people.xlsx")))
        assert (run.state, run.attempts) == ("failed", 1)
        assert run.error

    def test_counts_the_same_in_pieces(self, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(processing, "MEMORY_AT_ONCE", 1)
        assert work(make(kind="process_data", payload={"content": CSV})).result == self.FIGURES
        rows = [{"a": "1"}, {"b": 2.5}, {}, {"a": "1"}]
        found = work(make(kind="process_data", payload={"rows": rows})).result
        assert found is not None
        assert (found["rows"], found["columns"]) == (4, ["a", "b"])
        assert (found["missing"], found["duplicates"]) == ({"a": 2, "b": 3}, 1)

    @pytest.mark.parametrize(
        ("limit", "said"),
        [
            ("MOST_ROWS", "Give at most 2 rows."),
            ("MOST_CELLS", "Give at most 2 cells, rows times columns."),
            ("IMPORT_MAX_COLUMNS", "There are 3 different columns; at most 2 are allowed."),
        ],
    )
    def test_has_a_limit_on_what_it_takes(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, media: Path, limit: str, said: str
    ) -> None:
        rows = [{"a": 1}, {"b": 2}, {"c": 3}]
        stored = make(kind="process_data", payload={"rows": rows})
        if hasattr(settings, limit):
            setattr(settings, limit, 2)
        else:
            monkeypatch.setattr(processing, limit, 2)
        with pytest.raises(PayloadRefused) as refusal:
            make(kind="process_data", payload={"rows": rows})
        assert refusal.value.problems == {"rows": [said]}
        assert Task.objects.get() == stored
        file = ContentFile(b"a,b,c\n1,2,3\n4,5,6\n7,8,9\n", "table.csv")
        run = work(make(kind="process_data", file=file))
        assert (run.state, run.attempts) == ("failed", 1)
        assert "at most 2" in run.error

    def test_looks_at_many_different_names_in_little_memory(self) -> None:
        rows = [{f"n{number}": number} for number in range(6000)]
        tracemalloc.start()
        try:
            with pytest.raises(PayloadRefused):
                make(kind="process_data", payload={"rows": rows})
            assert tracemalloc.get_traced_memory()[1] < 20_000_000
        finally:
            tracemalloc.stop()

    def test_leaves_out_what_the_database_cannot_store(self, media: Path) -> None:
        content = b"name,email\nAsha,a\0@\nRavi,b@\n"
        run = work(make(kind="process_data", file=ContentFile(content, "people.csv")))
        assert (run.state, run.attempts) == ("completed", 1), run.error
        assert run.result is not None
        assert run.result["addresses"]["email"]["examples"] == ["a@", "b@"]

    @pytest.mark.parametrize(
        "payload", [{}, {"content": 5}, {"rows": [1]}, {"content": "a", "rows": [{}]}, {"colour": 1}]
    )
    def test_refuses_what_is_no_data(self, payload: dict[str, Any]) -> None:
        with pytest.raises(PayloadRefused):
            make(kind="process_data", payload=payload)
        assert not Task.objects.exists()


class TestImportRecipients:
    def test_imports_the_file_into_the_audience(self, media: Path, boss: User, audience: Audience) -> None:
        file = ContentFile(b"email,name\nnew@example.com,New\nbad,Bad\n", "people.csv")
        task = make(boss, kind="import_recipients", payload={"audience": audience.pk}, file=file)
        run = work(task)
        assert run.error == ""
        assert run.result is not None
        assert (run.result["created"], run.result["refused"]) == (1, 1)
        assert Recipient.objects.filter(email="new@example.com").exists()

    def test_is_for_operators(self, audience: Audience) -> None:
        file = ContentFile(b"email\na@example.com\n", "people.csv")
        with pytest.raises(PayloadRefused) as refusal:
            make(kind="import_recipients", payload={"audience": audience.pk}, file=file)
        assert list(refusal.value.problems) == ["kind"]


class TestExportReport:
    def test_writes_the_runs_of_one_s_own_schedules(self, media: Path) -> None:
        run = work(make(kind="export_report", payload={"report": "runs"}))
        assert (run.state, run.result) == ("completed", {"rows": 0})
        header = b"schedule,name,scheduled_for,state,mail,sent_at,reason\n"
        assert Path(run.result_file.path).read_bytes() == header

    def test_of_deliveries_is_for_operators(self) -> None:
        with pytest.raises(PayloadRefused):
            make(kind="export_report", payload={"report": "deliveries", "campaign": 1})


class TestSendEmail:
    @pytest.mark.parametrize(
        ("payload", "field"),
        [
            ({"body": "x"}, "subject"),
            ({"subject": "x"}, "body"),
            ({"subject": "a\nb", "body": "x"}, "subject"),
            ({**LETTER, "recipients": ["a@b\n.com"]}, "recipients.0"),
            ({**LETTER, "recipients": "a@example.com"}, "recipients"),
            ({**LETTER, "recipients": [f"u{n}@example.com" for n in range(11)]}, "recipients"),
            ({**LETTER, "to": []}, "to"),
            ({**LETTER, "body": ["x"]}, "body"),
        ],
    )
    def test_refuses_by_field(self, payload: dict[str, Any], field: str) -> None:
        with pytest.raises(PayloadRefused) as refusal:
            make(payload=payload)
        assert list(refusal.value.problems) == [field]

    @pytest.mark.parametrize("others", [["other@example.com"], ["asha@example.com", "other@example.com"]])
    def test_goes_to_oneself_only(self, others: list[str]) -> None:
        with pytest.raises(PayloadRefused):
            make(payload={**LETTER, "recipients": others})
        make(payload={**LETTER, "recipients": ["asha@example.com"]})

    def test_may_go_to_others_where_that_is_set(self, settings: Settings) -> None:
        settings.TASK_MAIL_RECIPIENTS = 1
        task = make(payload={**LETTER, "recipients": ["other@example.com"]})
        settings.TASK_MAIL_RECIPIENTS = 0
        assert work(task).error == "recipients: It can go to yourself only; leave them out."
        assert not OutboundEmail.objects.filter(subject=LETTER["subject"]).exists()

    def test_fails_when_the_mails_of_the_day_are_used_up(self, settings: Settings) -> None:
        settings.TASK_MAILS_PER_DAY = 3
        first, second, third = (make(payload=LETTER) for _ in range(3))
        assert work(first).error == work(second).error == ""  # two letters, and the word on the first
        assert work(third).error == "Your tasks have sent 3 mails in 24 hours, as many as they may."
        assert OutboundEmail.objects.count() == 3
        OutboundEmail.objects.update(created_at=NINE - timedelta(days=1))
        assert work(make(payload=LETTER)).error == ""

    def test_is_not_counted_for_operators(self, settings: Settings, boss: User) -> None:
        settings.TASK_MAILS_PER_DAY = 0
        assert work(make(boss, payload=LETTER)).error == ""

    def test_counts_what_a_try_before_has_stored_once(self, settings: Settings) -> None:
        settings.TASK_MAILS_PER_DAY = 1
        task = make(payload=LETTER)
        key = f"task-run-{run_of(task).pk}"
        subject, body = LETTER.values()
        send_email(subject, body, ["asha@example.com"], idempotency_key=key, created_by=task.user)
        assert work(task).error == ""
        assert OutboundEmail.objects.count() == 1
