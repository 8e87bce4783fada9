"""RabbitMQ as the broker: what breaks it, and that workers and publishers get over it by themselves."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.db.models import F
from redis import Redis

from campaigns import actions, broker
from campaigns.models import Audience, Batch, Campaign, Recipient
from campaigns.tasks import SENDERS, check_scheduled_campaigns, publish, send_batch, send_test
from campaigns.throttle import Limit
from tests.brokers import forget_queue, using_broker
from tests.campaign_helpers import clock, counts
from tests.chaos.rabbitmq import RabbitMQ
from tests.mail_servers import SmtpServer
from tests.workers import celery, environment, wait_until

QUEUES = ("imports", "scheduler", "senders", "transactional")


@pytest.fixture(autouse=True)
def _on_rabbitmq(rabbitmq: RabbitMQ) -> Iterator[None]:
    for name in QUEUES:
        forget_queue(rabbitmq.url, name)
    with using_broker(rabbitmq.url):
        yield
    rabbitmq.resume()
    rabbitmq.start()


class TestPublish:
    def test_what_was_taken_outlives_a_kill(self, rabbitmq: RabbitMQ) -> None:
        assert publish(send_batch, [(n,) for n in range(5)]) == 5
        time.sleep(2)  # for the queue to be old enough, see RabbitMQ.kill; nothing tells
        rabbitmq.kill()
        rabbitmq.start()
        wait_until(lambda: broker.messages_in(SENDERS) == 5, what="five messages in the queue")

    def test_gives_up_when_the_node_begins_to_hang(self, rabbitmq: RabbitMQ) -> None:
        with pytest.raises(broker.BrokerAway):
            _publish_and_suspend_in_between(rabbitmq)

    def test_gives_up_when_the_node_is_short_of_memory(self, rabbitmq: RabbitMQ) -> None:
        rabbitmq.control("set_vm_memory_high_watermark", "0")
        try:
            assert publish(send_batch, [(1,), (2,)]) == 0
        finally:
            rabbitmq.control("set_vm_memory_high_watermark", "0.4")


@pytest.mark.django_db(transaction=True)
class TestWorkers:
    @pytest.fixture
    def many(self, audience: Audience) -> list[str]:
        """1,000 addresses, five batches."""
        extra = [f"m{n}@example.com" for n in range(995)]
        Recipient.objects.bulk_create(
            Recipient(audience=audience, email=email, attributes={"city": "Pune"}) for email in extra
        )
        return [f"p{n}@example.com" for n in range(5)] + extra

    @pytest.mark.usefixtures("redis")
    def test_get_over_a_cut_and_over_the_loss_of_every_queue(
        self, rabbitmq: RabbitMQ, campaign: Campaign, many: list[str], smtp: SmtpServer
    ) -> None:
        env = environment(
            EMAIL_PORT=str(smtp.port), SMTP_RATE_LIMIT_PER_SEC="200", CELERY_BROKER_URL=rabbitmq.url
        )
        actions.start(campaign.pk, now=clock())
        with celery("worker", "-Q", "senders,scheduler", "-c", "2", env=env) as worker:
            wait_until(lambda: len(smtp.accepted) > 100, what="100 mails accepted")
            rabbitmq.cut_connections()
            wait_until(lambda: len(smtp.accepted) > 500, what="500 mails accepted")
            rabbitmq.lose_data()
            wait_until(_ticking_until(campaign), seconds=240, what="the campaign completed")
            # the campaign may have ended with what the worker had in hand
            wait_until(lambda: _has_every_queue(rabbitmq), what="every queue made again")
            assert worker.poll() is None
        assert counts(campaign) == {"sent": 1000}
        assert Counter(smtp.recipients) == Counter(many)

    def test_count_down_to_a_test_mail_that_must_wait(
        self, rabbitmq: RabbitMQ, campaign: Campaign, smtp: SmtpServer, redis: Redis
    ) -> None:
        env = environment(
            EMAIL_PORT=str(smtp.port), SMTP_RATE_LIMIT_PER_SEC="1", CELERY_BROKER_URL=rabbitmq.url
        )
        with celery("worker", "-Q", "transactional", "-c", "1", env=env):
            send_test.delay(campaign.pk, ["first@example.com"])
            wait_until(lambda: smtp.recipients == ["first@example.com"], what="a worker at work")
            Limit("smtp", 1).reserve(redis, 10, max_wait=10)
            send_test.delay(campaign.pk, ["late@example.com"])
            wait_until(lambda: _counting_down(rabbitmq) == 1, what="a message counted down by RabbitMQ")
            assert smtp.recipients == ["first@example.com"]
            wait_until(lambda: "late@example.com" in smtp.recipients, what="the mail there")


def _publish_and_suspend_in_between(node: RabbitMQ) -> None:
    with broker.connected() as connection:
        send_batch.apply_async((1,), connection=connection, retry=False)  # type: ignore[call-arg]  # Celery's stubs lack it
        node.suspend()
        send_batch.apply_async((2,), connection=connection, retry=False)  # type: ignore[call-arg]  # as above


def _ticking_until(campaign: Campaign) -> Callable[[], bool]:
    """Return a condition that lets a minute pass, with its tick, every three seconds."""
    ticked_at = time.monotonic()

    def completed() -> bool:
        nonlocal ticked_at
        if time.monotonic() > ticked_at + 3:
            ticked_at = time.monotonic()
            Batch.objects.filter(published_at__isnull=False).update(
                published_at=F("published_at") - timedelta(minutes=1)
            )
            check_scheduled_campaigns()
        campaign.refresh_from_db()
        return campaign.status == "completed"

    return completed


def _has_every_queue(node: RabbitMQ) -> bool:
    queues = node.control("list_queues", "name", "type", "durable").splitlines()
    return {f"{name}\tquorum\ttrue" for name in QUEUES} <= set(queues)


def _counting_down(node: RabbitMQ) -> int:
    """Return how many messages wait in the queues that Celery lets RabbitMQ count down with."""
    lines = node.control("list_queues", "name", "messages").splitlines()
    return sum(int(line.split("\t")[1]) for line in lines if line.startswith("celery_delayed_"))
