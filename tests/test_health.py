"""/health/live and /health/ready."""

from datetime import UTC, datetime

import pytest
from django.test import Client
from pytest_django import Settings
from redis import Redis

from campaigns import vitals

NOBODY = "redis://127.0.0.1:1/0"


class TestLive:
    def test_answers_without_touching_anything(self, client: Client) -> None:
        response = client.get("/health/live")
        assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.mark.django_db
class TestReady:
    def test_is_ok_when_every_part_answers(self, client: Client, redis: Redis) -> None:
        response = client.get("/health/ready")
        parts = {"status": "ok", "database": "ok", "redis": "ok", "broker": "ok"}
        assert response.json() == {**parts, "last_tick": None}
        assert response.status_code == 200

    def test_says_when_the_tick_last_ran_and_is_ready_though_that_is_long_ago(
        self, client: Client, redis: Redis
    ) -> None:
        vitals.note_tick(redis, now=datetime(2026, 5, 4, 9, 0, 3, tzinfo=UTC))
        response = client.get("/health/ready")
        assert (response.status_code, response.json()["last_tick"]) == (200, "2026-05-04T09:00:03Z")

    def test_names_the_part_that_does_not_answer(self, client: Client, settings: Settings) -> None:
        settings.REDIS_URL = NOBODY
        response = client.get("/health/ready")
        assert response.status_code == 503
        assert response.json() == {
            "status": "unavailable",
            "database": "ok",
            "redis": "unreachable (ConnectionError)",
            "broker": "ok",
            "last_tick": None,
        }

    def test_looks_at_the_broker_by_itself(self, client: Client, settings: Settings) -> None:
        settings.CELERY_BROKER_URL = NOBODY
        parts = client.get("/health/ready").json()
        assert (parts["redis"], parts["broker"]) == ("ok", "unreachable (OperationalError)")
