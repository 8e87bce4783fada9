"""From tasks whose moment has come to runs that a worker will take; and back from workers that died.

A run is a row before any message is sent, and a message is a hint: "look at run 17". A lost one costs a
minute, a second one finds nothing to take.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from schedules import finishing
from schedules.kinds import KINDS
from schedules.models import Task, TaskRun, TaskRunState, TaskStatus
from schedules.recurrence import take_turn

logger = logging.getLogger(__name__)

CHUNK = 500
AHEAD = timedelta(seconds=75)  # from one tick to the next, and some: one that comes late costs nothing
AGAIN_AFTER = timedelta(minutes=5)  # a message that nobody has taken for so long is sent once more
OPEN = (TaskRunState.QUEUED, TaskRunState.RUNNING)


@dataclass(frozen=True, slots=True)
class Hint:
    """A run that a worker is to look at in so many seconds; a heavy one goes to the queue of imports."""

    run_id: int
    heavy: bool
    seconds: int


def clock() -> datetime:
    """Return the database's time, the only one that all share: who plans, who tells and who claims."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        row: tuple[datetime] = cursor.fetchone()
    return row[0]


def sweep(*, now: datetime, ahead: timedelta = AHEAD, task_id: int | None = None) -> int:
    """Write the runs of what is due until `now` + `ahead`; return how many tasks were due, of all or of one.

    A task with an open run is not looked at before its moment has come: the run may end in time.
    """
    swept = 0
    while (taken := _plan(now, now + ahead, task_id)) == CHUNK:
        swept += taken
    return swept + taken


def _plan(now: datetime, horizon: datetime, task_id: int | None) -> int:
    with transaction.atomic():
        tasks = list(_due(now, horizon, task_id).select_for_update(of=("self",), skip_locked=True)[:CHUNK])
        busy = set(TaskRun.objects.filter(task__in=tasks, state__in=OPEN).values_list("task_id", flat=True))
        for task in tasks:
            try:
                with transaction.atomic():  # so that what one task meets is not the end of all the others
                    _take(task, task.pk in busy, now)
            except Exception as error:
                logger.exception("task %s cannot be read", task.pk)
                _set_aside(task, f"It cannot be read: {error!r}", now)
    return len(tasks)


def _due(now: datetime, horizon: datetime, task_id: int | None) -> QuerySet[Task]:
    is_busy = Exists(TaskRun.objects.filter(task=OuterRef("pk"), state__in=OPEN))
    due = Task.objects.filter(Q(next_run_at__lte=now) | (Q(next_run_at__lte=horizon) & ~is_busy))
    if task_id is not None:
        due = due.filter(id=task_id)
    return due.order_by("next_run_at").select_related("user")


def _take(task: Task, is_busy: bool, now: datetime) -> None:
    """Write the run of one task that is due, unless its user was switched off, and its next moment."""
    when = task.when
    if when is None or task.next_run_at is None:
        raise ValueError("it has no recurrence")
    if is_busy and task.next_run_at > now:
        return  # a run was queued since it was looked for
    turn = take_turn(when, task.next_run_at, now=now, grace=timedelta(seconds=task.grace_seconds))
    Task.objects.filter(id=task.pk).update(next_run_at=turn.next_at)
    if not task.user.is_active:
        return
    run = TaskRun(task=task, scheduled_for=turn.scheduled_for, not_before=turn.scheduled_for)
    if turn.missed:
        late = int((now - turn.scheduled_for).total_seconds()) // 60
        run.state, run.finished_at = TaskRunState.MISSED, now
        run.error = f"It was {late:,} minutes late when the scheduler ran again."
        if turn.next_at is None:  # there will be no other run, of which its status could speak
            Task.objects.filter(id=task.pk).update(status=TaskStatus.FAILED, last_error=run.error)
    elif is_busy:
        run.state, run.finished_at = TaskRunState.SKIPPED, now
        run.error = "The run before it was not at its end yet."
    TaskRun.objects.bulk_create([run], ignore_conflicts=True)  # the moment may have its row already


def _set_aside(task: Task, note: str, now: datetime) -> None:
    Task.objects.filter(id=task.pk).update(next_run_at=None, paused_at=now, pause_note=note[:500])


def add_run(task: Task, *, now: datetime) -> TaskRun:
    """Queue a run at once. Needs a transaction that holds the task's row, and no open run of it."""
    return TaskRun.objects.create(task=task, scheduled_for=now, not_before=now)


def came_early(run_id: int) -> bool:
    """Say whether a message about a run came before the run was due; if so, workers are to be told again."""
    early = TaskRun.objects.filter(id=run_id, state=TaskRunState.QUEUED, not_before__gt=Now())
    return bool(early.update(published_at=None))


def to_publish(*, now: datetime, task_id: int | None = None) -> list[Hint]:
    """Return what workers are to be told of, and note it as told: what is queued and begins within AHEAD.

    `now` is the database's (`clock`): a worker may claim a run by no other, so it is what the seconds until
    then are counted by.
    """
    unseen = Q(published_at=None) | Q(published_at__lt=now - AGAIN_AFTER)
    soon = Q(not_before=None) | Q(not_before__lte=now + AHEAD)
    runs = TaskRun.objects.filter(unseen, soon, state=TaskRunState.QUEUED)
    if task_id is not None:
        runs = runs.filter(task_id=task_id)
    with transaction.atomic():
        found = list(
            runs.select_related("task").order_by("id").select_for_update(of=("self",), skip_locked=True)
        )
        TaskRun.objects.filter(id__in=[run.pk for run in found]).update(published_at=now)
    return [Hint(run.pk, _is_heavy(run), _seconds_until(run.not_before, now)) for run in found]


def _is_heavy(run: TaskRun) -> bool:
    kind = KINDS.get(run.task.kind)
    return kind is not None and kind.heavy


def _seconds_until(moment: datetime | None, now: datetime) -> int:
    if moment is None or moment <= now:
        return 0
    return -int((now - moment).total_seconds() // 1)  # rounded up: a worker takes nothing before its moment


def take_back(*, now: datetime) -> list[int]:
    """End the runs whose worker let its lease run out: they are tried again, or fail; return their ids."""
    expired = TaskRun.objects.filter(state=TaskRunState.RUNNING, lease_until__lt=Now())
    found = list(expired.order_by("id").values_list("id", "task_id", "lease_token"))
    for run_id, task_id, token in found:
        with transaction.atomic():
            task = (
                Task.objects.select_for_update(of=("self",)).select_related("user").filter(id=task_id).first()
            )
            # looked at once more: it may have been renewed, or ended, meanwhile
            run = expired.filter(id=run_id, lease_token=token).first()
            if task is not None and run is not None:
                finishing.tried(task, run, "Its worker stopped before its end.", now=now, at_once=True)
    return [run_id for run_id, _, _ in found]
