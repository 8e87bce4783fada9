"""The shared rate limit and the daily quota, on a real Valkey. Slots are counted, not waited for."""

import os
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context

import pytest
from redis import Redis

from campaigns.throttle import Limit, MustWait, Use, connect

DAY = 86_400_000_000  # microseconds


@dataclass(frozen=True)
class Booking:
    """`count` slots that lie between two moments of the clock, as seen from outside; in seconds."""

    earliest: float
    latest: float
    count: int


def book(url: str, name: str, rate: int, counts: list[int]) -> list[Booking]:
    """Book one slot after the other, without waiting for any."""
    redis, limit, bookings = connect(url), Limit(name, rate), []
    for count in counts:
        before = time.time()
        wait = limit.reserve(redis, count, max_wait=3600).wait
        bookings.append(Booking(before + wait, time.time() + wait, count))
    redis.close()
    return bookings


@pytest.fixture
def redis() -> Iterator[Redis]:
    client = connect(os.environ["REDIS_URL"])
    yield client
    client.close()


@pytest.fixture
def name() -> str:
    return f"test-{uuid.uuid4()}"


def microseconds(redis: Redis) -> int:
    seconds, rest = redis.time()
    return int(seconds) * 1_000_000 + int(rest)


class TestTheRate:
    def test_is_kept_by_eight_processes_in_every_second(self, name: str) -> None:
        rate, burst, each = 600, 60, [10] * 45
        url = os.environ["REDIS_URL"]
        with ProcessPoolExecutor(8, mp_context=get_context("spawn")) as pool:
            started = time.time()
            jobs = [pool.submit(book, url, name, rate, each) for _ in range(8)]
            bookings = [booking for job in jobs for booking in job.result()]
            took = time.time() - started
        assert sum(booking.count for booking in bookings) == 8 * 45 * 10 == 3600
        for first in bookings:
            # those that lie in the second that begins with this one, whatever the clocks' difference
            inside = [b for b in bookings if first.latest <= b.earliest and b.latest < first.earliest + 1]
            assert first.count + sum(b.count for b in inside if b is not first) <= rate + burst
        first_slot = min(booking.earliest for booking in bookings)
        last_slot = max(booking.latest for booking in bookings)
        # 3,600 sends, of which 60 may leave at once, take (3600 - 60) / 600 = 5.9 s, and no longer than
        # it took to ask for them besides
        assert 5.9 - 0.001 <= last_slot - first_slot <= 5.9 + took

    def test_lets_a_tenth_of_a_second_leave_at_once(self, name: str) -> None:
        first, _, third = book(os.environ["REDIS_URL"], name, 10, [1, 1, 1])
        # 10/s: a burst of 1, then one each tenth of a second
        assert third.latest - first.earliest >= 0.2 - 0.00001

    def test_leaves_nothing_in_redis_once_it_is_over(self, redis: Redis, name: str) -> None:
        now = microseconds(redis)
        Limit(name, 10).reserve(redis, 20, max_wait=0)
        free_at = float(redis.get(f"mailer:rate:{name}") or 0)
        assert 0 < redis.pttl(f"mailer:rate:{name}") <= (free_at - now) / 1000 + 1001

    def test_books_a_whole_group_at_once(self, redis: Redis, name: str) -> None:
        limit = Limit(name, 1)
        before = microseconds(redis)
        assert limit.reserve(redis, 200, max_wait=0).wait == 0  # a group never waits for itself
        with pytest.raises(MustWait) as waiting:
            limit.reserve(redis, 200, max_wait=30)
        passed = (microseconds(redis) - before) / 1e6
        assert 200 - passed <= waiting.value.seconds <= 200  # 200 sends at 1/s
        assert str(waiting.value) == f"{name}: waiting for the rate limit of 1/s"

    def test_books_nothing_for_whom_it_takes_too_long(self, redis: Redis, name: str) -> None:
        limit = Limit(name, 1, per_day=100)
        limit.reserve(redis, 50, max_wait=0)
        before = redis.get(f"mailer:rate:{name}"), redis.get(f"mailer:booked:{name}")
        with pytest.raises(MustWait):
            limit.reserve(redis, 50, max_wait=10)
        assert (redis.get(f"mailer:rate:{name}"), redis.get(f"mailer:booked:{name}")) == before
        assert redis.llen(f"mailer:bookings:{name}") == 1

    def test_is_of_each_provider_alone(self, redis: Redis, name: str) -> None:
        Limit(name, 1).reserve(redis, 100, max_wait=0)
        assert Limit(f"{name}-other", 1).reserve(redis, 1, max_wait=0).wait == 0

    def test_does_not_lock_everybody_out_when_the_clock_was_set_back(self, redis: Redis, name: str) -> None:
        redis.set(f"mailer:rate:{name}", microseconds(redis) + 2 * 3600 * 1_000_000)
        assert Limit(name, 1).reserve(redis, 1, max_wait=0).wait == 0
        assert float(redis.get(f"mailer:rate:{name}") or 0) <= microseconds(redis) + 1_000_000

    def test_does_not_let_an_idle_time_be_made_up_for(self, redis: Redis, name: str) -> None:
        redis.set(f"mailer:rate:{name}", microseconds(redis) - 60_000_000)
        limit = Limit(name, 1)
        assert limit.reserve(redis, 50, max_wait=0).wait == 0
        with pytest.raises(MustWait):
            limit.reserve(redis, 1, max_wait=0)


