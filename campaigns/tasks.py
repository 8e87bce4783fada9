"""Celery's entry points: each loads, calls one function, and says what should be looked at next.

A message is a hint. Losing one costs at most a minute, until the next tick; a second one finds nothing to do.
"""

import logging
from collections.abc import Iterable

from celery import Task, current_app, shared_task
from django.utils import timezone
from kombu.exceptions import ChannelError, OperationalError

from campaigns import delivery, dispatch, recovery, trial
from campaigns.importing import jobs
from campaigns.providers import configured_line
from campaigns.throttle import MustWait

logger = logging.getLogger(__name__)

SENDERS = "senders"


@shared_task
def check_scheduled_campaigns() -> None:
    """Beat's minute tick: start what is due, put right what was lost, keep everything moving."""
    for campaign_id in dispatch.start_due(now=timezone.now()):
        hint(start_campaign_send, campaign_id)
    recovery.take_back_expired_leases()
    held = _messages_in(SENDERS)
    if held is not None:
        recovery.forget_lost_messages(held)
    for campaign_id in recovery.unfinished_campaigns():
        hint(start_campaign_send, campaign_id)
    for job_id in recovery.interrupted_imports():
        hint(import_recipients, job_id)


@shared_task
def start_campaign_send(campaign_id: int) -> None:
    """Write the campaign's ledger if that is still to do, and put its next batches in the queue."""
    dispatch.build_ledger(campaign_id, now=timezone.now())
    _go_on(campaign_id)


@shared_task(bind=True, ignore_result=True)
def send_batch(self: "Task[[int], None]", batch_id: int) -> None:
    """Send what is due in one batch, then look for the campaign's next ones."""
    owner = f"{self.request.hostname} {self.request.id}"
    campaign_id = delivery.send_batch(batch_id, owner=owner, line=configured_line(), now=timezone.now)
    if campaign_id is not None:
        _go_on(campaign_id)


@shared_task
def finalize_campaign(campaign_id: int) -> None:
    """Finish the campaign if nothing of it is open."""
    dispatch.finalize(campaign_id, now=timezone.now())


@shared_task(bind=True, max_retries=5)
def send_test(
    self: "Task[[int, list[str]], dict[str, str]]", campaign_id: int, addresses: list[str]
) -> dict[str, str]:
    """Send test mails; the result is the provider's answer for each address."""
    try:
        return trial.send(campaign_id, addresses, line=configured_line())
    except MustWait as wait:
        raise self.retry(exc=wait, countdown=min(wait.seconds, 30)) from wait


@shared_task(ignore_result=True)
def import_recipients(job_id: int) -> None:
    """Run one import; an ImportJob keeps the result."""
    jobs.run(job_id, now=timezone.now())


def hint(task: "Task[..., object]", *args: object) -> None:
    """Publish a message; when the broker is away, the next tick finds the same in the database."""
    try:
        task.delay(*args)
    except OperationalError as error:
        logger.warning("the broker is away, the next tick makes up for %s%s: %s", task.name, args, error)


def _go_on(campaign_id: int) -> None:
    batch_ids = dispatch.next_batches(campaign_id)
    _publish(batch_ids)
    if not batch_ids:
        hint(finalize_campaign, campaign_id)


def _publish(batch_ids: Iterable[int]) -> None:
    remaining = list(batch_ids)
    try:
        while remaining:
            send_batch.delay(remaining[0])
            del remaining[0]
    except OperationalError as error:
        logger.warning("the broker is away, %s batches wait for the next tick: %s", len(remaining), error)
        dispatch.forget_published(remaining)


def _messages_in(queue: str) -> int | None:
    """Return how many messages the broker holds, or None when it does not answer."""
    try:
        with current_app.connection_for_read() as connection:
            declared = connection.default_channel.queue_declare(queue, passive=True)  # type: ignore[attr-defined]  # kombu's stubs lack it
            return int(declared.message_count)
    except ChannelError:
        return 0  # an empty queue does not exist in Redis
    except OperationalError:
        return None
