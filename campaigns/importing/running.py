"""One process at work on one import: read and judge the whole file, report, write chunk by chunk.

Nothing is written before all has been read, so a file that is refused changes nothing. Each chunk commits
together with the line it ends on (`written_through`) and the counters. Whoever goes on after an interruption
reads the file again, finds the same rows, and writes those behind that line.
"""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import IO, Any

from django.core.files import File
from django.db import transaction
from django.db.models.fields.files import FieldFile

from campaigns.importing import staging
from campaigns.importing.judging import Judge
from campaigns.importing.limits import Limits
from campaigns.importing.mapping import Columns, resolve
from campaigns.importing.pace import pace
from campaigns.importing.reading import open_table
from campaigns.importing.refusals import ImportRefused, Reading, Table
from campaigns.importing.report import Spool, write_report
from campaigns.importing.staging import Written
from campaigns.models import ImportJob, ImportStatus

CHUNK = 50_000  # lines that are written in one transaction: about half a second
TELL = 0.5  # seconds between two updates of the job while its file is read
YOUNG_OBJECTS = 100_000  # before the garbage collector looks at them

Progress = Callable[[ImportJob], object]
Stopping = Callable[[], bool]


class Cancelled(Exception):
    """Somebody asked to cancel this import."""


class Stopped(Exception):
    """This process is to end; another will go on with the import."""


