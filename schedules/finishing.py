"""How a run ends: what is kept, what its task says then, and who is told.

Each function needs a transaction that holds the task's row, and writes only under the token of the run that
it is given: a worker that lost its run changes nothing.
"""

import logging
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction

from campaigns import mail, retries
from campaigns.outbound import KeyReused, MailRefused
from schedules import allowance
from schedules.models import Task, TaskRun, TaskRunState, TaskStatus

logger = logging.getLogger(__name__)

MOST_FAILURES = 10  # runs in a row, after which a task is paused


def completed(task: Task, run: TaskRun, figures: Mapping[str, Any], file_name: str, *, now: datetime) -> bool:
    """Keep what came of a run; False when it is not this worker's any more."""
    if not _end(run, TaskRunState.COMPLETED, now, result=dict(figures), result_file=file_name, error=""):
        return False
    Task.objects.filter(id=task.pk).update(
        status=_unless_cancelled(task, TaskStatus.COMPLETED), last_error="", failures=0
    )
    if task.user.notify_completed:
        _tell(task, run, f"Done: {task.title}", _done_words(task, figures), now)
    return True


def tried(task: Task, run: TaskRun, why: str, *, now: datetime, at_once: bool = False) -> timedelta | None:
    """Note that a try failed; return how long until the next one, None when that was the last."""
    if run.attempts > task.retries:
        failed(task, run, why, now=now)
        return None
    base = timedelta(seconds=settings.TASK_RETRY_SECONDS)
    wait = timedelta(0) if at_once else retries.backoff(run.attempts, base=base, jitter=random.random)
    mine = TaskRun.objects.filter(id=run.pk, lease_token=run.lease_token, state=TaskRunState.RUNNING)
    changed = mine.update(
        state=TaskRunState.QUEUED, lease_until=None, not_before=now + wait, published_at=None, error=why
    )
    return wait if changed else None


def failed(task: Task, run: TaskRun, why: str, *, now: datetime) -> None:
    """End a run that did not do what was asked; after MOST_FAILURES in a row its task is paused."""
    if not _end(run, TaskRunState.FAILED, now, error=why):
        return
    task.failures += 1
    changes: dict[str, Any] = {"failures": task.failures, "last_error": why}
    changes["status"] = _unless_cancelled(task, TaskStatus.FAILED)
    pauses = task.next_run_at is not None and task.failures >= MOST_FAILURES
    if pauses:
        note = f"{task.failures} runs in a row failed."
        changes |= {"paused_at": now, "pause_note": note, "next_run_at": None}
    Task.objects.filter(id=task.pk).update(**changes)
    if task.user.notify_failed:
        _tell(task, run, f"Failed: {task.title}", _failed_words(task, why, pauses=pauses), now)


def _end(run: TaskRun, state: TaskRunState, now: datetime, **values: Any) -> bool:
    mine = TaskRun.objects.filter(id=run.pk, lease_token=run.lease_token, state=TaskRunState.RUNNING)
    return bool(mine.update(state=state, finished_at=now, lease_until=None, not_before=None, **values))


def _unless_cancelled(task: Task, status: TaskStatus) -> str:
    return task.status if task.status == TaskStatus.CANCELLED else status


def _done_words(task: Task, figures: Mapping[str, Any]) -> str:
    lines = [f"{name.replace('_', ' ')}: {value}" for name, value in figures.items() if _is_plain(value)]
    return "\n".join([f'Your task "{task.title}" is done.', "", *lines, "", _link(task)])


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool))


def _failed_words(task: Task, why: str, *, pauses: bool) -> str:
    words = [f'Your task "{task.title}" has failed: {why}', ""]
    if pauses:
        words += [f"It is paused: {task.failures} runs in a row failed. Resume it once it can succeed.", ""]
    return "\n".join([*words, _link(task)])


def _link(task: Task) -> str:
    return f"Its runs: {settings.PUBLIC_URL}/api/v1/tasks/{task.pk}/runs/"


def _tell(task: Task, run: TaskRun, subject: str, body: str, now: datetime) -> None:
    """Queue a mail to the task's owner, in the transaction that ends the run: both happen, or neither.

    Whose mails of the day are used up is not told; what became of the run is kept all the same.
    """
    if allowance.is_used_up(task.user, now=now):
        logger.info("the owner of task %s has had all mails of the day", task.pk)
        return
    try:
        with transaction.atomic():
            key = f"task-run-{run.pk}-ended"
            mail.send_email(subject, body, [task.user.email], idempotency_key=key, created_by=task.user)
    except (MailRefused, KeyReused) as refused:
        logger.warning("the owner of task %s cannot be told: %s", task.pk, refused)
