"""Urgent places in the rate limit: single mails do not wait behind campaigns."""

import pytest
from redis import Redis

from campaigns.throttle import Limit, MustWait


class TestUrgent:
    LIMIT = Limit("smtp", 20)

    @pytest.fixture
    def booked(self, redis: Redis) -> None:
        """A campaign has booked the next 400 seconds."""
        self.LIMIT.reserve(redis, 8000, max_wait=0)

    @pytest.mark.usefixtures("booked")
    def test_goes_before_what_is_booked(self, redis: Redis) -> None:
        assert self.LIMIT.reserve(redis, 1, max_wait=500).wait > 300
        assert self.LIMIT.reserve(redis, 1, max_wait=500, urgent=True).wait == 0

    @pytest.mark.usefixtures("booked")
    def test_keeps_to_its_share(self, redis: Redis) -> None:
        # a tenth of 20/s is two a second, so a hundred take fifty seconds, less the time that has passed
        waits = [self.LIMIT.reserve(redis, 100, max_wait=500, urgent=True).wait for _ in range(4)]
        assert waits == pytest.approx([0, 50, 100, 150], abs=10)

    @pytest.mark.usefixtures("booked")
    def test_is_paid_for_by_those_who_book_later(self, redis: Redis) -> None:
        before = float(redis.get("mailer:rate:smtp") or 0)
        for _ in range(5):
            self.LIMIT.reserve(redis, 1, max_wait=30, urgent=True)
        assert float(redis.get("mailer:rate:smtp") or 0) - before == 5 / 20 * 1e6

    def test_costs_nothing_of_its_share_while_there_is_room(self, redis: Redis) -> None:
        waits = [self.LIMIT.reserve(redis, 1, max_wait=30, urgent=True).wait for _ in range(2)]
        assert waits == [0, 0]

    def test_does_not_go_beyond_the_quota(self, redis: Redis) -> None:
        limit = Limit("smtp", 0, 3)
        limit.reserve(redis, 3, max_wait=0)
        with pytest.raises(MustWait):
            limit.reserve(redis, 1, max_wait=0, urgent=True)
