"""One import from its file to the last count.

check_upload  what speaks against a file, seen at once
create_job    the file stored, the job queued
run           read, validate, write; harmless to call twice, or on two machines
interrupted   the jobs that nobody works on
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import IO, Any
from uuid import uuid4

from django.core.files import File
from django.db import Error, InterfaceError, OperationalError, transaction

from campaigns.importing import locks, staging
from campaigns.importing.limits import Limits
from campaigns.importing.mapping import Columns, resolve
from campaigns.importing.reading import open_table
from campaigns.importing.refusals import ImportRefused, Reading, Refusal, Table
from campaigns.importing.report import Spool, write_report
from campaigns.importing.staging import Written
from campaigns.importing.validating import Row, validator
from campaigns.models import Audience, ImportJob, ImportStatus
from users.models import User

logger = logging.getLogger(__name__)

OPEN = (ImportStatus.QUEUED, ImportStatus.RUNNING)
Progress = Callable[[int], None]


def check_upload(
    name: str, file: IO[bytes], *, size: int, mapping: Mapping[str, str], sheet: str = "", encoding: str = ""
) -> Reading:
    """How the file will be read, and ImportRefused for what can be seen without validating rows.

    `file` is binary and seekable, `size` its bytes; it is left open, at its start. See `open_table`.
    """
    with open_table(name, file, size=size, mapping=mapping, sheet=sheet, encoding=encoding) as table:
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


def run(job_id: int, *, now: datetime, on_progress: Progress | None = None) -> ImportJob:
    """Do the import, unless it is done or another process is at it, and return the job as it then is.

    Rows are read into a temporary table. One transaction then writes all of them and marks the job
    completed, so an interruption at any point leaves the audience as it was, and the next run begins
    anew. `on_progress` is called now and then with the number of rows read. Raises ImportJob.DoesNotExist.
    """
    with locks.held(job_id) as mine:
        job = ImportJob.objects.get(pk=job_id)
        if mine and job.status in OPEN:
            _run(job, now=now, on_progress=on_progress or (lambda read: None))
    return job


def interrupted() -> list[int]:
    """The ids of imports, queued or running, that no process works on. The minute tick asks."""
    # the locks first: a job finished between the two questions is then no longer open
    held = locks.held_by_anybody()
    ids = ImportJob.objects.filter(status__in=OPEN).order_by("pk").values_list("pk", flat=True)
    return [job_id for job_id in ids if job_id not in held]


def _run(job: ImportJob, *, now: datetime, on_progress: Progress) -> None:
    began = time.monotonic()
    job.errors_file.delete(save=False)  # of a run that was interrupted
    _change(job, status=ImportStatus.RUNNING, started_at=now, read=0, warnings=0, errors_file="")
    try:
        _read_and_write(job, now=now, began=began, on_progress=on_progress)
    except ImportRefused as refused:
        _fail(job, refused.message, now=_since(now, began))
    except (OperationalError, InterfaceError):
        raise  # PostgreSQL is away: the job stays open, and the tick brings it back
    except ImportJob.DoesNotExist:
        raise  # deleted meanwhile
    except Exception as error:
        # another attempt would end the same way
        _fail(job, f"The program failed on this file: {error!r}.", now=_since(now, began))
        raise
    finally:
        with suppress(Error):  # the table goes with the connection at the latest
            staging.drop()


def _read_and_write(job: ImportJob, *, now: datetime, began: float, on_progress: Progress) -> None:
    limits = Limits.of_settings()
    with TemporaryDirectory(prefix="import-") as directory, Spool(Path(directory, "refused")) as spool:
        columns = _read(job, spool, limits, on_progress)
        job.duplicate = staging.set_duplicates_apart()
        job.refused, job.warnings = spool.refused, spool.warnings
        if job.duplicate or job.refused or job.warnings:
            path = Path(directory, "errors.csv")
            left_out = (spool, staging.duplicates(columns))
            write_report(path, columns.names, *left_out, longest_cell=limits.cell)
            _store_report(job, path)
    with transaction.atomic():
        # the lock keeps the audience, and with it the job, from being deleted under our hands
        ImportJob.objects.select_for_update().get(pk=job.pk)
        if job.dry_run:
            written = staging.foresee(job.audience_id, columns, job.on_existing)
        else:
            written = staging.write(job.audience_id, columns, job.on_existing, now=now)
        _complete(job, written, now=_since(now, began))


def _read(job: ImportJob, spool: Spool, limits: Limits, on_progress: Progress) -> Columns:
    try:
        opened = job.file.open("rb")
    except FileNotFoundError as error:
        raise ImportRefused("file", "The stored file is gone; upload it again.") from error
    how = {"mapping": job.mapping, "sheet": job.sheet, "encoding": job.encoding}
    with opened as file, open_table(job.original_name, file, size=file.size, **how) as table:
        columns = resolve(table.columns, job.mapping, table.sample)
        _stage(job, table, columns, spool, limits, on_progress)
    return columns


def _stage(
    job: ImportJob, table: Table, columns: Columns, spool: Spool, limits: Limits, on_progress: Progress
) -> None:
    judge = validator(columns, longest_cell=limits.cell, warn_about=job.warn_about)
    staging.create()
    judged = (judgement for line in table.lines if (judgement := judge(line)) is not None)
    while chunk := list(islice(judged, staging.CHUNK)):
        staging.add(row for row in chunk if isinstance(row, Row))
        for judgement in chunk:
            reported = judgement if isinstance(judgement, Refusal) else judgement.warning
            if reported:
                spool.add(reported)
        _change(job, read=job.read + len(chunk), refused=spool.refused, warnings=spool.warnings)
        on_progress(job.read)
    if not job.read:
        raise ImportRefused("file", "The file has a header and no other line.")


def _store_report(job: ImportJob, path: Path) -> None:
    with path.open("rb") as file:
        job.errors_file.save(f"{PurePath(job.file.name or '').stem}-errors.csv", File(file), save=False)
    _change(job, errors_file=job.errors_file.name)


def _complete(job: ImportJob, written: Written, *, now: datetime) -> None:
    _change(
        job,
        status=ImportStatus.COMPLETED,
        problem="",
        created=written.created,
        updated=written.updated,
        unchanged=written.unchanged,
        duplicate=job.duplicate,
        refused=job.refused,
        warnings=job.warnings,
        finished_at=now,
    )
    logger.info("import %d completed: %d rows read, %s", job.pk, job.read, written)


def _fail(job: ImportJob, problem: str, *, now: datetime) -> None:
    _change(job, status=ImportStatus.FAILED, problem=problem, finished_at=now)
    logger.info("import %d failed: %s", job.pk, problem)


def _change(job: ImportJob, **values: Any) -> None:
    """Set these columns of the job, here and in the database."""
    for name, value in values.items():
        setattr(job, name, value)
    ImportJob.objects.filter(pk=job.pk).update(**values)


def _since(now: datetime, began: float) -> datetime:
    """The time it is, given that it was `now` when the monotonic clock showed `began`."""
    return now + timedelta(seconds=time.monotonic() - began)


def _size(file: IO[bytes]) -> int:
    size = file.seek(0, 2)
    file.seek(0)
    return size
