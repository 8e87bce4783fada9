"""The rules of failure, with the sums written out."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.retries import (
    Consequence,
    Stage,
    asked_pause,
    backoff,
    retry_delay,
    sendgrid_answer,
    smtp_reply,
)

MINUTE = timedelta(minutes=1)


class TestSmtpReply:
    @pytest.mark.parametrize(
        ("stage", "code", "text", "consequence"),
        [
            (Stage.CONNECT, 554, "no service here", Consequence.PROVIDER_UNAVAILABLE),
            (Stage.MAIL, 550, "5.7.1 not you", Consequence.PROVIDER_UNAVAILABLE),
            (Stage.MAIL, 451, "4.3.0 later", Consequence.PROVIDER_UNAVAILABLE),
            (Stage.MAIL, 550, "5.4.5 Daily user sending limit exceeded", Consequence.SLOW_DOWN),
            (Stage.RCPT, 550, "5.1.1 no such user", Consequence.RECIPIENT_BAD),
            (Stage.RCPT, 450, "4.2.1 too fast", Consequence.TRY_LATER),
            (Stage.RCPT, 452, "4.2.2 mailbox full", Consequence.TRY_LATER),
            (Stage.RCPT, 421, "4.7.0 closing", Consequence.PROVIDER_UNAVAILABLE),
            (Stage.RCPT, 550, "5.4.5 Daily SMTP relay limit exceeded", Consequence.SLOW_DOWN),
            (Stage.RCPT, 550, "15.4.56 is no such code", Consequence.RECIPIENT_BAD),
            (Stage.DATA, 554, "5.5.1 no valid recipients", Consequence.MESSAGE_BAD),
            (Stage.DATA, 451, "4.3.0 later", Consequence.TRY_LATER),
            (Stage.DOT, 552, "5.2.3 too large", Consequence.MESSAGE_BAD),
            (Stage.DOT, 550, "5.7.1 spam", Consequence.MESSAGE_BAD),
            (Stage.DOT, 451, "4.7.1 greylisted", Consequence.TRY_LATER),
            (Stage.DOT, 421, "4.7.0 closing", Consequence.PROVIDER_UNAVAILABLE),
            (Stage.DOT, 421, "4.7.28 unusual rate of mail", Consequence.SLOW_DOWN),
            (Stage.DOT, 452, "you reached your sending quota", Consequence.SLOW_DOWN),
            (Stage.RCPT, 550, "5.2.2 over its daily receiving quota", Consequence.RECIPIENT_BAD),
            (Stage.DOT, -1, "no answer at all", Consequence.UNKNOWN),
        ],
    )
    def test_is_judged_by_where_it_comes(
        self, stage: Stage, code: int, text: str, consequence: Consequence
    ) -> None:
        assert smtp_reply(stage, code, text) is consequence


class TestSendGridAnswer:
    @pytest.mark.parametrize(
        ("statuses", "consequence"),
        [
            ([200, 202], None),
            ([429], Consequence.SLOW_DOWN),
            ([502, 504], Consequence.UNKNOWN),
            ([400, 413], Consequence.MESSAGE_BAD),
            ([301, 401, 403, 404, 405, 406, 451, 500, 503], Consequence.PROVIDER_UNAVAILABLE),
        ],
    )
    def test_is_judged_by_its_status(self, statuses: list[int], consequence: Consequence | None) -> None:
        assert [sendgrid_answer(status) for status in statuses] == [consequence] * len(statuses)


class TestAskedPause:
    NOW = datetime(2026, 10, 21, 7, 28, tzinfo=UTC)
    RESET = str(int(NOW.timestamp()) + 90)

    @pytest.mark.parametrize(
        ("retry_after", "reset", "seconds"),
        [
            ("30", "", 30),
            (" 30 ", "", 30),
            ("30", RESET, 30),
            ("Wed, 21 Oct 2026 07:29:00 GMT", "", 60),
            ("Wednesday, 21-Oct-26 07:29:00 GMT", "", 60),
            ("Wed Oct 21 07:29:00 2026", "", 60),
            ("Wed, 21 Oct 2026 07:27:00 GMT", RESET, 1),
            ("", RESET, 90),
            ("soon", RESET, 90),
            ("", "", 10),
            ("-1", "", 10),
            ("1.5", "", 10),
            ("²", "", 10),
            ("Wed, 99 Oct 2026 07:29:00 GMT", "soon", 10),
            ("0", "", 1),
            ("86400", "", 3600),
            ("", "1", 1),
            ("", "9" * 15, 3600),
        ],
    )
    def test_is_read_from_either_header_or_neither(
        self, retry_after: str, reset: str, seconds: float
    ) -> None:
        assert asked_pause(retry_after, reset, now=self.NOW) == seconds


class TestNextAttempt:
    @pytest.mark.parametrize(
        ("attempts", "jitter", "delay"),
        [
            (1, 0.5, 1 * MINUTE),  # 1 x 4^0 = 1, times 1
            (2, 0.5, 4 * MINUTE),  # 1 x 4^1
            (3, 0.5, 16 * MINUTE),  # 1 x 4^2
            (4, 0.5, 60 * MINUTE),  # 1 x 4^3 = 64, at most 60
            (1, 0.0, 0.5 * MINUTE),
            (2, 0.0, 2 * MINUTE),  # 4 x 0.5
            (4, 0.75, 75 * MINUTE),  # 60 x 1.25
        ],
    )
    def test_is_four_times_later_each_time(self, attempts: int, jitter: float, delay: timedelta) -> None:
        found = retry_delay(attempts, maximum=5, base=MINUTE, jitter=lambda: jitter)
        assert found == delay

    @pytest.mark.parametrize(("attempts", "maximum"), [(5, 5), (6, 5), (1, 1), (1, 0)])
    def test_is_never_after_the_last(self, attempts: int, maximum: int) -> None:
        assert retry_delay(attempts, maximum=maximum, base=MINUTE, jitter=lambda: 0.5) is None


@given(
    failures=st.integers(1, 10_000),
    seconds=st.integers(1, 86_400),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_a_pause_is_half_to_one_and_a_half_times_the_grown_base(
    failures: int, seconds: int, jitter: float
) -> None:
    grown = timedelta(seconds=min(3600, seconds * 4 ** (failures - 1)))
    pause = backoff(failures, base=timedelta(seconds=seconds), jitter=lambda: jitter)
    assert 0.5 * grown <= pause <= 1.5 * grown  # the upper end only by rounding to a microsecond
    assert abs(pause - grown * (0.5 + jitter)) <= timedelta(microseconds=1)


def test_a_first_pause_counts_like_none_before_it() -> None:
    assert backoff(0, base=MINUTE, jitter=lambda: 0.5) == MINUTE
