"""When a provider counts as down, for whom, and how it comes back; on a real Redis-protocol server."""

from collections.abc import Iterator

import pytest
from django.conf import settings

from campaigns import throttle
from campaigns.breaker import FAILURES, FIRST_PAUSE, LONGEST_PAUSE, LOOK_AGAIN, Breaker, Open, Position

KEY, PROBE = "mailer:breaker:tested", "mailer:probe:tested"


@pytest.fixture
def breaker() -> Iterator[Breaker]:
    redis = throttle.connect(settings.REDIS_URL)
    redis.delete(KEY, PROBE)
    yield Breaker("tested", redis)
    redis.delete(KEY, PROBE)
    redis.close()


def _fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.failed("tested: connection refused")


def _let_the_pause_pass(breaker: Breaker) -> None:
    breaker.redis.hset(KEY, "until", 1)


class TestClosed:
    def test_admits_everybody(self, breaker: Breaker) -> None:
        breaker.admit()
        breaker.admit()
        assert breaker.look().position is Position.CLOSED

    def test_stays_closed_below_the_limit_of_failures(self, breaker: Breaker) -> None:
        _fail(breaker, FAILURES - 1)
        breaker.admit()
        assert breaker.look().position is Position.CLOSED

    def test_a_success_in_between_starts_the_count_anew(self, breaker: Breaker) -> None:
        _fail(breaker, FAILURES - 1)
        breaker.succeeded()
        _fail(breaker, FAILURES - 1)
        breaker.admit()


class TestOpen:
    def test_admits_nobody_and_says_since_when_and_why(self, breaker: Breaker) -> None:
        _fail(breaker, FAILURES)
        with pytest.raises(Open, match=r"^tested: open since \d\d:\d\d UTC: connection refused$") as is_open:
            breaker.admit()
        assert FIRST_PAUSE - 5 < is_open.value.seconds <= FIRST_PAUSE
        assert is_open.value.asked is False
        state = breaker.look()
        assert (state.position, state.why) == (Position.OPEN, "tested: connection refused")

    def test_those_who_were_at_it_when_it_opened_do_not_lengthen_it(self, breaker: Breaker) -> None:
        _fail(breaker, FAILURES + 5)
        with pytest.raises(Open) as is_open:
            breaker.admit()
        assert is_open.value.seconds <= FIRST_PAUSE

    def test_a_pause_that_was_asked_for_lasts_as_long_as_asked(self, breaker: Breaker) -> None:
        breaker.paused(40, "tested: 429")
        breaker.paused(20, "tested: 429")
        with pytest.raises(Open) as is_open:
            breaker.admit()
        assert 35 < is_open.value.seconds <= 40
        assert is_open.value.asked is True

    def test_a_success_of_somebody_who_asked_before_does_not_end_it(self, breaker: Breaker) -> None:
        breaker.admit()
        breaker.paused(40, "tested: 429")
        breaker.succeeded()
        with pytest.raises(Open):
            breaker.admit()


class TestHalfOpen:
    def test_admits_one_probe_and_lets_the_others_wait(self, breaker: Breaker) -> None:
        _fail(breaker, FAILURES)
        _let_the_pause_pass(breaker)
        assert breaker.look().position is Position.HALF_OPEN
        assert breaker.admit() is True
        with pytest.raises(Open) as is_open:
            breaker.admit()
        assert is_open.value.seconds <= LOOK_AGAIN

    def test_a_probe_that_succeeds_closes_it(self, breaker: Breaker) -> None:
        _fail(breaker, FAILURES)
        _let_the_pause_pass(breaker)
        breaker.admit()
        breaker.succeeded()
        breaker.admit()
        breaker.admit()
        assert breaker.look().position is Position.CLOSED

    def test_each_probe_that_fails_doubles_the_pause_up_to_its_limit(self, breaker: Breaker) -> None:
        _fail(breaker, FAILURES)
        pauses = []
        for _ in range(6):
            _let_the_pause_pass(breaker)
            breaker.admit()
            breaker.failed("tested: connection refused")
            with pytest.raises(Open) as is_open:
                breaker.admit()
            pauses.append(is_open.value.seconds)
        expected = [min(FIRST_PAUSE * 2**n, LONGEST_PAUSE) for n in range(1, 7)]
        assert pauses == pytest.approx(expected, abs=5)

    def test_a_probe_that_ended_undecided_makes_room_for_another(self, breaker: Breaker) -> None:
        _fail(breaker, FAILURES)
        _let_the_pause_pass(breaker)
        breaker.admit()
        breaker.undecided()
        breaker.admit()


class TestWithoutRedis:
    def test_counts_as_closed(self) -> None:
        breaker = Breaker("tested", throttle.connect("redis://127.0.0.1:1/0"))
        _fail(breaker, FAILURES)
        breaker.admit()
        breaker.succeeded()
        assert breaker.look().position is Position.CLOSED
