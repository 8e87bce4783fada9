"""The admin's first page: the providers and the tick."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import Settings
from redis import Redis

from campaigns import vitals
from campaigns.breaker import Breaker
from campaigns.throttle import Limit
from tests.admin_helpers import client_of, operator
from tests.campaign_helpers import clock
from users.models import User

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def two_providers(settings: Settings, redis: Redis) -> None:
    settings.EMAIL_PROVIDERS = ["sendgrid", "smtp"]
    settings.SENDGRID_RATE_LIMIT_PER_SEC, settings.SMTP_RATE_LIMIT_PER_SEC = 0, 20
    settings.SMTP_DAILY_LIMIT = 2000
    vitals.note_tick(redis, now=clock())


def panel(user: User) -> str:
    """What the panel says, as one line of words."""
    page = client_of(user).get(reverse("admin:index")).text
    (found,) = re.findall(r'<section [^>]*aria-label="Providers">(.*?)</section>', page, re.S)
    return " ".join(re.sub("<[^>]+>", " ", found).split())


class TestProviders:
    def test_are_shown_with_their_state_and_limits(self, boss: User, redis: Redis) -> None:
        Limit("smtp", 20, per_day=2000).reserve(redis, 200, max_wait=30)
        assert re.fullmatch(
            r"Providers sendgrid closed no rate limit "
            r"smtp closed 20/s, which senders wait for, 1,800 of 2,000 left in 24 hours "
            r"The last tick was at \d\d:\d\d:\d\d UTC\.",
            panel(boss),
        )

    def test_say_why_they_are_not_asked(self, boss: User, redis: Redis) -> None:
        Breaker("sendgrid", redis).paused(90, "sendgrid: 429 <too> many")
        Limit("smtp", 0, per_day=2000).reserve(redis, 2000, max_wait=0)
        words = panel(boss)
        assert "sendgrid open no rate limit open since " in words
        assert " UTC: 429 &lt;too&gt; many; asked again at " in words
        assert "smtp quota used up 20/s, 0 of 2,000 left in 24 hours the quota of 2,000 in 24 hours" in words

    def test_are_unknown_without_redis_and_the_page_is_there(self, boss: User, settings: Settings) -> None:
        settings.REDIS_URL = "redis://127.0.0.1:3/0"
        words = panel(boss)
        assert "smtp unknown 20/s, ? of 2,000 left" in words
        assert words.endswith("When the tick last ran is unknown, as Redis does not answer.")

    def test_are_for_those_who_may_see_campaigns(self, client: Client) -> None:
        page = client_of(operator()).get(reverse("admin:index")).text
        assert 'aria-label="Providers"' not in page


class TestTheTick:
    def test_is_red_when_it_is_late(self, boss: User, redis: Redis) -> None:
        vitals.note_tick(redis, now=clock() - timedelta(minutes=5))
        page = client_of(boss).get(reverse("admin:index")).text
        assert re.search(r'mailer-note-red">The last tick was at .* UTC, 5 minutes ago: Beat, the', page)
