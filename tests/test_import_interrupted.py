"""Imports whose process dies, and imports that meet."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from random import Random
from threading import Barrier

import pytest
from django.db import OperationalError, connection, connections

from campaigns.importing import jobs, locks, running
from campaigns.models import Audience, ImportJob, ImportStatus
from tests.import_helpers import (
    NOW,
    counts,
    create,
    csv_bytes,
    database_url,
    import_file,
    reasons,
    stored,
)
from tests.workers import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

EARLIER = datetime(2026, 11, 22, 8, tzinfo=UTC)
PEOPLE = 12_000
CHUNK = 4_000  # lines; so that a small file has several
RUN = """
import os, sys, time
import django
os.environ["DJANGO_SETTINGS_MODULE"] = "mailer_project.settings"
django.setup()
from datetime import UTC, datetime
from campaigns.importing import jobs, running

running.CHUNK = int(sys.argv[3])

def progress(job):
    at = job.phase if job.phase != "writing" or job.written_through else "waiting"
    print(at, flush=True)
    if sys.argv[2] == at:
        time.sleep(600)  # to be killed in

jobs.run(int(sys.argv[1]), now=datetime(2026, 11, 22, 8, tzinfo=UTC), on_progress=progress)
"""


@pytest.fixture
def audience() -> Audience:
    audience = Audience.objects.create(name="Customers")
    audience.recipients.create(email="p7@example.com", name="Seven")
    return audience


@pytest.fixture
def job(audience: Audience) -> ImportJob:
    """12,000 people, one of them known, one twice, one malformed."""
    rows = [(f"p{number}@example.com", f"P{number}", "Pune") for number in range(PEOPLE)]
    return create(audience, "people.csv", csv_bytes([*rows, rows[0], ("broken", "", "")]))


Start = Callable[[ImportJob, str], "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts another process at work on a job; it stays at "reading" or "writing" when told so."""
    with ExitStack() as stack:

        def start(job: ImportJob, stop_at: str) -> "subprocess.Popen[str]":
            process = subprocess.Popen(
                [sys.executable, "-c", RUN, str(job.pk), stop_at, str(CHUNK)],
                env={**os.environ, "DATABASE_URL": database_url()},
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)  # closes its pipe
            stack.callback(kill, process)
            return process

        yield start


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()


def waits_for_the_audience() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)")
        return bool(cursor.fetchone()[0])


def cancel_when(is_time: Callable[[ImportJob], object]) -> Callable[[ImportJob], None]:
    """Asks to cancel as soon as the import's counters are so."""

    def ask(job: ImportJob) -> None:
        if is_time(job):
            jobs.ask_to_cancel(job.pk, now=NOW)

    return ask


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def assert_untouched(audience: Audience, job: ImportJob) -> None:
    assert stored(audience) == [("p7@example.com", "Seven", "", {})]
    job.refresh_from_db()
    assert job.status == ImportStatus.RUNNING
    assert (job.written, job.written_through) == (0, 0)


def assert_completed(audience: Audience, job: ImportJob) -> None:
    assert job.status == ImportStatus.COMPLETED
    assert counts(job) == {
        "read": PEOPLE + 2,
        "created": PEOPLE - 1,
        "updated": 1,
        "duplicate": 1,
        "refused": 1,
    }
    assert reasons(job) == [
        (PEOPLE + 2, "email", "The address stands in line 2 already."),
        (PEOPLE + 3, "email", "The address has no @-sign."),
    ]
    assert {email for email, *_ in stored(audience)} == {f"p{number}@example.com" for number in range(PEOPLE)}
    assert jobs.interrupted() == []


@pytest.fixture
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "CHUNK", CHUNK)