class TestTheQuota:
    def test_is_used_up_exactly(self, redis: Redis, name: str) -> None:
        limit = Limit(name, 0, per_day=25)
        assert [limit.reserve(redis, 10, max_wait=0).count for _ in range(2)] == [10, 10]
        assert limit.reserve(redis, 10, max_wait=0).count == 5
        with pytest.raises(MustWait) as waiting:
            limit.reserve(redis, 1, max_wait=0)
        assert str(waiting.value) == f"{name}: the quota of 25 in 24 hours is used up"
        assert waiting.value.seconds == 600

    def test_rolls_with_the_last_24_hours(self, redis: Redis, name: str) -> None:
        now = microseconds(redis)
        for ago, count in [(DAY + 1_000_000, 8), (DAY, 7), (DAY - 60_000_000, 20), (3_600_000_000, 1)]:
            redis.rpush(f"mailer:bookings:{name}", f"{now - ago} {count}")
            redis.incrby(f"mailer:booked:{name}", count)
        limit = Limit(name, 0, per_day=25)
        # of 36 booked, 8 and 7 are a day old; 20 + 1 count, which leaves 4
        assert limit.reserve(redis, 5, max_wait=0).count == 4
        assert int(redis.get(f"mailer:booked:{name}") or 0) == 25

    def test_counts_a_send_from_when_it_may_leave(self, redis: Redis, name: str) -> None:
        limit = Limit(name, 1, per_day=100)
        limit.reserve(redis, 10, max_wait=30)
        wait = limit.reserve(redis, 10, max_wait=30).wait
        (first, second) = (int(entry.split()[0]) for entry in redis.lrange(f"mailer:bookings:{name}", 0, -1))
        assert wait <= 10
        assert second - first >= 10_000_000 - 1

    def test_is_forgotten_after_a_day_without_sends(self, redis: Redis, name: str) -> None:
        Limit(name, 0, per_day=25).reserve(redis, 1, max_wait=0)
        for key in ("bookings", "booked"):
            assert 86_400 < redis.ttl(f"mailer:{key}:{name}") <= 90_000


class TestWithoutRedis:
    def test_nothing_is_sent(self) -> None:
        with pytest.raises(MustWait, match=r"^waiting for Redis, which keeps the rate limit: ") as waiting:
            Limit("any", 1).reserve(connect("redis://127.0.0.1:1"), 1, max_wait=30)
        assert waiting.value.seconds == 5

    def test_a_provider_without_limits_needs_none(self) -> None:
        assert Limit("any", 0, 0).reserve(connect("redis://127.0.0.1:1"), 10**6, max_wait=0).wait == 0

    def test_a_quota_alone_needs_it_too(self) -> None:
        with pytest.raises(MustWait, match=r"^waiting for Redis"):
            Limit("any", 0, 1).reserve(connect("redis://127.0.0.1:1"), 1, max_wait=0)


class TestALook:
    def test_sees_what_is_booked_and_books_nothing(self, redis: Redis, name: str) -> None:
        limit = Limit(name, 10, per_day=100)
        before = microseconds(redis)
        limit.reserve(redis, 30, max_wait=10)
        after = microseconds(redis)
        for _ in range(2):
            use = limit.look(redis)
            passed = (microseconds(redis) - before) / 1e6
            assert max(3 - passed, 0) <= use.booked_for <= 3  # 30 at 10/s
            assert (use.used, limit.per_day) == (30, 100)
            assert use.more_at is not None
            booked_at = (use.more_at - timedelta(hours=24)).timestamp() * 1e6
            assert before - 1 <= booked_at <= after + 1  # a float is not exact to the microsecond
        assert limit.reserve(redis, 70, max_wait=20).count == 70

    def test_leaves_out_what_is_a_day_old(self, redis: Redis, name: str) -> None:
        now = microseconds(redis)
        bookings = [f"{now - DAY - 1000 + n} 2" for n in range(150)]
        bookings += [f"{now - DAY // 2} 10", f"{now} -3"]
        redis.rpush(f"mailer:bookings:{name}", *bookings)
        redis.set(f"mailer:booked:{name}", 150 * 2 + 10 - 3)
        use = Limit(name, 0, per_day=25).look(redis)
        assert (use.used, use.booked_for) == (7, 0)
        assert use.more_at == datetime.fromtimestamp((now + DAY // 2) / 1e6, UTC)
        assert redis.llen(f"mailer:bookings:{name}") == 152

    def test_finds_nothing_used_when_all_is_a_day_old(self, redis: Redis, name: str) -> None:
        redis.rpush(f"mailer:bookings:{name}", f"{microseconds(redis) - DAY - 1} 10")
        redis.set(f"mailer:booked:{name}", 10)
        assert Limit(name, 0, per_day=25).look(redis) == Use(0, 0, None)

    def test_finds_nothing_where_nothing_was_booked(self, redis: Redis, name: str) -> None:
        assert Limit(name, 10, per_day=25).look(redis) == Use(0, 0, None)
