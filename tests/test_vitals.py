"""A look at Redis that never fails and never takes long."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from pytest_django import Settings
from redis import Redis

from campaigns import vitals
from campaigns.vitals import PATIENCE, Vitals
from tests.brokers import callers, deaf_server, port_of

NOW = datetime(2026, 5, 4, 9, 0, 30, tzinfo=UTC)


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A Redis that takes connections and never answers, asked with the usual patience."""
    monkeypatch.setattr(vitals, "PATIENCE", PATIENCE)
    with deaf_server() as server:
        yield server


def _url(server: socket.socket) -> str:
    return f"redis://127.0.0.1:{port_of(server)}/0"


def _reads(redis: Redis) -> int:
    return int(redis.info("stats")["total_reads_processed"])


class TestALook:
    def test_gives_up_soon_and_then_rests(
        self, deaf: socket.socket, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(vitals, "REST", 3600.0)
        settings.REDIS_URL = _url(deaf)
        assert all(not vitals.look().known for _ in range(100))
        assert callers(deaf) == 1
        waits_for = vitals._looking(_url(deaf))._redis.connection_pool.connection_kwargs["socket_timeout"]
        assert waits_for == PATIENCE == 0.25

    def test_looks_again_when_it_has_rested(
        self, deaf: socket.socket, settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(vitals, "REST", 0.0)
        looking = vitals._Looking(_url(deaf))
        assert looking.read([]) is None
        looking._redis = redis
        assert looking.read([]) == [None]

    def test_is_one_round_trip(self, redis: Redis, settings: Settings) -> None:
        settings.EMAIL_PROVIDERS = ["sendgrid", "smtp"]
        vitals.look()
        before = _reads(redis)
        vitals.look()
        assert _reads(redis) - before == 2  # the look, and the second question itself


class TestTheTick:
    @pytest.mark.parametrize(
        ("tick_at", "late", "words"),
        [
            (None, True, "No tick is known: are Beat and the scheduler's worker running?"),
            (NOW - timedelta(seconds=30), False, "The last tick was at 09:00:00 UTC"),
            (NOW - timedelta(seconds=149), False, "The last tick was at 08:58:01 UTC"),
            (
                NOW - timedelta(minutes=5, seconds=59),
                True,
                "The last tick was at 08:54 UTC, 5 minutes ago: Beat, the scheduler's worker or the broker "
                "is not running",
            ),
            (
                NOW - timedelta(days=1),
                True,
                "The last tick was at 03 May 09:00 UTC, 1,440 minutes ago: Beat, the scheduler's worker or "
                "the broker is not running",
            ),
        ],
    )
    def test_is_late_when_two_are_missing(self, tick_at: datetime | None, late: bool, words: str) -> None:
        around = Vitals((), tick_at)
        assert (around.tick_is_late(NOW), around.last_tick(NOW)) == (late, words)

    def test_is_not_called_late_when_redis_does_not_answer(self) -> None:
        around = Vitals((), known=False)
        assert not around.tick_is_late(NOW)
        assert around.last_tick(NOW) == "When the tick last ran is unknown, as Redis does not answer"
