"""/providers/status/: what state the providers are in."""

from datetime import datetime, timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings
from redis import Redis
from rest_framework.test import APIClient

from campaigns import vitals
from campaigns.breaker import Breaker
from campaigns.throttle import Limit
from tests.api_helpers import PASSWORD, client_of, operator, path_of, problem
from users.models import User

pytestmark = pytest.mark.django_db

PATH = path_of("providers", then="") + "status/"
IDLE = {
    "state": "closed",
    "since": None,
    "until": None,
    "why": "",
    "rate_per_second": 0,
    "waits_for_rate": False,
    "quota_per_day": 0,
    "quota_used": None,
    "quota_left": None,
    "quota_more_at": None,
}


@pytest.fixture(autouse=True)
def two_providers(settings: Settings, redis: Redis) -> None:
    settings.EMAIL_PROVIDERS = ["sendgrid", "smtp"]
    settings.SENDGRID_RATE_LIMIT_PER_SEC = settings.SMTP_RATE_LIMIT_PER_SEC = 0


class TestAtRest:
    def test_names_each_in_the_order_in_which_they_are_tried(self, api: APIClient) -> None:
        answer = api.get(PATH)
        assert answer.status_code == 200
        assert answer.json() == {
            "providers": [{"name": "sendgrid", **IDLE}, {"name": "smtp", **IDLE}],
            "last_tick_at": None,
        }

    def test_names_the_last_tick(self, api: APIClient, redis: Redis, now: datetime) -> None:
        vitals.note_tick(redis, now=now)
        assert api.get(PATH).json()["last_tick_at"] == "2026-05-04T09:00:00Z"


class TestInTrouble:
    def test_one_that_is_open_says_since_when_until_when_and_why(self, api: APIClient, redis: Redis) -> None:
        Breaker("sendgrid", redis).paused(90, "sendgrid: 429 too many requests")
        sendgrid, smtp = api.get(PATH).json()["providers"]
        assert (sendgrid["state"], sendgrid["why"]) == ("open", "429 too many requests")
        since, until = (datetime.fromisoformat(sendgrid[key]) for key in ("since", "until"))
        assert until - since == timedelta(seconds=90)
        assert abs(since - timezone.now()) < timedelta(seconds=10)
        assert smtp == {"name": "smtp", **IDLE}

    def test_one_whose_pause_is_over_is_half_open(self, api: APIClient, redis: Redis) -> None:
        Breaker("smtp", redis).paused(90, "smtp: 421")
        redis.hset("mailer:breaker:smtp", "until", 1)
        assert api.get(PATH).json()["providers"][1]["state"] == "half-open"

    def test_says_how_much_of_rate_and_quota_is_taken(
        self, api: APIClient, redis: Redis, settings: Settings
    ) -> None:
        settings.SMTP_RATE_LIMIT_PER_SEC, settings.SMTP_DAILY_LIMIT = 20, 500
        Limit("smtp", 20, per_day=500).reserve(redis, 200, max_wait=30)
        smtp = api.get(PATH).json()["providers"][1]
        assert (smtp["rate_per_second"], smtp["waits_for_rate"]) == (20, True)
        assert (smtp["quota_per_day"], smtp["quota_used"], smtp["quota_left"]) == (500, 200, 300)
        in_a_day = timezone.now() + timedelta(hours=24)
        assert abs(datetime.fromisoformat(smtp["quota_more_at"]) - in_a_day) < timedelta(seconds=10)

    def test_is_unknown_when_redis_does_not_answer(self, api: APIClient, settings: Settings) -> None:
        settings.SMTP_DAILY_LIMIT = 500
        settings.REDIS_URL = "redis://127.0.0.1:2/0"
        unknown = {**IDLE, "state": "unknown"}
        assert api.get(PATH).json() == {
            "providers": [
                {"name": "sendgrid", **unknown},
                {"name": "smtp", **unknown, "quota_per_day": 500},
            ],
            "last_tick_at": None,
        }


class TestPermission:
    def test_is_for_operators(self) -> None:
        assert client_of(operator()).get(PATH).status_code == 200
        person = User.objects.create_user("person@example.com", PASSWORD)
        assert problem(client_of(person).get(PATH), 403)["code"] == "permission_denied"
        assert problem(APIClient().get(PATH), 401)["code"] == "not_authenticated"
