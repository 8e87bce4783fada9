"""Celery's entry points of schedules; Beat's minute tick calls the first."""

import logging
from functools import partial

from celery import shared_task
from django.db import transaction
from django.utils import timezone

from campaigns.tasks import hint, publish, start_campaign_send
from schedules import allowance, broadcasting, queueing, running, sweeping
from schedules.models import Schedule, Task, TaskRun

logger = logging.getLogger(__name__)


@shared_task
def check_schedules() -> None:
    """Beat's minute tick: run what is due before the next one; each step whatever becomes of the others."""
    errors = []
    for step in (_sweep, _broadcast, _sweep_tasks, _take_back, _publish, _forget_what_is_old):
        try:
            step()
        except Exception as error:
            logger.exception("the step %s of schedules failed", step.__name__)
            errors.append(error)
    if errors:
        raise ExceptionGroup("the tick of schedules", errors)


def _sweep() -> None:
    tell(sweeping.sweep(now=timezone.now()))


def tell(swept: sweeping.Swept) -> None:
    """Say which campaigns are to be looked at."""
    for campaign_id in swept.campaign_ids:
        transaction.on_commit(partial(hint, start_campaign_send, campaign_id))


def _broadcast() -> None:
    for broadcast_id in broadcasting.waiting():
        hint(start_broadcast, broadcast_id)


def _sweep_tasks() -> None:
    queueing.sweep(now=queueing.clock())


def _take_back() -> None:
    queueing.take_back(now=queueing.clock())


def _publish() -> None:
    publish_runs()


def _forget_what_is_old() -> None:
    allowance.forget_old(now=timezone.now())


def publish_runs(task_id: int | None = None) -> None:
    """Tell workers of the runs that are queued, of all tasks or of one."""
    for told in queueing.to_publish(now=queueing.clock(), task_id=task_id):
        publish(run_heavy_task if told.heavy else run_task, [(told.run_id,)], countdown=told.seconds)


def look_at_task(task_id: int) -> None:
    """Queue the run of a task whose moment comes soon, and tell workers of what is queued."""
    queueing.sweep(now=queueing.clock(), task_id=task_id)
    publish_runs(task_id)


def look_at_schedules(schedule: Schedule) -> None:
    """Hand over what is due of a user who has changed this schedule, if its moment comes before the tick."""
    now = timezone.now()
    if schedule.next_run_at is not None and schedule.next_run_at <= now + sweeping.AHEAD:
        tell(sweeping.sweep(now=now, user_id=schedule.user_id))


@shared_task(ignore_result=True)
def run_task(run_id: int) -> None:
    """Try one run of a task; then look at what waited for its end, or is to be tried again."""
    try:
        running.run(run_id, clock=queueing.clock)
    except (Task.DoesNotExist, TaskRun.DoesNotExist):
        logger.info("run %s was deleted, with its task, before its end", run_id)
        return
    queueing.came_early(run_id)
    task_id = TaskRun.objects.filter(id=run_id).values_list("task_id", flat=True).first()
    if task_id is not None:
        look_at_task(task_id)


@shared_task(ignore_result=True)
def run_heavy_task(run_id: int) -> None:
    """Try one run of a task that takes its time, beside the imports."""
    run_task(run_id)


@shared_task(ignore_result=True)
def start_broadcast(broadcast_id: int) -> None:
    """Write a broadcast's ledger and begin to send."""
    campaign_id = broadcasting.start(broadcast_id, now=timezone.now())
    if campaign_id is not None:
        hint(start_campaign_send, campaign_id)
