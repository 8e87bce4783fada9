"""Celery's entry points: each loads, calls one function, and says what should be looked at next.

A message is a hint. Losing one costs at most a minute, until the next tick; a second one finds nothing to do.
"""

import logging
import math
import mmap
import time
from collections import deque
from collections.abc import Sequence
from datetime import timedelta

from celery import Task, shared_task
from celery.signals import worker_process_shutdown, worker_shutting_down
from django.utils import timezone
from kombu import Connection

from campaigns import broker, delivery, dispatch, outbound, recovery, trial, vitals
from campaigns.importing import jobs
from campaigns.models import ImportJob
from campaigns.providers import configured_line
from campaigns.throttle import MustWait
from users import accounts, idempotency

logger = logging.getLogger(__name__)

SENDERS, TRANSACTIONAL = "senders", "transactional"
MAILS_IN_QUEUE = 1000  # single mails that a tick lets wait in the queue at most
ON_ITS_WAY = timedelta(seconds=10)  # a mail younger than this has a message that may still be read
FIRST_LOOK_SECONDS = 0.25  # how often a worker with users' own mails looks for those that go first
LONGEST_COUNTDOWN = 30  # seconds; far below what Redis's visibility timeout would deliver twice

# A worker's main process is told to end, and its pool's processes are not: they see this byte, which they
# share with it since they were forked.
_shared = mmap.mmap(-1, 1)
_looked_at = -FIRST_LOOK_SECONDS


@worker_process_shutdown.connect
def _say_goodbye(**_: object) -> None:
    for provider in configured_line().providers:
        provider.close()


@worker_shutting_down.connect
def _note_shutdown(**_: object) -> None:
    _shared[0] = 1


def _is_shutting_down() -> bool:
    return bool(_shared[0])


@shared_task
def check_scheduled_campaigns() -> None:
    """Beat's minute tick: start what is due, put right what was lost, keep everything moving.

    Each step is done whatever becomes of the others; what went wrong is raised at the end.
    """
    errors = []
    for step in STEPS_OF_THE_TICK:
        try:
            step()
        except Exception as error:
            logger.exception("the tick's step %s failed", step.__name__)
            errors.append(error)
    if errors:
        raise ExceptionGroup("the tick", errors)


def _note_tick() -> None:
    vitals.note_tick(configured_line().redis, now=timezone.now())


def _start_due() -> None:
    for campaign_id in dispatch.start_due(now=timezone.now()):
        hint(start_campaign_send, campaign_id)


def _take_back() -> None:
    recovery.take_back_expired_leases()


def _publish_lost() -> None:
    held = broker.messages_in(SENDERS)
    if held is not None:
        recovery.forget_lost_messages(held)


def _look_at_unfinished() -> None:
    for campaign_id in recovery.unfinished_campaigns():
        hint(start_campaign_send, campaign_id)


def _look_at_imports() -> None:
    for job_id in recovery.interrupted_imports():
        hint(import_recipients, job_id)


def _take_back_mails() -> None:
    outbound.take_back_expired()


def _publish_mails() -> None:
    held = broker.messages_in(TRANSACTIONAL)
    if held is not None and held < MAILS_IN_QUEUE:
        due = outbound.due(limit=MAILS_IN_QUEUE - held, older_than=ON_ITS_WAY)
        publish(send_outbound, [(mail_id,) for mail_id in due])


def _forget_what_is_old() -> None:
    idempotency.forget_old(now=timezone.now())
    accounts.forget_old_tokens(now=timezone.now())


STEPS_OF_THE_TICK = (
    _note_tick,
    _start_due,
    _take_back,
    _take_back_mails,
    _publish_lost,
    _publish_mails,
    _look_at_unfinished,
    _look_at_imports,
    _forget_what_is_old,
)


@shared_task
def start_campaign_send(campaign_id: int) -> None:
    """Write the campaign's ledger if that is still to do, and put its next batches in the queue."""
    dispatch.build_ledger(campaign_id, now=timezone.now())
    _go_on(campaign_id)
    _announce(campaign_id)


@shared_task(bind=True, ignore_result=True)
def send_batch(self: "Task[[int], None]", batch_id: int) -> None:
    """Send what is due in one batch, then look for the campaign's next ones."""
    owner = f"{self.request.hostname} {self.request.id}"
    handled = delivery.send_batch(batch_id, owner=owner, line=configured_line(), stopping=_is_shutting_down)
    if handled is None:
        return
    if handled.rest is not None and handled.rest <= LONGEST_COUNTDOWN:
        _come_back(batch_id, math.ceil(handled.rest))
    _go_on(handled.campaign_id)