class TestKilledProcess:
    def test_while_reading_leaves_the_audience_as_it_was_and_the_next_run_completes(
        self, audience: Audience, job: ImportJob, start: Start
    ) -> None:
        assert jobs.interrupted() == [job.pk]  # queued, and nobody at it
        process = start(job, "reading")
        assert first_line(process) == "reading\n"
        assert jobs.interrupted() == []
        kill(process)
        wait_until(lambda: jobs.interrupted() == [job.pk])
        assert_untouched(audience, job)
        assert_completed(audience, jobs.run(job.pk, now=NOW))

    @pytest.mark.usefixtures("_small_chunks")
    def test_while_writing_leaves_what_it_wrote_and_the_next_run_goes_on_behind_it(
        self, audience: Audience, job: ImportJob, start: Start
    ) -> None:
        process = start(job, "writing")
        assert process.stdout is not None
        assert "writing\n" in process.stdout  # reads up to there
        kill(process)
        wait_until(lambda: jobs.interrupted() == [job.pk])
        job.refresh_from_db()
        assert (job.status, job.written_through, job.created, job.updated) == ("running", CHUNK, 3_998, 1)
        assert audience.recipients.count() == CHUNK - 1
        first_report = job.errors_file.name
        seen: list[int] = []
        done = jobs.run(job.pk, now=NOW, on_progress=lambda job: seen.append(job.written_through))
        assert_completed(audience, done)
        assert seen[0] == CHUNK
        job.refresh_from_db()
        assert job.errors_file.name == first_report  # replaced, not left beside the new one
        assert job.started_at == EARLIER

    def test_in_a_chunk_leaves_nothing_of_that_chunk(
        self, audience: Audience, job: ImportJob, start: Start
    ) -> None:
        with connection.cursor() as cursor:
            key = f"audience {audience.pk}"
            cursor.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [key])
            process = start(job, "nowhere")
            wait_until(waits_for_the_audience)
            kill(process)
            cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [key])
        wait_until(lambda: jobs.interrupted() == [job.pk])  # PostgreSQL ends what nobody can commit
        assert_untouched(audience, job)
        assert_completed(audience, jobs.run(job.pk, now=NOW))

    @pytest.mark.usefixtures("_small_chunks")
    def test_at_any_moment_costs_no_row_and_doubles_none(
        self, audience: Audience, job: ImportJob, start: Start
    ) -> None:
        """`python -m tests.figures.imports` does the same to 500,000 rows."""
        moments = Random(5)  # noqa: S311  a figure of a test, not a secret
        for _ in range(10):
            process = start(job, "nowhere")
            first_line(process)
            time.sleep(moments.uniform(0, 0.4))  # the moment
            kill(process)
            wait_until(lambda: not locks.held_by_anybody())
            job.refresh_from_db()
            assert audience.recipients.count() == 1 + job.created
            if job.status == ImportStatus.COMPLETED:
                break
            ImportJob.objects.filter(pk=job.pk).update(attempts=0)  # it is not the file that kills
        assert_completed(audience, jobs.run(job.pk, now=NOW))


class TestDeadlyFile:
    def test_fails_after_four_processes_that_died_of_it(
        self, audience: Audience, job: ImportJob, start: Start
    ) -> None:
        for _ in range(jobs.MOST_ATTEMPTS):
            process = start(job, "reading")
            first_line(process)
            kill(process)
            wait_until(lambda: not locks.held_by_anybody())
        done = jobs.run(job.pk, now=NOW)
        assert (done.status, done.problem) == (
            "failed",
            "The import was begun 4 times, and each time its worker was killed, or lost PostgreSQL, before "
            "it got on; perhaps the file needs more memory than the worker has. Save it as CSV, or split it. "
            "Nothing of it is in the audience.",
        )
        assert audience.recipients.count() == 1

    @pytest.mark.usefixtures("_small_chunks")
    def test_is_not_one_that_gets_on_between_the_deaths(self, job: ImportJob) -> None:
        ImportJob.objects.filter(pk=job.pk).update(attempts=3)
        attempts: list[int] = []
        jobs.run(job.pk, now=NOW, on_progress=lambda job: attempts.append(job.attempts))
        assert attempts[0] == 4
        assert attempts[-1] == 1


class TestStoppingWorker:
    @pytest.mark.usefixtures("_small_chunks")
    def test_leaves_the_rest_to_another_and_counts_no_death(self, audience: Audience, job: ImportJob) -> None:
        seen: list[ImportJob] = []
        left = jobs.run(
            job.pk,
            now=NOW,
            on_progress=seen.append,
            stopping=lambda: seen[-1].written_through > 0 if seen else False,
        )
        assert (left.status, left.written_through, left.attempts) == ("running", CHUNK, 0)
        assert_completed(audience, jobs.run(job.pk, now=NOW))


class TestCancelling:
    def test_while_reading_leaves_the_audience_as_it_was(self, audience: Audience, job: ImportJob) -> None:
        done = jobs.run(job.pk, now=NOW, on_progress=cancel_when(lambda job: job.read))
        assert (done.status, done.problem) == ("cancelled", "Cancelled. Nothing of it is in the audience.")
        assert stored(audience) == [("p7@example.com", "Seven", "", {})]
        assert jobs.interrupted() == []

    @pytest.mark.usefixtures("_small_chunks")
    def test_while_writing_says_what_was_done(self, audience: Audience, job: ImportJob) -> None:
        done = jobs.run(job.pk, now=NOW, on_progress=cancel_when(lambda job: job.written))
        assert done.status == ImportStatus.CANCELLED
        assert done.problem == (
            "Cancelled. Its rows up to line 4,000 are in the audience: 3,998 created, 1 updated, "
            "0 unchanged. Those behind it are not."
        )
        assert audience.recipients.count() == 3_999
        assert len(reasons(done)) == 2
        assert jobs.run(job.pk, now=NOW).status == ImportStatus.CANCELLED

    def test_after_the_reading_ends_what_has_nothing_to_write(self, audience: Audience) -> None:
        rehearsal = create(audience, "people.csv", csv_bytes([("p1@example.com", "", "")]), dry_run=True)
        refused = create(audience, "people.csv", csv_bytes([("broken", "", "")]))
        for job in (rehearsal, refused):
            done = jobs.run(job.pk, now=NOW, on_progress=cancel_when(lambda job: job.accepted is not None))
            assert (done.status, done.created) == ("cancelled", 0)
            assert done.problem == "Cancelled. Nothing of it is in the audience."
            job.refresh_from_db()
            assert (job.status, job.created, job.finished_at) == ("cancelled", 0, done.finished_at)

    def test_comes_too_late_once_all_is_written(self, audience: Audience) -> None:
        job = create(
            audience, "people.csv", csv_bytes([("p1@example.com", "", ""), ("p2@example.com", "", "")])
        )
        done = jobs.run(job.pk, now=NOW, on_progress=cancel_when(lambda job: job.phase and job.written))
        assert (done.status, done.problem, counts(done)) == ("completed", "", {"read": 2, "created": 2})

    def test_of_another_process_ends_it(self, job: ImportJob, start: Start) -> None:
        process = start(job, "nowhere")
        first_line(process)
        assert jobs.cancel(job.pk, now=NOW).status in ("running", "cancelled")
        process.wait(timeout=120)
        job.refresh_from_db()
        assert job.status in ("cancelled", "completed")
        with pytest.raises(jobs.ImportEnded):
            jobs.cancel(job.pk, now=NOW)


