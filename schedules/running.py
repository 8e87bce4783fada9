"""One try of one run of a task: claim, work, end.

A worker may write only while the run has the token that it was given. One that dies leaves the run to its
lease's end; the tick then lets it be tried again, or fail.
"""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from django.conf import settings
from django.core.files.base import File
from django.db import DataError, Error, transaction
from django.db.models import F, Q
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Coalesce, Now

from campaigns.values import storable
from schedules import finishing
from schedules.kinds import KINDS, Kind, PayloadRefused, TaskFailed, Work, WorkResult
from schedules.models import Task, TaskRun, TaskRunState

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0  # how often a worker lengthens its lease


class RunLost(Exception):
    """The run is not this worker's any more: its lease ran out, or its task was cancelled."""


def run(run_id: int, *, clock: Callable[[], datetime]) -> float | None:
    """Try a run; return in how many seconds it is to be tried again, None when it is not, or not ours."""
    claimed = _claim(run_id)
    if claimed is None:
        return None
    with TemporaryDirectory(prefix="task-") as folder:
        try:
            result = _work(claimed, Path(folder), clock())
            _completed(claimed, result, clock)
        except RunLost as lost:
            logger.info("run %s: %s", run_id, lost)
            return None
        except TaskFailed as failure:
            _failed(claimed, str(failure), clock)
            return None
        except Task.DoesNotExist:
            logger.info("run %s: its task was deleted", run_id)
            return None
        except DataError as error:
            logger.exception("run %s of task %s", run_id, claimed.task_id)
            _failed(claimed, f"The database cannot store what came of it: {_first_line(error)}", clock)
            return None
        except Error:
            raise  # the database: nothing can be written, and the lease will run out
        except Exception as error:
            logger.exception("run %s of task %s", run_id, claimed.task_id)
            return _tried(claimed, f"{type(error).__name__}: {error}", clock)
        return None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _claim(run_id: int) -> TaskRun | None:
    """Take a run that is queued and due; None when there is nothing to take."""
    due = Q(not_before=None) | Q(not_before__lte=Now())
    taken = TaskRun.objects.filter(due, id=run_id, state=TaskRunState.QUEUED).update(
        state=TaskRunState.RUNNING,
        attempts=F("attempts") + 1,
        lease_token=F("lease_token") + 1,
        started_at=Coalesce("started_at", Now()),
        published_at=None,
        lease_until=_lease_end(),
    )
    if not taken:
        return None
    return TaskRun.objects.select_related("task", "task__user").get(id=run_id)


def _lease_end() -> CombinedExpression:
    """When a lease that is given now runs out, by the database's clock, the only one that all share."""
    return Now() + timedelta(seconds=settings.LEASE_SECONDS)


def _work(claimed: TaskRun, folder: Path, now: datetime) -> WorkResult:
    task = claimed.task
    kind = KINDS.get(task.kind)
    if kind is None:
        raise TaskFailed(f"There is no kind {task.kind!r} any more.")
    if not task.user.is_active:
        raise TaskFailed("The account is switched off.")
    _check_again(kind, task)
    lease = _Lease(claimed)
    opened = _opened(task)
    try:
        return kind.run(
            Work(
                user=task.user,
                payload=task.payload,
                file=opened,
                file_name=task.file_name,
                folder=folder,
                key=f"task-run-{claimed.pk}",
                now=now,
                still_ours=lease.look,
            )
        )
    finally:
        if opened is not None:
            opened.close()


def _check_again(kind: Kind, task: Task) -> None:
    """Raise TaskFailed for what would be refused now: rights may have been taken away since it was made."""
    try:
        kind.check(task.payload, task.user, task.file_name)
    except PayloadRefused as refused:
        raise TaskFailed(str(refused)) from refused


def _opened(task: Task) -> "File[bytes] | None":
    if not task.file:
        return None
    try:
        return task.file.open("rb")
    except FileNotFoundError as error:
        raise TaskFailed("The stored file is gone; make the task anew.") from error


class _Lease:
    """The right to a run, lengthened now and then while the work goes on."""

    def __init__(self, claimed: TaskRun) -> None:
        self._mine = TaskRun.objects.filter(
            id=claimed.pk, lease_token=claimed.lease_token, state=TaskRunState.RUNNING
        )
        self._looked_at = time.monotonic()

    def look(self) -> None:
        """Lengthen the lease, once in LOOK_SECONDS. Raises RunLost."""
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        if not self._mine.update(lease_until=_lease_end()):
            raise RunLost("it was taken back, or its task cancelled")


def _completed(claimed: TaskRun, result: WorkResult, clock: Callable[[], datetime]) -> None:
    """Keep what came of a run. Raises Task.DoesNotExist, DataError; what is not kept has no file either."""
    name, kept = _stored(claimed, result.file), False
    try:
        with transaction.atomic():
            kept = finishing.completed(_locked(claimed), claimed, result.figures, name, now=clock())
    finally:
        if name and not kept:
            claimed.result_file.storage.delete(name)


def _stored(claimed: TaskRun, file: Path | None) -> str:
    """Store what came of it and return its name in the storage, '' when there is nothing."""
    if file is None:
        return ""
    field = claimed.result_file.field
    with file.open("rb") as content:
        name = field.generate_filename(claimed, f"{claimed.pk}-{uuid4().hex[:12]}{file.suffix}")
        return str(field.storage.save(name, File(content)))


def _tried(claimed: TaskRun, why: str, clock: Callable[[], datetime]) -> float | None:
    with transaction.atomic():
        wait = finishing.tried(_locked(claimed), claimed, storable(why), now=clock())
    return wait.total_seconds() if wait is not None else None


def _failed(claimed: TaskRun, why: str, clock: Callable[[], datetime]) -> None:
    with transaction.atomic():
        finishing.failed(_locked(claimed), claimed, storable(why), now=clock())


def _locked(claimed: TaskRun) -> Task:
    return Task.objects.select_for_update(of=("self",)).select_related("user").get(id=claimed.task_id)
