"""What owners do with their tasks."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import PurePath
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.core.files.base import File
from django.db import transaction

from schedules import queueing, reading
from schedules.kinds import KINDS, PayloadRefused
from schedules.models import Task, TaskRun, TaskRunState, TaskStatus
from schedules.recurrence import Recurrence
from users.models import User


class NotNow(Exception):
    """The state of the task does not allow what was asked; `code` says it in a word."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def create(
    user: User,
    fields: Mapping[str, Any],
    *,
    when: Recurrence | None,
    file: "File[bytes] | None" = None,
    now: datetime,
) -> Task:
    """Store a task of the user, and queue its run when it is to run at once (`when` None).

    `fields` has title and kind, and may have description, payload, retries, grace_seconds. Raises
    PayloadRefused, and NotNow when the user has as many tasks as one may have.
    """
    name = _file_name(file)
    task = Task(user=user, file_name=name, **fields)
    task.payload = check(task.kind, task.payload, user, name)
    if file is not None:
        task.file.save(f"{uuid4().hex}{PurePath(name).suffix.lower()}", file, save=False)
    try:
        with transaction.atomic():
            User.objects.select_for_update().get(id=user.pk)  # two calls at once count one after the other
            _check_room(user)
            _plan(task, when, now)
            task.save(force_insert=True)
            if when is None:
                queueing.add_run(task, now=now)
    except BaseException:
        if task.file:
            task.file.delete(save=False)
        raise
    return task


def check(kind: str, payload: Mapping[str, Any], user: User, file_name: str) -> dict[str, Any]:
    """Return the payload as it is to be stored. Raises PayloadRefused."""
    known = KINDS.get(kind)
    if known is None:
        raise PayloadRefused({"kind": [f"Give one of {', '.join(KINDS)}."]})
    return known.check(payload, user, file_name)


def edit(task_id: int, changes: Mapping[str, Any], *, now: datetime) -> Task:
    """Change a task; `when` plans it anew. Raises PayloadRefused, NotNow for one that was cancelled."""
    with transaction.atomic():
        task = _locked(task_id)
        if task.status == TaskStatus.CANCELLED:
            raise NotNow("The task was cancelled; make a new one.", "cancelled")
        own = {name: value for name, value in changes.items() if name != "when"}
        for name, value in own.items():
            setattr(task, name, value)
        if {"payload", "kind"} & own.keys():
            task.payload = check(task.kind, task.payload, task.user, task.file_name)
        if "when" in changes:
            _plan(task, changes["when"], now)
            if changes["when"] is None:
                _run_at_once(task, now)
        task.save()
    return task


def run(task_id: int, *, now: datetime) -> TaskRun:
    """Queue a run at once; its next moment stays. Raises NotNow."""
    with transaction.atomic():
        task = _locked(task_id)
        if task.status == TaskStatus.CANCELLED:
            raise NotNow("The task was cancelled; make a new one.", "cancelled")
        return _run_at_once(task, now)


def pause(task_id: int, *, note: str = "", now: datetime) -> Task:
    """Let a task rest: it does not run at its moments. What is queued already still runs. Raises NotNow."""
    with transaction.atomic():
        task = _locked(task_id)
        if task.next_run_at is None and task.paused_at is None:
            raise NotNow("The task has no moment ahead, so there is nothing to pause.", "nothing_ahead")
        task.paused_at, task.pause_note, task.next_run_at = task.paused_at or now, note, None
        task.save(update_fields=["paused_at", "pause_note", "next_run_at", "updated_at"])
    return task


def resume(task_id: int, *, now: datetime) -> Task:
    """Let a task run again from its next moment on; what passed meanwhile is not made up for."""
    with transaction.atomic():
        task = _locked(task_id)
        if task.status == TaskStatus.CANCELLED:
            raise NotNow("The task was cancelled; make a new one.", "cancelled")
        if task.paused_at and task.when:
            task.paused_at, task.pause_note, task.failures = None, "", 0
            task.next_run_at = task.when.next(after=now)
            task.save(update_fields=["paused_at", "pause_note", "failures", "next_run_at", "updated_at"])
    return task


def cancel(task_id: int, *, now: datetime) -> Task:
    """Stop a task for good, with what is queued or running of it. Raises NotNow."""
    with transaction.atomic():
        task = _locked(task_id)
        open_runs = TaskRun.objects.filter(task=task, state__in=queueing.OPEN)
        ahead = task.next_run_at is not None or task.paused_at is not None
        if task.status == TaskStatus.CANCELLED or not (ahead or open_runs.exists()):
            raise NotNow("The task has ended; there is nothing to cancel.", "ended")
        open_runs.update(
            state=TaskRunState.CANCELLED,
            finished_at=now,
            lease_until=None,
            error="The task was cancelled.",
        )
        task.status, task.next_run_at, task.paused_at = TaskStatus.CANCELLED, None, None
        task.save(update_fields=["status", "next_run_at", "paused_at", "updated_at"])
    return task


def _run_at_once(task: Task, now: datetime) -> TaskRun:
    if TaskRun.objects.filter(task=task, state__in=queueing.OPEN).exists():
        raise NotNow("A run of the task is queued or running.", "is_running")
    return queueing.add_run(task, now=now)


def _plan(task: Task, when: Recurrence | None, now: datetime) -> None:
    task.recurrence = reading.write(when) if when else None
    task.paused_at, task.pause_note = None, ""
    task.next_run_at = when.next(after=now) if when else None


def _check_room(user: User) -> None:
    if not user.is_staff and Task.objects.filter(user=user).count() >= settings.TASKS_PER_USER:
        most = settings.TASKS_PER_USER
        raise NotNow(f"You have {most:,} tasks, as many as one may have; delete one.", "too_many")


def _file_name(file: "File[bytes] | None") -> str:
    return PurePath((file.name or "file").replace("\\", "/")).name[-255:] if file is not None else ""


def _locked(task_id: int) -> Task:
    return Task.objects.select_for_update(of=("self",)).select_related("user").get(id=task_id)
