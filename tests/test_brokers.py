"""What a broker is asked for: the same on Redis and on RabbitMQ."""

import socket
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.conf import settings
from django.db.models import F
from kombu import Connection
from redis import Redis

from campaigns import broker, dispatch, ledger
from campaigns.broker import QUICK_PATIENCE
from campaigns.models import Audience, Batch, Campaign, Recipient
from campaigns.tasks import SENDERS, check_scheduled_campaigns, hint, hint_quickly, publish, send_batch
from tests.brokers import callers, deaf_server, forget_queue, port_of, using_broker
from tests.campaign_helpers import started

BROKERS = ("redis", "amqp")


@pytest.fixture(params=BROKERS)
def url(request: pytest.FixtureRequest) -> str:
    """Each broker in turn."""
    if request.param == "redis":
        return str(settings.REDIS_URL)
    return str(request.getfixturevalue("rabbitmq").url)


@pytest.fixture
def on_broker(url: str) -> Iterator[None]:
    """Celery on each broker in turn, with no queue in it."""
    for name in (SENDERS, "scheduler"):
        forget_queue(url, name)
    with using_broker(url):
        yield
    for name in (SENDERS, "scheduler"):
        forget_queue(url, name)


@pytest.fixture
def hanging() -> Iterator[socket.socket]:
    """A broker that takes connections and never says a word."""
    with deaf_server() as server:
        yield server


@pytest.mark.usefixtures("on_broker")
class TestPublish:
    def test_makes_the_queue_and_says_how_many_were_taken(self) -> None:
        assert broker.messages_in(SENDERS) == 0
        assert publish(send_batch, [(1,), (2,), (3,)]) == 3
        assert broker.messages_in(SENDERS) == 3

    def test_makes_the_queue_again_after_the_broker_lost_it(self, url: str) -> None:
        assert hint(send_batch, 1)
        forget_queue(url, SENDERS)
        assert broker.messages_in(SENDERS) == 0
        assert hint(send_batch, 1)
        assert broker.messages_in(SENDERS) == 1


def _let_go() -> None:
    """Close the connection that hints in a hurry keep, if there is one."""
    kept, broker._kept.connection = broker._kept.connection, None
    if kept:
        kept.collect()