class TestTwoAtOnce:
    def test_on_one_job_the_second_leaves_it_to_the_first(self, job: ImportJob, start: Start) -> None:
        process = start(job, "reading")
        first_line(process)
        seen = jobs.run(job.pk, now=NOW)
        assert (seen.status, seen.read) == (ImportStatus.RUNNING, PEOPLE + 2)
        kill(process)
        wait_until(lambda: not locks.held_by_anybody())

    def test_into_one_audience_store_each_address_once(self, audience: Audience) -> None:
        rows = [(f"p{number}@example.com", f"P{number}", "Pune") for number in range(3_000)]
        first = create(audience, "first.csv", csv_bytes(rows[:2_000]))
        second = create(audience, "second.csv", csv_bytes(reversed(rows[1_000:])))
        together = Barrier(2)

        def run(job: ImportJob) -> ImportJob:
            try:
                together.wait()
                return jobs.run(job.pk, now=NOW)
            finally:
                connections.close_all()

        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(run, [first, second]))
        assert [job.status for job in done] == [ImportStatus.COMPLETED] * 2
        assert [job.read for job in done] == [2_000, 2_000]
        assert [job.created + job.updated + job.unchanged for job in done] == [2_000, 2_000]
        assert sum(job.created for job in done) == 2_999
        assert sum(job.updated for job in done) == 1  # p7, whose name was another
        assert sum(job.unchanged for job in done) == 1_000
        assert len(stored(audience)) == 3_000

    def test_into_an_empty_audience_notice_what_the_other_writes(
        self, db: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(running, "CHUNK", 1)
        audience = Audience.objects.create(name="Empty")
        job = create(audience, "people.csv", b"email\na@example.com\nb@example.com\nc@example.com\n")

        def meddle(job: ImportJob) -> None:
            if job.written == 1:
                audience.recipients.create(email="B@example.com", name="Other")

        done = jobs.run(job.pk, now=NOW, on_progress=meddle)
        assert counts(done) == {"read": 3, "created": 2, "unchanged": 1}
        assert [email for email, *_ in stored(audience)] == [
            "B@example.com",
            "a@example.com",
            "c@example.com",
        ]


class TestLostDatabase:
    def test_leaves_the_job_open_for_another_run(self, audience: Audience, job: ImportJob) -> None:
        def hang_up(job: ImportJob) -> None:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

        with pytest.raises(OperationalError, match="terminating connection"):
            jobs.run(job.pk, now=NOW, on_progress=hang_up)
        connection.close()
        wait_until(lambda: jobs.interrupted() == [job.pk])
        assert_untouched(audience, job)
        assert_completed(audience, jobs.run(job.pk, now=NOW))


class TestProgramError:
    def test_fails_the_job_instead_of_bringing_it_back_for_ever(
        self, audience: Audience, job: ImportJob
    ) -> None:
        def stumble(job: ImportJob) -> None:
            raise KeyError("colour")

        with pytest.raises(KeyError):
            jobs.run(job.pk, now=NOW, on_progress=stumble)
        job.refresh_from_db()
        assert job.status == ImportStatus.FAILED
        assert (
            job.problem
            == "The program failed on this file: KeyError('colour'). Nothing of it is in the audience."
        )
        assert jobs.interrupted() == []
        assert stored(audience) == [("p7@example.com", "Seven", "", {})]


def test_an_import_after_a_failed_one_starts_clean(audience: Audience) -> None:
    import_file(audience, "bad.csv", b"email\nbroken\n")
    assert counts(import_file(audience, "good.csv", b"email\na@example.com\n")) == {"read": 1, "created": 1}
