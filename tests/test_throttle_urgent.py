"""Urgent places in the rate limit: single mails do not wait behind campaigns."""

import pytest
from redis import Redis

from campaigns.throttle import Limit, MustWait


class TestUrgent:
    LIMIT = Limit("smtp", 20)

    def test_goes_before_what_is_booked(self, redis: Redis) -> None:
        for _ in range(20):
            self.LIMIT.reserve(redis, 10, max_wait=30)
        assert self.LIMIT.reserve(redis, 1, max_wait=30).wait > 8
        assert self.LIMIT.reserve(redis, 1, max_wait=30, urgent=True).wait == 0

    def test_keeps_to_its_share(self, redis: Redis) -> None:
        for _ in range(20):
            self.LIMIT.reserve(redis, 10, max_wait=30)
        waits = [self.LIMIT.reserve(redis, 1, max_wait=30, urgent=True).wait for _ in range(5)]
        assert waits == pytest.approx([0, 0.5, 1.0, 1.5, 2.0], abs=0.1)

    def test_is_paid_for_by_those_who_book_later(self, redis: Redis) -> None:
        for _ in range(20):
            self.LIMIT.reserve(redis, 10, max_wait=30)
        before = self.LIMIT.look(redis).booked_for
        for _ in range(5):
            self.LIMIT.reserve(redis, 1, max_wait=30, urgent=True)
        assert self.LIMIT.look(redis).booked_for - before == pytest.approx(5 / 20, abs=0.05)

    def test_costs_nothing_of_its_share_while_there_is_room(self, redis: Redis) -> None:
        waits = [self.LIMIT.reserve(redis, 1, max_wait=30, urgent=True).wait for _ in range(2)]
        assert waits == [0, 0]

    def test_does_not_go_beyond_the_quota(self, redis: Redis) -> None:
        limit = Limit("smtp", 0, 3)
        limit.reserve(redis, 3, max_wait=0)
        with pytest.raises(MustWait):
            limit.reserve(redis, 1, max_wait=0, urgent=True)
