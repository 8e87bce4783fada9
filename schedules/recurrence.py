"""When something happens again: pure rules; the clock is an argument, and every answer is in UTC.

Times of day are expanded as naive local times and become instants afterwards (`campaigns.moments`), so that
a day's 09:00 stays 09:00 whatever the clocks do: a time in the gap shifts forward, one in the fold happens
once. Intervals are sums in UTC on a grid from their start. A cron expression with a star in its minutes or
hours follows the clock through both (Debian's rule); any other names times of day like the rest.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from itertools import islice
from typing import Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim
from dateutil.relativedelta import relativedelta
from dateutil.rrule import DAILY, MONTHLY, WEEKLY, YEARLY, rrule

from campaigns.moments import instant, local

LAST_YEAR = 2100  # nothing is planned beyond its end
_END = datetime(LAST_YEAR, 12, 31, 23, 59, 59, tzinfo=UTC)
_WIDEST_GAP = timedelta(
    hours=3
)  # by which the clocks of a zone may go forward; the widest at present are two
_A_MOMENT = timedelta(microseconds=1)
_A_DAY = timedelta(days=1)  # in which the clocks of a zone change once at most


class Kind(StrEnum):
    """How a recurrence is meant."""

    ONCE = "once"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    YEARLY = "yearly"
    CRON = "cron"
    INTERVAL = "interval"


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One moment in UTC, and the local time that was asked for, where one was."""

    at: datetime
    wanted: datetime | None = None


