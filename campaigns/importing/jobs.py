"""One import from its file to the last count.

check_upload  what speaks against a file, seen at once
create_job    the file stored, the job queued
run           read, validate, write; harmless to call twice, or on two machines   (running)
cancel        let it end where it is
interrupted   the jobs that nobody works on
undo_audience the audience of an import that failed, taken back
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import PurePath
from typing import IO
from uuid import uuid4

from django.core.files import File
from django.db import Error, InterfaceError, OperationalError, transaction
from django.db.models import Value
from django.db.models.functions import Coalesce

from campaigns.importing import locks, staging
from campaigns.importing.mapping import resolve
from campaigns.importing.reading import open_table
from campaigns.importing.refusals import ImportRefused, Reading
from campaigns.importing.running import Cancelled, Progress, Run, Stopped, Stopping
from campaigns.models import Audience, ImportJob, ImportStatus
from users.models import User

logger = logging.getLogger(__name__)

OPEN = (ImportStatus.QUEUED, ImportStatus.RUNNING)
MOST_ATTEMPTS = 4  # that may end with the death of the process before anything more is written

_DEADLY = (
    "The import was begun {} times, and each time its worker was killed, or lost PostgreSQL, before it got "
    "on; perhaps the file needs more memory than the worker has. Save it as CSV, or split it."
)


class ImportEnded(Exception):
    """The import has ended already, in the status that `status` names; there is nothing to cancel."""

    def __init__(self, status: str) -> None:
        super().__init__(f"The import is {status}.")
        self.status = status


def check_upload(
    name: str, file: IO[bytes], *, size: int, mapping: Mapping[str, str], sheet: str = "", encoding: str = ""
) -> Reading:
    """How the file will be read, and ImportRefused for what can be seen without validating rows.

    `file` is binary and seekable, `size` its bytes; it is left open, at its start. See `open_table`.
    """
    with open_table(
        name, file, size=size, mapping=mapping, sheet=sheet, encoding=encoding, only_sample=True
    ) as table:
        resolve(table.columns, mapping, table.sample)
    file.seek(0)
    return table.reading


def create_job(
    audience: Audience,
    file: IO[bytes],
    original_name: str,
    *,
    mapping: Mapping[str, str],
    on_existing: str,
    dry_run: bool,
    sheet: str = "",
    encoding: str = "",
    warn_about: Sequence[str] = (),
    created_by: User | None,
) -> ImportJob:
    """Check and store the file, and return the queued job. Raises ImportRefused and stores nothing."""
    name = PurePath(original_name.replace("\\", "/")).name
    reading = check_upload(name, file, size=_size(file), mapping=mapping, sheet=sheet, encoding=encoding)
    job = ImportJob(
        audience=audience,
        original_name=name[-255:],
        mapping=dict(mapping),
        on_existing=on_existing,
        dry_run=dry_run,
        sheet=sheet,
        encoding=encoding,
        warn_about=list(warn_about),
        reading=reading.as_dict(),
        created_by=created_by,
    )
    job.file.save(f"{uuid4().hex}{PurePath(name).suffix.lower()}", File(file), save=False)
    try:
        job.save()
    except BaseException:
        job.file.delete(save=False)
        raise
    return job


def run(
    job_id: int,
    *,
    now: datetime,
    on_progress: Progress = lambda job: None,
    stopping: Stopping = lambda: False,
) -> ImportJob:
    """Do what is left of the import, unless it has ended or another process is at it; the job as it then is.

    Harmless to call at any time, on any number of machines: what a process that died had written stays, and
    the next one goes on behind it. `on_progress` is called with the job whenever its counters moved, and
    `stopping` says whether this process is to end. Raises ImportJob.DoesNotExist.
    """
    with locks.held(job_id) as mine:
        job = ImportJob.objects.get(pk=job_id)
        if mine and job.status in OPEN:
            _run(Run(job, now=now, on_progress=on_progress, stopping=stopping))
    return job


def ask_to_cancel(job_id: int, *, now: datetime) -> None:
    """Ask that the import end where it is; whoever works on it does so within a second or so.

    Raises ImportEnded, and ImportJob.DoesNotExist.
    """
    asked = ImportJob.objects.filter(pk=job_id, status__in=OPEN).update(
        cancel_asked_at=Coalesce("cancel_asked_at", Value(now))
    )
    if not asked:
        raise ImportEnded(ImportJob.objects.get(pk=job_id).status)


def cancel(job_id: int, *, now: datetime) -> ImportJob:
    """Ask the same, and end the import at once if nobody works on it. The job as it then is.

    What it has written stays.
    """
    ask_to_cancel(job_id, now=now)
    with locks.held(job_id) as mine:
        job = ImportJob.objects.get(pk=job_id)
        if mine and job.status in OPEN:
            _end_cancelled(job, now=now)
    return job


def so_far(job: ImportJob) -> str:
    """What an import has written, as a sentence."""
    if not job.written_through:
        return "Nothing of it is in the audience."
    return (
        f"Its rows up to line {job.written_through:,} are in the audience: {job.created:,} created, "
        f"{job.updated:,} updated, {job.unchanged:,} unchanged. Those behind it are not."
    )


def is_half_written(audience_id: int) -> bool:
    """Whether an import has written some of its rows into the audience and not yet all.

    Until the end of the caller's transaction no import writes into it.
    """
    staging.lock_audience(audience_id)
    running = ImportJob.objects.filter(audience_id=audience_id, status__in=OPEN)
    return running.filter(written_through__gt=0).exists()


def undo_audience(job: ImportJob) -> bool:
    """Delete the audience that was created for this import alone, with the import; whether that was done.

    It is kept when anything else has come to use it: recipients, another import, a campaign.
    """
    with transaction.atomic():
        staging.lock_audience(job.audience_id)
        # the lock of the row holds up whoever is about to refer to it
        audience = Audience.objects.select_for_update().filter(pk=job.audience_id).first()
        if audience is None or _is_in_use(audience, besides=job):
            return False
        audience.delete()
    job.file.delete(save=False)
    job.errors_file.delete(save=False)
    return True


def _is_in_use(audience: Audience, *, besides: ImportJob) -> bool:
    return (
        audience.recipients.exists()
        or audience.imports.exclude(pk=besides.pk).exists()
        or audience.campaigns.exists()
    )


def interrupted() -> list[int]:
    """The ids of imports, queued or running, that no process works on. The minute tick asks."""
    # the locks first: a job finished between the two questions is then no longer open
    held = locks.held_by_anybody()
    ids = ImportJob.objects.filter(status__in=OPEN).order_by("pk").values_list("pk", flat=True)
    return [job_id for job_id in ids if job_id not in held]


def _run(run: Run) -> None:
    job = run.job
    if job.cancel_asked_at:
        _end_cancelled(job, now=run.now())
        return
    if job.attempts >= MOST_ATTEMPTS:
        _end(job, ImportStatus.FAILED, f"{_DEADLY.format(job.attempts)} {so_far(job)}", now=run.now())
        return
    job.errors_file.delete(save=False)  # of a run that was interrupted
    _begin(run)
    try:
        run.work()
        logger.info("import %d completed: %d rows read", job.pk, job.read)
    except Cancelled:
        _end_cancelled(job, now=run.now())
    except Stopped:
        run.change(attempts=job.attempts - 1)  # this end is nobody's fault
    except ImportRefused as refused:
        what = f"{refused.message} {so_far(job)}" if job.written_through else refused.message
        _end(job, ImportStatus.FAILED, what, now=run.now())
    except (OperationalError, InterfaceError):
        raise  # PostgreSQL is away: the job stays open, and the tick brings it back
    except ImportJob.DoesNotExist:
        raise  # deleted meanwhile
    except Exception as error:
        # another attempt would end the same way
        problem = f"The program failed on this file: {error!r}. {so_far(job)}"
        _end(job, ImportStatus.FAILED, problem, now=run.now())
        raise
    finally:
        with suppress(Error):  # the tables go with the connection at the latest
            staging.drop()


def _begin(run: Run) -> None:
    job = run.job
    run.change(
        status=ImportStatus.RUNNING,
        started_at=job.started_at or run.began,
        attempts=job.attempts + 1,
        total=None,
        read=0,
        accepted=None,
        duplicate=0,
        refused=0,
        warnings=0,
        suppressed=0,
        rate_per_second=None,
        eta_seconds=None,
        errors_file="",
    )


def _end_cancelled(job: ImportJob, *, now: datetime) -> None:
    _end(job, ImportStatus.CANCELLED, f"Cancelled. {so_far(job)}", now=now)


def _end(job: ImportJob, status: ImportStatus, problem: str, *, now: datetime) -> None:
    values = {"status": status, "problem": problem, "finished_at": now, "eta_seconds": None}
    for name, value in values.items():
        setattr(job, name, value)
    ImportJob.objects.filter(pk=job.pk).update(**values)
    logger.info("import %d %s: %s", job.pk, status, problem)


def _size(file: IO[bytes]) -> int:
    size = file.seek(0, 2)
    file.seek(0)
    return size
