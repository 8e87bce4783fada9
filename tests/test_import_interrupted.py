"""Imports whose process dies, and imports that meet."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier

import pytest
from django.db import OperationalError, connection, connections

from campaigns.importing import jobs, locks
from campaigns.models import Audience, ImportJob, ImportStatus
from tests.import_helpers import NOW, counts, create, csv_bytes, import_file, reasons, stored
from tests.workers import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

PEOPLE = 12_000
RUN = """
import os, sys, time
import django
os.environ["DJANGO_SETTINGS_MODULE"] = "mailer_project.settings"
django.setup()
from datetime import UTC, datetime
from campaigns.importing import jobs

def progress(read):
    print(read, flush=True)
    if sys.argv[2] == "reading":
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
    """Starts another process at work on a job; it stops after 10,000 rows when told "reading"."""
    with ExitStack() as stack:

        def start(job: ImportJob, stop_at: str) -> "subprocess.Popen[str]":
            process = subprocess.Popen(
                [sys.executable, "-c", RUN, str(job.pk), stop_at],
                env={**os.environ, "DATABASE_URL": database_url()},
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)  # closes its pipe
            stack.callback(kill, process)
            return process

        yield start


def database_url() -> str:
    """Where the test database is, for another process."""
    settings = connection.settings_dict
    password = f":{settings['PASSWORD']}" if settings["PASSWORD"] else ""
    place = f"{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"
    return f"postgres://{settings['USER']}{password}@{place}"


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def waits_for_the_audience() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)")
        return bool(cursor.fetchone()[0])


def assert_untouched(audience: Audience, job: ImportJob) -> None:
    assert stored(audience) == [("p7@example.com", "Seven", "", {})]
    job.refresh_from_db()
    assert job.status == ImportStatus.RUNNING
    assert job.created == job.updated == 0


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


class TestKilledProcess:
    def test_while_reading_leaves_the_audience_as_it_was_and_the_next_run_completes(
        self, audience: Audience, job: ImportJob, start: Start
    ) -> None:
        assert jobs.interrupted() == [job.pk]  # queued, and nobody at it
        process = start(job, "reading")
        assert first_line(process) == "10000\n"
        assert jobs.interrupted() == []
        kill(process)
        wait_until(lambda: jobs.interrupted() == [job.pk])
        assert_untouched(audience, job)
        assert_completed(audience, jobs.run(job.pk, now=NOW))

    def test_while_writing_leaves_the_audience_as_it_was_and_the_next_run_completes(
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
        first_report = job.errors_file.name
        assert_completed(audience, jobs.run(job.pk, now=NOW))
        job.refresh_from_db()
        assert job.errors_file.name == first_report  # replaced, not left beside the new one


class TestTwoAtOnce:
    def test_on_one_job_the_second_leaves_it_to_the_first(self, job: ImportJob, start: Start) -> None:
        process = start(job, "reading")
        assert first_line(process) == "10000\n"
        seen = jobs.run(job.pk, now=NOW)
        assert (seen.status, seen.read) == (ImportStatus.RUNNING, 10_000)
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


class TestLostDatabase:
    def test_leaves_the_job_open_for_another_run(self, audience: Audience, job: ImportJob) -> None:
        def hang_up(read: int) -> None:
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
        def stumble(read: int) -> None:
            raise KeyError("colour")

        with pytest.raises(KeyError):
            jobs.run(job.pk, now=NOW, on_progress=stumble)
        job.refresh_from_db()
        assert job.status == ImportStatus.FAILED
        assert job.problem == "The program failed on this file: KeyError('colour')."
        assert jobs.interrupted() == []
        assert stored(audience) == [("p7@example.com", "Seven", "", {})]


def test_an_import_after_a_failed_one_starts_clean(audience: Audience) -> None:
    import_file(audience, "bad.csv", b"email\nbroken\n")
    assert counts(import_file(audience, "good.csv", b"email\na@example.com\n")) == {"read": 1, "created": 1}