@dataclass(frozen=True, slots=True)
class Recurrence:
    """When something happens, and happens again; `schedules.reading` makes it of what people write.

    `start` is the first instant it may happen, and what `every` and intervals count from; of `once` it is
    the moment itself. `ends_at` is the last one: `until`, or the last of `count`. Weekdays count from
    Monday, 0; a day of the month is 1 to 31, or -1 for the last. `times` are naive and in order.
    """

    kind: Kind
    timezone: str
    start: datetime
    times: tuple[time, ...] = ()
    weekdays: tuple[int, ...] = ()
    month_days: tuple[int, ...] = ()
    months: tuple[int, ...] = ()
    every: int = 1
    cron: str = ""
    interval: timedelta = timedelta(0)
    wanted: datetime | None = None
    until: datetime | None = None
    count: int | None = None
    ends_at: datetime | None = None

    def occurrences(self, *, after: datetime | None = None) -> Iterator[Occurrence]:
        """Yield what happens later than `after`, in order and each once; without it from the start on."""
        last = self.start - _A_MOMENT if after is None else max(after, self.start - _A_MOMENT)
        end = min(self.ends_at or _END, _END)
        for occurrence in self._expand(last):
            if occurrence.at > end:
                return
            if occurrence.at > last:
                last = occurrence.at
                yield occurrence

    def next(self, *, after: datetime) -> datetime | None:
        """Return the first moment later than `after`; None when it is over."""
        return next((occurrence.at for occurrence in self.occurrences(after=after)), None)

    def upcoming(self, *, after: datetime, at_most: int) -> list[Occurrence]:
        """Return what happens next, after `after`."""
        return list(islice(self.occurrences(after=after), at_most))

    def latest(self, *, since: datetime, until: datetime) -> datetime:
        """Return the last moment up to `until`; `since`, itself one, when there is no later one.

        Looked for from the end, so that years of it cost no more than a day.
        """
        back = timedelta(hours=2)
        while True:
            begin = max(since, until - back)
            found = list(self._up_to(until, after=begin))
            if found or begin == since:
                return found[-1] if found else since
            back *= 12

    def _up_to(self, until: datetime, *, after: datetime) -> Iterator[datetime]:
        for occurrence in self.occurrences(after=after):
            if occurrence.at > until:
                return
            yield occurrence.at

    def _expand(self, after: datetime) -> Iterable[Occurrence]:
        match self.kind:
            case Kind.ONCE:
                return [Occurrence(self.start, self.wanted)]
            case Kind.INTERVAL:
                return self._grid(after)
            case Kind.CRON if follows_the_clock(self.cron):
                return self._along_the_clock(after)
            case Kind.CRON:
                begin = local(after, self.timezone) - _WIDEST_GAP
                return self._in_order(CronSim(self.cron, begin))
        return self._in_order(self._times_of_day(local(after, self.timezone).date() - timedelta(days=1)))

    def _along_the_clock(self, after: datetime) -> Iterator[Occurrence]:
        """Yield each minute whose local time matches the cron expression, whatever the clocks do.

        While they stand still, local time is UTC and an offset; where they change, it is begun anew.
        """
        zone = ZoneInfo(self.timezone)
        begin: datetime | None = after.astimezone(UTC)
        while begin is not None:
            offset = (begin + _A_MOMENT).astimezone(zone).utcoffset() or timedelta(0)
            last, begin = begin, None
            for wanted in CronSim(self.cron, (last + offset).replace(tzinfo=None)):
                at = wanted.replace(tzinfo=UTC) - offset
                if (change := _change_of_clock(last, at, zone)) is not None:
                    begin = change - _A_MOMENT  # so that the minute of the change counts
                    break
                yield Occurrence(at)
                last = at

    def _grid(self, after: datetime) -> Iterator[Occurrence]:
        steps = max((after - self.start) // self.interval, 0)
        moment = self.start + steps * self.interval
        while moment <= _END:
            yield Occurrence(moment)
            moment += self.interval

    def _times_of_day(self, since: date) -> Iterator[datetime]:
        for day in self.days(since=since):
            for each in self.times:
                yield datetime.combine(day, each)

    def _in_order(self, wanted: Iterable[datetime]) -> Iterator[Occurrence]:
        """Make instants of local times; a gap can move one past those that follow it, or onto one."""
        waiting: list[Occurrence] = []
        for each in wanted:
            at = instant(each, self.timezone)
            waiting.sort(key=lambda occurrence: occurrence.at)
            while waiting and waiting[0].at < at - _WIDEST_GAP:
                yield waiting.pop(0)
            waiting.append(Occurrence(at, each))
        yield from sorted(waiting, key=lambda occurrence: occurrence.at)

    def days(self, *, since: date) -> Iterator[date]:
        """Yield the days on which it happens, from about `since` on; no earlier than one step before it."""
        step = _STEPS[self.kind]
        base = step.base(local(self.start, self.timezone).date())
        # rrule walks from its start; on naive dates one may begin later without changing what follows
        jumps = max(step.between(base, since) // self.every - 1, 0)
        begin = base + step.length * (jumps * self.every)
        rule = rrule(
            step.frequency,
            dtstart=datetime.combine(begin, time()),
            interval=self.every,
            byweekday=self.weekdays or None,
            bymonthday=self.month_days or None,
            bymonth=self.months or None,
            until=datetime(LAST_YEAR, 12, 31),  # noqa: DTZ001  # naive: rrule counts calendar days
        )
        return (day.date() for day in rule)


def _change_of_clock(after: datetime, until: datetime, zone: ZoneInfo) -> datetime | None:
    """Return when the clocks of the zone change first, later than `after` by more than a moment."""
    low = after + _A_MOMENT
    offset = low.astimezone(zone).utcoffset()
    while low < until:
        high = min(low + _A_DAY, until)
        if high.astimezone(zone).utcoffset() != offset:
            break
        low = high
    else:
        return None
    while high - low > _A_MOMENT:
        middle = low + (high - low) // 2
        if middle.astimezone(zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return high


@dataclass(frozen=True, slots=True)
class _Step:
    """How a kind counts its steps: from where, how many lie between two days, how long one is."""

    frequency: Literal[0, 1, 2, 3]
    length: timedelta | relativedelta
    base: Callable[[date], date]
    between: Callable[[date, date], int]


_STEPS = {
    Kind.DAILY: _Step(DAILY, timedelta(days=1), lambda day: day, lambda a, b: (b - a).days),
    Kind.WEEKLY: _Step(
        WEEKLY,
        timedelta(weeks=1),
        lambda day: day - timedelta(days=day.weekday()),
        lambda a, b: (b - a).days // 7,
    ),
    Kind.MONTHLY: _Step(
        MONTHLY,
        relativedelta(months=1),
        lambda day: day.replace(day=1),
        lambda a, b: (b.year - a.year) * 12 + b.month - a.month,
    ),
    Kind.YEARLY: _Step(
        YEARLY,
        relativedelta(years=1),
        lambda day: day.replace(month=1, day=1),
        lambda a, b: b.year - a.year,
    ),
}


def follows_the_clock(cron: str) -> bool:
    """Say whether a cron expression runs all day long, and not at times of day (Debian's cron(8))."""
    minutes, hours = cron.split()[:2]
    return minutes.startswith("*") or hours.startswith("*")


@dataclass(frozen=True, slots=True)
class Turn:
    """What is to be done about a recurrence whose moment has come: one run, or one that was missed."""

    scheduled_for: datetime
    missed: bool
    next_at: datetime | None


def take_turn(recurrence: Recurrence, due_at: datetime, *, now: datetime, grace: timedelta) -> Turn:
    """Decide about `due_at`, a moment of `recurrence` that may lie a little ahead of `now`.

    Of several that have passed, the latest counts and the others are gone: it runs if it is late by `grace`
    at most, and else it was missed.
    """
    latest = recurrence.latest(since=due_at, until=now) if due_at < now else due_at
    return Turn(latest, now - latest > grace, recurrence.next(after=latest))