class Run:
    """One attempt at `job`, begun at `now`; `on_progress` gets the job whenever its counters have moved."""

    def __init__(self, job: ImportJob, *, now: datetime, on_progress: Progress, stopping: Stopping) -> None:
        self.job = job
        self.began, self._since = now, time.monotonic()
        self._on_progress = on_progress
        self._stopping = stopping
        self._told = 0.0  # on the monotonic clock
        self._limits = Limits.of_settings()
        self._all_new: bool | None = None  # whether the audience seems to know none of the addresses

    def now(self) -> datetime:
        """The time it is, given when this began."""
        return self.began + timedelta(seconds=time.monotonic() - self._since)

    def work(self) -> None:
        """Do all that is left to do.

        Raises ImportRefused for the file as a whole, Cancelled, Stopped, ImportJob.DoesNotExist.
        """
        job = self.job
        with _calm_collector(), TemporaryDirectory(prefix="import-") as directory:
            with Spool(Path(directory, "refused")) as spool:
                columns = self._read(spool)
                self._close(spool, columns, Path(directory, "errors.csv"))
            if job.dry_run:
                self._complete(staging.foresee(job.audience_id, columns, job.on_existing))
            else:
                self._write(columns)
                self._complete(Written(job.created, job.updated, job.unchanged))

    def change(self, **values: Any) -> None:
        """Set these columns of the job, here and in the database. Raises ImportJob.DoesNotExist."""
        for name, value in values.items():
            setattr(self.job, name, value)
        if not ImportJob.objects.filter(pk=self.job.pk).update(**values):
            raise ImportJob.DoesNotExist

    def _read(self, spool: Spool) -> Columns:
        job = self.job
        how = {"mapping": job.mapping, "sheet": job.sheet, "encoding": job.encoding}
        with (
            _stored_file(job) as file,
            open_table(job.original_name, file, size=job.file.size, **how) as table,
        ):
            self._note(table.reading)
            columns = resolve(table.columns, job.mapping, table.sample)
            judge = Judge(columns, longest_cell=self._limits.cell, warn_about=job.warn_about)
            self._stage(table, judge, spool, lambda: file.tell() / job.file.size)
        if not job.read:
            raise ImportRefused("file", "The file has a header and no other line.")
        return columns

    def _note(self, reading: Reading) -> None:
        """Say how the file is read, where its first lines told otherwise."""
        if reading.as_dict() != self.job.reading:
            self.change(reading=reading.as_dict())

    def _stage(self, table: Table, judge: Judge, spool: Spool, share: Callable[[], float]) -> None:
        """Judge the lines and copy the good ones into the staging table."""
        job = self.job
        staging.create()
        pieces = iter(table.pieces)
        more = True
        while more:
            with staging.copying() as copy:
                more = False
                for piece in pieces:
                    judged = judge(piece)
                    copy(judged.staged)
                    for refusal in judged.reported:
                        spool.add(refusal)
                    job.read += judged.read
                    if more := self._is_time_to_tell():
                        break
            job.total = job.read if not more else round(job.read / max(share(), 0.001))
            self._tell(total=job.total, read=job.read, refused=spool.refused, warnings=spool.warnings)

    def _close(self, spool: Spool, columns: Columns, path: Path) -> None:
        """Count what only the whole file tells, and store the report."""
        job = self.job
        staging.close()
        duplicate = spool.duplicates + staging.set_duplicates_apart()
        suppressed = staging.count_suppressed()
        self._heed_wishes()
        accepted, warnings = job.read - spool.refused - duplicate, 0
        if duplicate or suppressed or spool.refused or spool.warnings:
            remarks = staging.remarks(columns)
            warnings = write_report(path, columns.names, spool, remarks, longest_cell=self._limits.cell)
            with path.open("rb") as file:
                self._store_report(file)
        self.change(duplicate=duplicate, suppressed=suppressed, accepted=accepted, warnings=warnings)
        self._on_progress(job)

    def _store_report(self, file: IO[bytes]) -> None:
        job = self.job
        job.errors_file.save(f"{PurePath(job.file.name or '').stem}-errors.csv", File(file), save=False)
        self.change(errors_file=job.errors_file.name)

    def _write(self, columns: Columns) -> None:
        """Write what an earlier attempt has not."""
        job = self.job
        _, last = staging.count()
        already = job.written
        while job.written_through < last:
            if self._stopping():
                raise Stopped
            through = min(last, job.written_through + CHUNK)
            values = self._write_chunk(columns, through, already)
            for name, value in values.items():  # only now, when the database has them
                setattr(job, name, value)
            self._on_progress(job)

    def _write_chunk(self, columns: Columns, through: int, already: int) -> dict[str, Any]:
        """Write the next lines and return the columns of the job as they now are, in one transaction."""
        with transaction.atomic():
            # the lock keeps the audience, and with it the job, from being deleted under our hands
            job = ImportJob.objects.select_for_update().get(pk=self.job.pk)
            if job.cancel_asked_at:
                raise Cancelled
            staging.lock_audience(job.audience_id)
            written = self._put(columns, after=job.written_through, through=through)
            values = {
                "created": job.created + written.created,
                "updated": job.updated + written.updated,
                "unchanged": job.unchanged + written.unchanged,
                "written_through": through,
                "attempts": 1,
                **self._pace(job.written + sum(written) - already, already),
            }
            ImportJob.objects.filter(pk=job.pk).update(**values)
        return values

    def _put(self, columns: Columns, *, after: int, through: int) -> Written:
        audience_id = self.job.audience_id
        if self._all_new is None:
            self._all_new = staging.is_empty(audience_id)
        if self._all_new:
            inserted = staging.insert(audience_id, after=after, through=through, now=self.now())
            if inserted:
                return inserted
            self._all_new = False
        on_existing = self.job.on_existing
        return staging.write(audience_id, columns, on_existing, after=after, through=through, now=self.now())

    def _complete(self, written: Written) -> None:
        """End as completed. Where nothing was written it is not too late for being Cancelled."""
        job = self.job
        if (settled := sum(written) + job.duplicate + job.refused) != job.read:
            raise ImportRefused(
                "file",
                f"The file reads otherwise than when its import was begun: {job.read:,} rows, of which "
                f"{settled:,} were counted; perhaps a setting was changed meanwhile. Import the file again: "
                "what is in the audience already counts as unchanged.",
            )
        values = {
            **written._asdict(),
            "status": ImportStatus.COMPLETED,
            "problem": "",
            "eta_seconds": 0,
            "finished_at": self.now(),
        }
        mine = ImportJob.objects.filter(pk=job.pk)
        if not mine.exclude(cancel_asked_at__isnull=False, written_through=0).update(**values):
            raise Cancelled if mine.exists() else ImportJob.DoesNotExist
        for name, value in values.items():
            setattr(job, name, value)
        self._on_progress(job)

    def _is_time_to_tell(self) -> bool:
        return time.monotonic() - self._told >= TELL

    def _tell(self, **values: Any) -> None:
        """Note how far the reading is; raises Cancelled, Stopped, ImportJob.DoesNotExist."""
        self.change(**values, **self._pace(0, self.job.written))
        self._told = time.monotonic()
        self._on_progress(self.job)
        self._heed_wishes()

    def _heed_wishes(self) -> None:
        """Raise Cancelled or Stopped where that was asked for."""
        if ImportJob.objects.filter(pk=self.job.pk, cancel_asked_at__isnull=False).exists():
            raise Cancelled
        if self._stopping():
            raise Stopped

    def _pace(self, written: int, already: int) -> dict[str, Any]:
        job = self.job
        total = job.total or 0
        accepted = total - job.refused if job.accepted is None else job.accepted
        found = pace(
            elapsed=time.monotonic() - self._since,
            total=total,
            read=job.read,
            to_write=0 if job.dry_run else accepted - already,
            written=written,
        )
        return {"rate_per_second": round(found.rate, 1), "eta_seconds": round(found.eta)} if found else {}


def _stored_file(job: ImportJob) -> FieldFile:
    try:
        return job.file.open("rb")
    except FileNotFoundError as error:
        raise ImportRefused("file", "The stored file is gone; upload it again.") from error


@contextmanager
def _calm_collector() -> Iterator[None]:
    """Let the garbage collector look less often; at every line it would take a third of the time."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