@pytest.mark.usefixtures("on_broker")
class TestQuickHint:
    @pytest.fixture(autouse=True)
    def _nothing_kept(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(broker, "_rest_until", 0.0)
        _let_go()
        yield
        _let_go()

    def test_uses_its_connection_again(self) -> None:
        assert hint_quickly(send_batch, 1)
        kept = broker._kept.connection
        assert hint_quickly(send_batch, 2)
        assert broker._kept.connection is kept
        assert broker.messages_in(SENDERS) == 2

    def test_gets_over_a_connection_that_died_meanwhile(
        self, url: str, request: pytest.FixtureRequest
    ) -> None:
        assert hint_quickly(send_batch, 1)
        if url.startswith("redis"):
            with Redis.from_url(url) as redis:
                redis.client_kill_filter(_type="normal", skipme=True)
        else:
            request.getfixturevalue("rabbitmq").cut_connections()
        assert hint_quickly(send_batch, 2)
        assert broker.messages_in(SENDERS) == 2


@pytest.mark.parametrize("scheme", BROKERS)
class TestBrokerAway:
    def test_is_asked_by_nobody_in_a_hurry_for_a_while(
        self, scheme: str, hanging: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(broker, "_rest_until", 0.0)
        monkeypatch.setattr(broker, "REST", 3600.0)
        monkeypatch.setattr(broker, "QUICK_PATIENCE", QUICK_PATIENCE)
        patience = _note_patience(monkeypatch)
        with using_broker(f"{scheme}://x:y@127.0.0.1:{port_of(hanging)}//"):
            assert not any(hint_quickly(send_batch, number) for number in range(20))
        assert (patience, callers(hanging)) == ([0.25], 1)
        monkeypatch.setattr(broker, "_rest_until", 0.0)

    def test_is_noticed_when_nobody_listens(self, scheme: str) -> None:
        with using_broker(f"{scheme}://x:y@127.0.0.1:1//"):
            assert not hint(send_batch, 1)
            assert broker.messages_in(SENDERS) is None

    def test_costs_the_patience_for_one_answer_when_it_hangs(
        self, scheme: str, hanging: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        patience = _note_patience(monkeypatch)
        with using_broker(f"{scheme}://x:y@127.0.0.1:{port_of(hanging)}//"):
            assert publish(send_batch, [(1,), (2,)]) == 0
        assert (patience, callers(hanging)) == ([2], 1)


def _note_patience(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list that gets the seconds which each connection made from now on waits for answers."""
    noted: list[float] = []
    impatient = broker._impatient

    def noting(patience: float) -> Connection:
        noted.append(patience)
        return impatient(patience)

    monkeypatch.setattr(broker, "_impatient", noting)
    return noted


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("on_broker")
class TestRecovery:
    """Ten batches of a running campaign in the queue, and what the tick makes of losses."""

    @pytest.fixture(autouse=True)
    def _small_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(settings, "CAMPAIGN_BATCH_SIZE", 1)

    @pytest.fixture
    def published(self, campaign: Campaign, audience: Audience) -> list[int]:
        Recipient.objects.bulk_create(
            Recipient(audience=audience, email=f"m{n}@example.com", attributes={"city": "Pune"})
            for n in range(5)
        )
        started(campaign)
        batches = dispatch.next_batches(campaign.pk)
        publish(send_batch, [(batch_id,) for batch_id in batches])
        return batches

    def test_a_queue_that_waits_is_not_doubled(self, published: list[int]) -> None:
        for _ in range(3):
            _a_minute_passes()
            check_scheduled_campaigns()
            assert broker.messages_in(SENDERS) == len(published) == 10

    def test_what_the_broker_lost_comes_back_once(self, url: str, published: list[int]) -> None:
        forget_queue(url, SENDERS)
        for _ in range(3):
            _a_minute_passes()
            check_scheduled_campaigns()
            _take_hints_about_the_campaign()
            assert broker.messages_in(SENDERS) == len(published)

    def test_a_few_that_were_lost_come_back_while_others_are_young(self, published: list[int]) -> None:
        _lose(3)
        Batch.objects.filter(id__in=published[:3]).update(
            published_at=F("published_at") - timedelta(minutes=1)
        )
        check_scheduled_campaigns()
        _take_hints_about_the_campaign()
        assert broker.messages_in(SENDERS) == len(published)

    def test_what_a_worker_has_in_hand_is_not_taken_for_lost(self, published: list[int]) -> None:
        for batch_id in published[:4]:
            assert ledger.claim(batch_id, "a worker") is not None
        _lose(4)  # a message that is not acknowledged is not counted
        _a_minute_passes()
        check_scheduled_campaigns()
        _take_hints_about_the_campaign()
        assert broker.messages_in(SENDERS) == 6

    def test_what_is_taken_but_not_begun_is_published_once_more_not_every_minute(
        self, published: list[int]
    ) -> None:
        with broker.connected() as connection:
            channel = connection.default_channel
            held_by_a_worker = [channel.basic_get(SENDERS) for _ in range(4)]  # type: ignore[attr-defined]  # kombu's stubs lack it
            assert None not in held_by_a_worker
            for _ in range(3):
                _a_minute_passes()
                check_scheduled_campaigns()
                _take_hints_about_the_campaign()
                assert broker.messages_in(SENDERS) == len(published)


def _a_minute_passes() -> None:
    Batch.objects.filter(published_at__isnull=False).update(
        published_at=F("published_at") - timedelta(minutes=1)
    )


def _take_hints_about_the_campaign() -> None:
    """Do what the scheduler's worker does with the hints that the tick has put in its queue."""
    for campaign in Campaign.objects.filter(status="in_progress"):
        publish(send_batch, [(batch_id,) for batch_id in dispatch.next_batches(campaign.pk)])


def _lose(count: int) -> None:
    """Take the oldest messages away from the broker."""
    with broker.connected() as connection:
        channel = connection.default_channel
        for _ in range(count):
            message = channel.basic_get(SENDERS, no_ack=True)  # type: ignore[attr-defined]  # kombu's stubs lack it
            assert message is not None
