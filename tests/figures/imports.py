"""kill -9 of the worker at random moments of an import, and what is there when another has ended it.

python -m tests.figures.imports [ROWS] [KILLS] [SEED]
"""

import csv
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from io import BytesIO, StringIO
from random import Random

import tests.figures  # noqa: F401  # first: starts the services and makes Django ready
from campaigns import tasks
from campaigns.importing import jobs, locks
from campaigns.models import Audience, ImportJob, ImportStatus, OnExisting, Recipient
from tests.figures.system import say
from tests.workers import celery, environment, kill, wait_until

KNOWN, TWICE, BROKEN = 1_000, 500, 250  # rows of each import: to be updated, duplicate, refused
PATIENCE = 300.0  # seconds


def main() -> None:
    numbers = [int(argument) for argument in sys.argv[1:]]
    rows, kills, seed = [*numbers, *(500_000, 10, 1)[len(numbers) :]]
    moments = Random(seed)  # noqa: S311  a figure, not a secret
    content = _content(rows)
    whole = _uninterrupted(content, rows)
    say(f"{rows:,} rows, not interrupted: {whole:.1f} s")
    for number in range(kills):
        moment = whole * (number + moments.random()) / kills
        say(f"{number + 1:>2}. {_killed(content, rows, moment)}")
    say("Each time every row was there once, and every count and line of the report was right.")


def _content(rows: int) -> bytes:
    """A CSV file of so many people, then some who stand in it already and some without an address."""
    text = StringIO()
    writer = csv.writer(text)
    writer.writerow(["email", "name", "city"])
    writer.writerows((f"p{number}@example.com", f"P {number}", "Pune") for number in range(rows))
    writer.writerows((f"P{number}@example.com", "Twin", "") for number in range(TWICE))
    writer.writerows((f"broken {number}", "", "") for number in range(BROKEN))
    return text.getvalue().encode()


def _job(content: bytes) -> ImportJob:
    """A queued import into an audience that has some of the people already."""
    audience = Audience.objects.create(name=f"Audience {Audience.objects.count()}")
    Recipient.objects.bulk_create(
        Recipient(audience=audience, email=f"p{number}@example.com", name="Known") for number in range(KNOWN)
    )
    return jobs.create_job(
        audience,
        BytesIO(content),
        "people.csv",
        mapping={},
        on_existing=OnExisting.UPDATE,
        dry_run=False,
        created_by=None,
    )


def _uninterrupted(content: bytes, rows: int) -> float:
    job = _job(content)
    with _worker():
        _begin(job)
        since = time.monotonic()
        _wait_for_the_end(job)
        seconds = time.monotonic() - since
    _check(job, rows)
    return seconds


def _killed(content: bytes, rows: int, moment: float) -> str:
    """What was found after a kill so many seconds after the start, and when another worker had ended it."""
    job = _job(content)
    with _worker() as process:
        _begin(job)
        time.sleep(moment)  # that is when it dies
        kill(process)
    wait_until(lambda: not locks.held_by_anybody(), seconds=PATIENCE)
    job.refresh_from_db()
    found = job.audience.recipients.count()
    if found != KNOWN + job.created:
        raise AssertionError(f"{found} rows, and {KNOWN + job.created} by the counters")
    state = f"{job.phase or job.status}, {job.written:,} written through line {job.written_through:,}"
    if job.status != ImportStatus.COMPLETED and jobs.interrupted() != [job.pk]:
        raise AssertionError("the tick does not see the interrupted import")
    with _worker():
        _begin(job)
        _wait_for_the_end(job)
    _check(job, rows)
    return f"killed after {moment:5.2f} s: {state}; resumed: {job.audience.recipients.count():,} rows"


def _worker() -> "AbstractContextManager[subprocess.Popen[bytes]]":
    return celery(
        *["worker", "-Q", "imports", "-c", "1", "-n", "imports@%h", "--without-gossip", "--without-mingle"],
        env=environment(LOG_LEVEL="ERROR"),
    )


def _begin(job: ImportJob) -> None:
    """Publish the hint until a worker has the import: one that was killed may have had an earlier one."""
    tasks.hint(tasks.import_recipients, job.pk)
    before = job.attempts

    def is_taken() -> bool:
        job.refresh_from_db()
        return job.attempts > before or job.status not in jobs.OPEN or job.pk in locks.held_by_anybody()

    wait_until(is_taken, seconds=PATIENCE, what="taken by a worker")


def _wait_for_the_end(job: ImportJob) -> None:
    def has_ended() -> bool:
        job.refresh_from_db()
        return job.status not in jobs.OPEN

    wait_until(has_ended, seconds=PATIENCE, what="ended")


def _check(job: ImportJob, rows: int) -> None:
    """Raise AssertionError unless every row and every count is as it should be."""
    found = {name: getattr(job, name) for name in ("status", "read", "created", "updated", "unchanged")}
    expected = {
        "status": ImportStatus.COMPLETED,
        "read": rows + TWICE + BROKEN,
        "created": rows - KNOWN,
        "updated": KNOWN,
        "unchanged": 0,
    }
    if found != expected or (job.duplicate, job.refused) != (TWICE, BROKEN):
        raise AssertionError(f"{found}, {job.duplicate} duplicate, {job.refused} refused; {job.problem}")
    people = job.audience.recipients
    if people.count() != rows or people.filter(name__startswith="P ").count() != rows:
        raise AssertionError(f"{people.count():,} rows of {rows:,}")
    with job.errors_file.open("rb") as report:
        lines = report.read().decode("utf-8-sig").splitlines()
    if len(lines) != 1 + TWICE + BROKEN:
        raise AssertionError(f"{len(lines):,} lines in the report")


if __name__ == "__main__":
    main()
