"""When something happens again, whatever the clocks do."""

from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules import reading, words
from schedules.reading import RecurrenceRefused
from schedules.recurrence import Recurrence, take_turn

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ZONES = sorted(available_timezones() - {"Factory", "localtime"})


def read(now: datetime = NOW, **given: Any) -> Recurrence:
    return reading.read(given, now=now, default_timezone="Asia/Kolkata")


def moments(recurrence: Recurrence, *, after: str, at_most: int) -> list[str]:
    """The moments after a local time, with their offsets."""
    zone = ZoneInfo(recurrence.timezone)
    since = datetime.fromisoformat(after).replace(tzinfo=zone)
    found = recurrence.upcoming(after=since, at_most=at_most)
    return [each.at.astimezone(zone).isoformat() for each in found]


def refused(**given: Any) -> dict[str, list[str]]:
    with pytest.raises(RecurrenceRefused) as refusal:
        read(**given)
    return refusal.value.problems


CRONS = ["* * * * *", "*/30 2 * * *", "30 * * * *", "15 0-3 * * *"]
BRUSSELS, NEW_YORK, LORD_HOWE = "Europe/Brussels", "America/New_York", "Australia/Lord_Howe"


class TestGap:
    """Where the clocks go forward, a time that they skip shifts by as much."""

    @pytest.mark.parametrize(
        ("zone", "at", "after", "expected"),
        [
            (BRUSSELS, "02:30", "2026-03-28T00:00",
             ["2026-03-28T02:30:00+01:00", "2026-03-29T03:30:00+02:00", "2026-03-30T02:30:00+02:00"]),
            (NEW_YORK, "02:30", "2026-03-07T00:00",
             ["2026-03-07T02:30:00-05:00", "2026-03-08T03:30:00-04:00", "2026-03-09T02:30:00-04:00"]),
            (LORD_HOWE, "02:15", "2026-10-03T00:00",
             ["2026-10-03T02:15:00+10:30", "2026-10-04T02:45:00+11:00", "2026-10-05T02:15:00+11:00"]),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("as_cron", [False, True])
    def test_shifts_a_daily_time_forward_once(
        self, zone: str, at: str, after: str, expected: list[str], as_cron: bool
    ) -> None:
        hour, minute = map(int, at.split(":"))
        recurrence = (
            read(kind="cron", cron=f"{minute} {hour} * * *", timezone=zone)
            if as_cron
            else read(kind="daily", times=[at], timezone=zone)
        )
        assert moments(recurrence, after=after, at_most=3) == expected

    def test_lets_two_times_that_it_makes_one_happen_once(self) -> None:
        recurrence = read(kind="daily", times=["02:30", "03:30"], timezone=BRUSSELS)
        assert moments(recurrence, after="2026-03-29T00:00", at_most=3) == [
            "2026-03-29T03:30:00+02:00", "2026-03-30T02:30:00+02:00", "2026-03-30T03:30:00+02:00",
        ]  # fmt: skip

    def test_keeps_times_in_order_when_it_moves_one_past_another(self) -> None:
        recurrence = read(kind="daily", times=["02:45", "03:15"], timezone=BRUSSELS)
        assert moments(recurrence, after="2026-03-29T00:00", at_most=2) == [
            "2026-03-29T03:15:00+02:00", "2026-03-29T03:45:00+02:00",
        ]  # fmt: skip

    def test_leaves_nine_o_clock_where_it_is(self) -> None:
        recurrence = read(kind="daily", times=["09:00"], timezone=BRUSSELS)
        assert moments(recurrence, after="2026-03-28T09:00", at_most=2) == [
            "2026-03-29T09:00:00+02:00", "2026-03-30T09:00:00+02:00",
        ]  # fmt: skip


class TestFold:
    """Where the clocks go back, a time that they show twice happens the first time only."""

    @pytest.mark.parametrize(
        ("zone", "at", "after", "expected"),
        [
            (BRUSSELS, "02:30", "2026-10-24T03:00",
             ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]),
            (NEW_YORK, "01:30", "2026-10-31T03:00",
             ["2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"]),
            (LORD_HOWE, "01:45", "2026-04-04T03:00",
             ["2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"]),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("as_cron", [False, True])
    def test_runs_a_daily_time_once(
        self, zone: str, at: str, after: str, expected: list[str], as_cron: bool
    ) -> None:
        hour, minute = map(int, at.split(":"))
        recurrence = (
            read(kind="cron", cron=f"{minute} {hour} * * *", timezone=zone)
            if as_cron
            else read(kind="daily", times=[at], timezone=zone)
        )
        assert moments(recurrence, after=after, at_most=2) == expected

    def test_lets_an_hourly_cron_follow_the_clock_through_it(self) -> None:
        recurrence = read(kind="cron", cron="30 * * * *", timezone=BRUSSELS)
        assert moments(recurrence, after="2026-10-25T01:00", at_most=4) == [
            "2026-10-25T01:30:00+02:00", "2026-10-25T02:30:00+02:00",
            "2026-10-25T02:30:00+01:00", "2026-10-25T03:30:00+01:00",
        ]  # fmt: skip


def by_the_clock(cron: str, zone: str, since: datetime, minutes: int) -> list[datetime]:
    """Every minute at which the clocks of the zone show what the cron expression asks, one by one."""
    minute_field, hour_field = cron.split()[:2]
    every = (since + timedelta(minutes=n) for n in range(1, minutes))
    return [
        at
        for at in every
        if _matches(minute_field, at.astimezone(ZoneInfo(zone)).minute)
        and _matches(hour_field, at.astimezone(ZoneInfo(zone)).hour)
    ]


def _matches(field: str, value: int) -> bool:
    if field.startswith("*/"):
        return value % int(field[2:]) == 0
    return field == "*" or value == int(field)


class TestCronAlongTheClock:
    @pytest.mark.parametrize("cron", ["30 * * * *", "15 */2 * * *", "*/20 2 * * *", "*/7 * * * *"])
    @pytest.mark.parametrize(
        ("zone", "day"),
        [
            (LORD_HOWE, datetime(2027, 10, 2, tzinfo=UTC)),
            (LORD_HOWE, datetime(2027, 4, 3, tzinfo=UTC)),
            (BRUSSELS, datetime(2026, 3, 28, tzinfo=UTC)),
            (BRUSSELS, datetime(2026, 10, 24, tzinfo=UTC)),
            (NEW_YORK, datetime(2026, 3, 7, tzinfo=UTC)),
            (NEW_YORK, datetime(2026, 10, 31, tzinfo=UTC)),
        ],
    )
    def test_happens_at_each_minute_that_the_clocks_show(self, zone: str, day: datetime, cron: str) -> None:
        expected = by_the_clock(cron, zone, day, 3 * 24 * 60)
        recurrence = read(kind="cron", cron=cron, timezone=zone, start="2026-01-01T00:00:00Z")
        found = recurrence.upcoming(after=day, at_most=len(expected))
        assert [each.at for each in found] == expected

    def test_loses_nothing_to_clocks_that_change_by_half_an_hour(self) -> None:
        recurrence = read(kind="cron", cron="30 * * * *", timezone=LORD_HOWE)
        assert moments(recurrence, after="2027-10-03T01:00", at_most=3) == [
            "2027-10-03T01:30:00+10:30", "2027-10-03T02:30:00+11:00", "2027-10-03T03:30:00+11:00",
        ]  # fmt: skip
        assert moments(recurrence, after="2027-04-04T01:00", at_most=3) == [
            "2027-04-04T01:30:00+11:00", "2027-04-04T01:30:00+10:30", "2027-04-04T02:30:00+10:30",
        ]  # fmt: skip

    def test_finds_a_rare_day_in_the_hour_that_comes_twice(self) -> None:
        recurrence = read(kind="cron", cron="*/30 1 1 11 *", timezone=NEW_YORK)
        assert moments(recurrence, after="2026-10-01T00:00", at_most=5) == [
            "2026-11-01T01:00:00-04:00", "2026-11-01T01:30:00-04:00",
            "2026-11-01T01:00:00-05:00", "2026-11-01T01:30:00-05:00", "2027-11-01T01:00:00-04:00",
        ]  # fmt: skip


class TestInterval:
    def test_is_a_sum_in_utc_on_the_grid_of_its_start(self) -> None:
        recurrence = read(kind="interval", interval_seconds=3600, start="2026-10-25T00:10", timezone=BRUSSELS)
        assert moments(recurrence, after="2026-10-25T01:00", at_most=4) == [
            "2026-10-25T01:10:00+02:00", "2026-10-25T02:10:00+02:00",
            "2026-10-25T02:10:00+01:00", "2026-10-25T03:10:00+01:00",
        ]  # fmt: skip

    def test_skips_years_in_one_step(self) -> None:
        recurrence = read(kind="interval", interval_seconds=60)
        far = NOW + timedelta(days=20_000, seconds=30)
        assert recurrence.next(after=far) == far + timedelta(seconds=30)


class TestCalendar:
    def test_knows_the_last_day_of_each_month(self) -> None:
        recurrence = read(kind="monthly", times=["09:00"], month_days=["last"])
        assert [each[:10] for each in moments(recurrence, after="2028-01-01T00:00", at_most=3)] == [
            "2028-01-31", "2028-02-29", "2028-03-31",
        ]  # fmt: skip

    def test_names_a_day_that_is_the_31st_and_the_last_once(self) -> None:
        recurrence = read(kind="monthly", times=["09:00"], month_days=[31, "last"])
        assert [each[:10] for each in moments(recurrence, after="2026-03-01T00:00", at_most=2)] == [
            "2026-03-31", "2026-04-30",
        ]  # fmt: skip

    def test_counts_every_second_week_from_the_week_of_its_start(self) -> None:
        recurrence = read(
            kind="weekly", times=["09:00"], weekdays=["mon", "Friday"], every=2, start="2026-01-07T00:00"
        )
        days = [each.at.date() for each in recurrence.upcoming(after=NOW, at_most=4)]
        assert days == [date(2026, 1, 9), date(2026, 1, 19), date(2026, 1, 23), date(2026, 2, 2)]
        later = recurrence.upcoming(after=datetime(2031, 1, 1, tzinfo=UTC), at_most=40)
        mondays = [each.at.date() for each in later if each.at.weekday() == 0]
        assert {(day - date(2026, 1, 5)).days % 14 for day in mondays} == {0}

    def test_happens_several_times_a_day_to_the_second(self) -> None:
        recurrence = read(kind="daily", times=["18:30:15", "09:00"])
        assert moments(recurrence, after="2026-05-04T00:00", at_most=3) == [
            "2026-05-04T09:00:00+05:30", "2026-05-04T18:30:15+05:30", "2026-05-05T09:00:00+05:30",
        ]  # fmt: skip

    def test_comes_on_a_leap_day_every_year_that_has_one(self) -> None:
        recurrence = read(kind="yearly", times=["09:00"], months=[2], month_days=[29])
        assert [each.at.year for each in recurrence.upcoming(after=NOW, at_most=3)] == [2028, 2032, 2036]

    def test_starts_no_earlier_than_it_is_told_and_ends_with_until(self) -> None:
        recurrence = read(kind="daily", times=["09:00"], start="2026-06-01T09:00", until="2026-06-03T09:00")
        assert [each[:10] for each in moments(recurrence, after="2026-01-01T00:00", at_most=9)] == [
            "2026-06-01", "2026-06-02", "2026-06-03",
        ]  # fmt: skip

    def test_ends_after_its_count(self) -> None:
        recurrence = read(kind="daily", times=["09:00", "18:00"], count=3)
        assert len(recurrence.upcoming(after=NOW, at_most=9)) == 3
        (last,) = recurrence.upcoming(after=NOW + timedelta(days=1), at_most=9)
        assert last.at == recurrence.ends_at


@st.composite
def recurrences(draw: st.DrawFn) -> Recurrence:
    """Any recurrence of times of day."""
    kind = draw(st.sampled_from(["daily", "weekly", "monthly", "yearly"]))
    minutes = st.integers(0, 24 * 60 - 1)
    times = draw(st.lists(minutes, min_size=1, max_size=4, unique=True))
    given: dict[str, Any] = {
        "kind": kind,
        "timezone": draw(st.sampled_from(ZONES)),
        "times": [f"{minute // 60:02}:{minute % 60:02}" for minute in times],
        "every": draw(st.integers(1, 3)),
    }
    if kind == "weekly":
        given["weekdays"] = draw(st.lists(st.sampled_from(reading.WEEKDAYS), min_size=1, unique=True))
    if kind in ("monthly", "yearly"):
        given["month_days"] = draw(
            st.lists(st.sampled_from([*range(1, 29), "last"]), min_size=1, max_size=5, unique=True)
        )
    if kind == "yearly":
        given["months"] = draw(st.lists(st.integers(1, 12), min_size=1, max_size=5, unique=True))
    return read(**given)


FARTHEST = ["Pacific/Kiritimati", "Pacific/Honolulu", "Asia/Kolkata", "UTC", "Etc/GMT+12"]


@st.composite
def at_the_bounds(draw: st.DrawFn) -> dict[str, Any]:
    """What somebody might write within two days of the first year or the last, locally or with an offset."""
    edge = draw(st.sampled_from([datetime(2000, 1, 1), datetime(2100, 12, 31, 23, 59, 59)]))  # noqa: DTZ001
    moment = (edge + timedelta(hours=draw(st.integers(-30, 30)))).isoformat()
    moment += draw(st.sampled_from(["", "Z", "+14:00", "-12:00"]))
    given: dict[str, Any] = {"timezone": draw(st.sampled_from(FARTHEST))}
    kinds = [("once", "at"), ("daily", "start"), ("daily", "until"), ("interval", "start"), ("cron", "until")]
    kind, field = draw(st.sampled_from(kinds))
    own: dict[str, Any] = {
        "daily": {"times": ["09:00"]},
        "interval": {"interval_seconds": 60},
        "cron": {"cron": "0 9 * * *"},
    }
    return {**given, "kind": kind, field: moment, **own.get(kind, {})}


moments_in_time = st.datetimes(datetime(2026, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


class TestAnyRecurrence:
    @given(recurrences(), moments_in_time)
    def test_is_strictly_increasing(self, recurrence: Recurrence, after: datetime) -> None:
        found = [each.at for each in recurrence.upcoming(after=after, at_most=30)]
        assert all(a < b for a, b in pairwise([after, *found]))

    @given(recurrences(), moments_in_time)
    def test_is_the_same_from_wherever_one_looks(self, recurrence: Recurrence, after: datetime) -> None:
        found = [each.at for each in recurrence.upcoming(after=after, at_most=8)]
        assert found[1:] == [recurrence.next(after=each) for each in found[:-1]]
        if found:
            assert recurrence.latest(since=found[0], until=found[-1]) == found[-1]

    @given(recurrences())
    def test_comes_back_from_the_database_as_it_was(self, recurrence: Recurrence) -> None:
        assert reading.restore(reading.write(recurrence)) == recurrence

    @given(at_the_bounds())
    def test_comes_back_at_the_bounds_too_or_is_refused(self, asked: dict[str, Any]) -> None:
        try:
            recurrence = read(now=datetime(1999, 12, 1, tzinfo=UTC), **asked)
        except RecurrenceRefused:
            return
        assert reading.restore(reading.write(recurrence)) == recurrence
        assert recurrence.next(after=datetime(1999, 12, 1, tzinfo=UTC)) is not None

    @given(recurrences())
    def test_has_words(self, recurrence: Recurrence) -> None:
        assert words.sentence(recurrence, now=NOW).endswith(f", {recurrence.timezone}")

    @given(st.sampled_from(ZONES), st.sampled_from(CRONS), moments_in_time)
    def test_of_cron_is_strictly_increasing_too(self, zone: str, cron: str, after: datetime) -> None:
        recurrence = read(kind="cron", cron=cron, timezone=zone)
        found = [each.at for each in recurrence.upcoming(after=after, at_most=50)]
        assert len(found) == 50
        assert all(a < b for a, b in pairwise([after, *found]))


def _clocks(zone: str, days: int) -> tuple[timedelta | None, ...]:
    """Return what the zone's clocks show from the end of 2025 on; equal for zones that are alike."""
    tz = ZoneInfo(zone)
    noons = [datetime(2025, 12, 30, 12, tzinfo=UTC) + timedelta(days=n) for n in range(days + 4)]
    offsets = [noon.astimezone(tz).utcoffset() for noon in noons]
    quarters = [timedelta(minutes=15 * n) for n in range(24 * 4)]
    changes = [
        (noon + quarter).astimezone(tz).utcoffset()
        for noon, offset, next_one in zip(noons, offsets, offsets[1:], strict=False)
        if offset != next_one
        for quarter in quarters
    ]
    return (*offsets, *changes)


@pytest.fixture(scope="module")
def zones() -> list[str]:
    """Every zone of the database but those whose clocks are another one's for 800 days."""
    return list({_clocks(zone, 800): zone for zone in ZONES}.values())


class TestEveryZone:
    @pytest.mark.parametrize("at", ["00:00", "00:30", "01:59", "02:30", "03:00", "23:45"])
    def test_happens_once_for_each_day_for_years(self, at: str, zones: list[str]) -> None:
        """One moment for each step of the rule, in each zone of the database."""
        for zone in zones:
            recurrence = read(kind="daily", times=[at], timezone=zone, start="2026-01-01T00:00")
            found = list(islice(recurrence.occurrences(), 800))
            wanted = [each.wanted for each in found]
            first = wanted[0]
            assert first is not None
            assert wanted == [first + timedelta(days=n) for n in range(800)], zone
            assert all(a.at < b.at for a, b in pairwise(found)), zone
            shifts = [
                each.at.astimezone(ZoneInfo(zone)).replace(tzinfo=None) - each.wanted
                for each in found
                if each.wanted
            ]
            assert all(timedelta(0) <= shift <= timedelta(hours=2) for shift in shifts), zone


class TestRefusals:
    @pytest.mark.parametrize(
        ("given", "field", "words_of_it"),
        [
            ({"kind": "cron", "cron": "0 0 30 2 *"}, "cron", "It never happens"),
            ({"kind": "cron", "cron": "0 0 31 APR,JUN *"}, "cron", "It never happens"),
            ({"kind": "cron", "cron": "0 0 32 2 *"}, "cron", "Bad day-of-month"),
            ({"kind": "cron", "cron": "0 25 31 4 *"}, "cron", "Bad hour"),
            ({"kind": "daily", "times": ["09:00"], "timezone": "localtime"}, "timezone", "'localtime'"),
            ({"kind": "cron", "cron": "* * * * * *"}, "cron", "It has six fields"),
            ({"kind": "cron", "cron": "61 * * * *"}, "cron", "Bad minute"),
            ({"kind": "cron", "cron": "hourly"}, "cron", "Give five fields"),
            ({"kind": "cron", "cron": 5}, "cron", "Give five fields"),
            ({"kind": "interval", "interval_seconds": 1}, "interval_seconds", "from 60 to"),
            ({"kind": "interval", "interval_seconds": True}, "interval_seconds", "from 60 to"),
            ({"kind": "daily", "times": ["09:00"], "timezone": "Mars/X"}, "timezone", "is not a time zone"),
            ({"kind": "daily", "times": ["09:00"], "timezone": ["UTC"]}, "timezone", "Asia/Kolkata"),
            ({"kind": "once", "at": "2025-12-31T09:00"}, "at", "is in the past; give a time after"),
            ({"kind": "once"}, "at", "Say when"),
            ({"kind": "once", "at": "2026-05-31"}, "at", "Write it like"),
            ({"kind": "once", "at": "9999-12-31T23:59:59-23:00"}, "at", "Write it like"),
            ({"kind": "daily"}, "times", "Give a list of 1 to 24"),
            ({"kind": "daily", "times": ["25:00"]}, "times", "'25:00' is none of these"),
            ({"kind": "daily", "times": ["09:00", "09:00:30"]}, "times", "at least a minute"),
            ({"kind": "daily", "times": ["23:59:59", "00:00"]}, "times", "at least a minute"),
            ({"kind": "weekly", "times": ["09:00"]}, "weekdays", "monday, tuesday"),
            ({"kind": "weekly", "times": ["09:00"], "weekdays": [""]}, "weekdays", "'' is none of these"),
            ({"kind": "weekly", "times": ["09:00"], "weekdays": ["s"]}, "weekdays", "'s' is none of these"),
            ({"kind": "yearly", "times": ["09:00"], "months": [2], "month_days": [30]}, "month_days",
             "It never happens"),
            ({"kind": "hourly"}, "kind", "Give one of once, daily"),
            ({"kind": ["daily"]}, "kind", "Give one of once, daily"),
            ({"kind": "daily", "times": ["09:00"], "weekdays": ["monday"]}, "weekdays", "does not go with"),
            ({"kind": "daily", "times": ["09:00"], "colour": 1}, "colour", "There is no such field"),
            ({"kind": "daily", "times": ["09:00"], "every": 0}, "every", "from 1 to 366"),
            ({"kind": "daily", "times": ["09:00"], "until": "2025-01-01T00:00"}, "until", "not after"),
            ({"kind": "daily", "times": ["09:00"], "until": "2026-01-01T06:00"}, "until", "before its first"),
            ({"kind": "daily", "times": ["09:00"], "start": "2020-01-01T00:00", "count": 3}, "count",
             "All 3 lie in the past"),
            ({"kind": "daily", "times": ["09:00"], "count": 0}, "count", "from 1 to 1,000"),
        ],
    )  # fmt: skip
    def test_name_the_field_and_what_would_be_right(
        self, given: dict[str, Any], field: str, words_of_it: str
    ) -> None:
        problems = refused(**given)
        assert list(problems) == [field]
        assert words_of_it in " ".join(problems[field])

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
    def test_are_all_that_strange_input_meets(self, strange: Any) -> None:
        for member in sorted(reading.MEMBERS):
            for kind in ("daily", "yearly", "cron", "interval", "once"):
                given = {"kind": kind, "times": ["09:00"], member: strange}
                try:
                    reading.read(given, now=NOW, default_timezone="UTC")
                except RecurrenceRefused as refusal:
                    assert all(refusal.problems.values())  # noqa: PT017  # it may be accepted as well


class TestWords:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({"kind": "weekly", "times": ["09:00"], "weekdays": ["friday", "monday"]},
             "Every Monday and Friday at 09:00, Asia/Kolkata"),
            ({"kind": "weekly", "times": ["09:00"], "weekdays": ["friday"], "every": 2},
             "Every 2 weeks on Friday at 09:00, Asia/Kolkata"),
            ({"kind": "daily", "times": ["09:00", "12:00", "18:30:15"]},
             "Every day at 09:00, 12:00 and 18:30:15, Asia/Kolkata"),
            ({"kind": "monthly", "times": ["09:00"], "month_days": ["last", 1, 22]},
             "On the 1st, 22nd and last day of every month at 09:00, Asia/Kolkata"),
            ({"kind": "yearly", "times": ["09:00"], "month_days": [11], "months": [3, 9]},
             "Every year on the 11th of March and September at 09:00, Asia/Kolkata"),
            ({"kind": "cron", "cron": "0 9 * * MON-FRI", "timezone": "Europe/Paris"},
             "At 09:00 on Monday through Friday, Europe/Paris"),
            ({"kind": "interval", "interval_seconds": 5400}, "Every 90 minutes, Asia/Kolkata"),
            ({"kind": "interval", "interval_seconds": 86400}, "Every day, Asia/Kolkata"),
            ({"kind": "once", "at": "2026-05-04T09:00"}, "Once, on Monday 4 May 2026 at 09:00, Asia/Kolkata"),
            ({"kind": "daily", "times": ["09:00"], "start": "2026-06-01T00:00", "count": 10},
             "Every day at 09:00, Asia/Kolkata, from Monday 1 June 2026 at 00:00, 10 times"),
        ],
    )  # fmt: skip
    def test_say_it_in_one_sentence(self, given: dict[str, Any], expected: str) -> None:
        assert words.sentence(read(**given), now=NOW) == expected

    def test_tell_of_the_gap(self) -> None:
        recurrence = read(kind="daily", times=["02:30"], timezone=BRUSSELS)
        (shown,) = words.upcoming(recurrence, now=datetime(2026, 3, 28, 12, tzinfo=UTC), at_most=1)
        assert shown.local == "2026-03-29T03:30:00+02:00"
        assert shown.note == "The clocks go forward and skip 02:30 on that day; it happens at 03:30."

    def test_tell_of_the_fold(self) -> None:
        recurrence = read(kind="daily", times=["02:30"], timezone=BRUSSELS)
        (shown,) = words.upcoming(recurrence, now=datetime(2026, 10, 24, 12, tzinfo=UTC), at_most=1)
        assert shown.local == "2026-10-25T02:30:00+02:00"
        assert "show 02:30 twice on that day; it happens the first time only" in shown.note

    def test_tell_both_hours_of_an_interval_apart(self) -> None:
        recurrence = read(kind="cron", cron="30 * * * *", timezone=BRUSSELS)
        shown = words.upcoming(recurrence, now=datetime(2026, 10, 25, 0, tzinfo=UTC), at_most=2)
        endings = [each.note.rpartition("; ")[2] for each in shown]
        assert endings == ["this is the first.", "this is the second."]


class TestTurn:
    DUE = datetime(2026, 5, 4, 3, 30, tzinfo=UTC)
    GRACE = timedelta(hours=1)

    def _daily(self) -> Recurrence:
        return read(kind="daily", times=["09:00"])

    def test_runs_what_is_due_and_names_the_next(self) -> None:
        turn = take_turn(self._daily(), self.DUE, now=self.DUE, grace=self.GRACE)
        assert (turn.scheduled_for, turn.missed) == (self.DUE, False)
        assert turn.next_at == self.DUE + timedelta(days=1)

    def test_runs_one_that_lies_a_little_ahead(self) -> None:
        turn = take_turn(self._daily(), self.DUE, now=self.DUE - timedelta(seconds=50), grace=self.GRACE)
        assert (turn.scheduled_for, turn.missed) == (self.DUE, False)

    def test_runs_late_within_its_grace(self) -> None:
        turn = take_turn(self._daily(), self.DUE, now=self.DUE + self.GRACE, grace=self.GRACE)
        assert not turn.missed

    def test_calls_missed_what_is_later_than_that(self) -> None:
        late = self.DUE + self.GRACE + timedelta(seconds=1)
        turn = take_turn(self._daily(), self.DUE, now=late, grace=self.GRACE)
        assert (turn.scheduled_for, turn.missed) == (self.DUE, True)
        assert turn.next_at == self.DUE + timedelta(days=1)

    def test_takes_the_latest_of_many_once(self) -> None:
        now = self.DUE + timedelta(days=400, minutes=5)
        turn = take_turn(self._daily(), self.DUE, now=now, grace=self.GRACE)
        assert turn.scheduled_for == self.DUE + timedelta(days=400)
        assert (turn.missed, turn.next_at) == (False, self.DUE + timedelta(days=401))

    def test_ends_with_the_last(self) -> None:
        once = read(kind="once", at="2026-05-04T09:00")
        turn = take_turn(once, self.DUE, now=self.DUE, grace=self.GRACE)
        assert (turn.scheduled_for, turn.next_at) == (self.DUE, None)


def test_a_time_of_day_is_naive() -> None:
    assert read(kind="daily", times=["09:00"]).times == (time(9),)