@shared_task(ignore_result=True)
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
        # whole seconds: on RabbitMQ Celery cannot count down a fraction of one
        countdown = math.ceil(min(max(wait.seconds, 1), LONGEST_COUNTDOWN))
        raise self.retry(exc=wait, countdown=countdown) from wait


@shared_task(bind=True, ignore_result=True)
def send_outbound(self: "Task[[int], None]", mail_id: int) -> None:
    """Send one single mail to those to whom it is due; before a user's own, what goes first and waits."""
    owner = f"{self.request.hostname} {self.request.id}"
    try:
        for first in _ahead_of(mail_id):
            _post(first, owner)
    finally:
        _post(mail_id, owner)


def _ahead_of(mail_id: int) -> list[int]:
    """Return what is to be sent before this mail. A worker looks for it once in FIRST_LOOK_SECONDS."""
    global _looked_at
    now = time.monotonic()
    if now - _looked_at < FIRST_LOOK_SECONDS:
        return []
    _looked_at = now
    return outbound.ahead_of(mail_id)


def _post(mail_id: int, owner: str) -> None:
    posted = outbound.post(mail_id, owner=owner, line=configured_line(), stopping=_is_shutting_down)
    if posted and posted.rest is not None and posted.rest <= LONGEST_COUNTDOWN:
        publish(send_outbound, [(mail_id,)], countdown=math.ceil(posted.rest))


@shared_task(ignore_result=True)
def import_recipients(job_id: int) -> None:
    """Run one import; an ImportJob keeps the result. When the worker is to end, another goes on with it."""
    try:
        jobs.run(job_id, now=timezone.now(), stopping=_is_shutting_down)
    except ImportJob.DoesNotExist:
        logger.info("import %s was deleted, with its audience, before it was done", job_id)


def hint(task: "Task[..., object]", *args: object) -> bool:
    """Publish a message and say whether the broker took it.

    When it did not, nothing is lost: the next tick finds the same in the database.
    """
    return publish(task, [args]) == 1


def hint_quickly(task: "Task[..., object]", *args: object) -> bool:
    """Do as `hint` does for somebody who cannot wait: milliseconds, whatever state the broker is in."""

    def use(connection: Connection) -> None:
        task.apply_async(args, connection=connection, retry=False)  # type: ignore[call-arg]  # Celery's stubs lack it

    try:
        broker.quickly(use)
    except broker.BrokerAway as error:
        logger.info("the next tick makes up for %s%s: %s", task.name, args, error)
        return False
    return True


def publish(task: "Task[..., object]", messages: Sequence[tuple[object, ...]], *, countdown: int = 0) -> int:
    """Publish one message for each tuple of arguments and return how many the broker took, in order.

    With `countdown` they are for so many seconds later. A broker that is away or hangs costs a few seconds,
    not more: a person may be waiting for the answer.
    """
    waiting = deque(messages)
    try:
        _publish(task, waiting, countdown)
    except broker.BrokerAway as error:
        logger.warning(
            "the broker is away, the next tick makes up for %s messages of %s: %s",
            len(waiting),
            task.name,
            error,
        )
    return len(messages) - len(waiting)


def _publish(task: "Task[..., object]", waiting: deque[tuple[object, ...]], countdown: int) -> None:
    """Publish what is waiting; raises BrokerAway, and what was not taken is waiting still."""
    with broker.connected() as connection:
        while waiting:
            task.apply_async(waiting[0], connection=connection, countdown=countdown, retry=False)  # type: ignore[call-arg]  # Celery's stubs lack it
            waiting.popleft()


def _come_back(batch_id: int, seconds: int) -> None:
    """Publish a batch that rests for a short while, so that it need not wait for a tick."""
    if dispatch.note_published(batch_id) and not publish(send_batch, [(batch_id,)], countdown=seconds):
        dispatch.forget_published([batch_id])


def _announce(campaign_id: int) -> None:
    """Publish what comes before the next tick, to arrive at its moment: the delay is under a minute."""
    for batch_id, seconds in dispatch.soon_batches(campaign_id).items():
        if not publish(send_batch, [(batch_id,)], countdown=seconds):
            dispatch.forget_published([batch_id])


def _go_on(campaign_id: int) -> None:
    batch_ids = dispatch.next_batches(campaign_id)
    if batch_ids:
        taken = publish(send_batch, [(batch_id,) for batch_id in batch_ids])
        dispatch.forget_published(batch_ids[taken:])
    elif dispatch.is_to_end(campaign_id):
        hint(finalize_campaign, campaign_id)
