"""A recurrence in words: one sentence, the next moments, and what the clocks do to them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim

from campaigns.moments import local
from schedules.reading import WEEKDAYS, restore
from schedules.recurrence import Kind, Occurrence, Recurrence, follows_the_clock

logger = logging.getLogger(__name__)

MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December")  # fmt: skip
UNREADABLE = "It cannot be read; give it anew."
_UNITS = {Kind.DAILY: "day", Kind.WEEKLY: "week", Kind.MONTHLY: "month", Kind.YEARLY: "year"}
_SPANS = ((24 * 3600, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


@dataclass(frozen=True, slots=True)
class Shown:
    """One moment as people read it: in UTC, with its zone's offset, and what is odd about it."""

    at: datetime
    local: str
    note: str


def sentence(recurrence: Recurrence, *, now: datetime) -> str:
    """Say when it happens, such as "Every Monday and Friday at 09:00, Asia/Kolkata"."""
    return ", ".join([_when(recurrence), recurrence.timezone, *_bounds(recurrence, now)])


def upcoming(recurrence: Recurrence, *, now: datetime, at_most: int = 10) -> list[Shown]:
    """Return the next moments after `now`."""
    return [shown(recurrence, each) for each in recurrence.upcoming(after=now, at_most=at_most)]


def sentence_of(stored: Mapping[str, Any], *, now: datetime) -> str:
    """Say when a stored recurrence happens; UNREADABLE instead of raising, whatever stands in the row."""
    try:
        return sentence(restore(stored), now=now)
    except Exception:  # one row that nobody can read keeps no list from being shown
        logger.exception("a stored recurrence cannot be read")
        return UNREADABLE


def upcoming_of(stored: Mapping[str, Any], *, now: datetime, at_most: int = 10) -> list[Shown]:
    """Return the next moments of a stored recurrence; none of one that cannot be read."""
    try:
        return upcoming(restore(stored), now=now, at_most=at_most)
    except Exception:  # as above
        logger.exception("a stored recurrence cannot be read")
        return []


def shown(recurrence: Recurrence, occurrence: Occurrence) -> Shown:
    """Return one moment with its local time and what the clocks do to it."""
    there = occurrence.at.astimezone(ZoneInfo(recurrence.timezone))
    return Shown(occurrence.at, there.isoformat(), _note(recurrence, occurrence))


def _when(own: Recurrence) -> str:
    match own.kind:
        case Kind.ONCE:
            return f"Once, on {_moment(own.start, own.timezone)}"
        case Kind.CRON:
            return CronSim(own.cron, own.start).explain()
        case Kind.INTERVAL:
            return f"Every {_span(own.interval)}"
    return f"{_days(own)} at {_listed([_time(each) for each in own.times])}"


def _days(own: Recurrence) -> str:
    unit = _UNITS[own.kind]
    steps = f"{own.every} {unit}s" if own.every > 1 else unit
    weekdays = _listed([WEEKDAYS[day].capitalize() for day in own.weekdays])
    days = _listed([_ordinal(day) for day in sorted(own.month_days, key=lambda day: day % 40)])
    match own.kind:
        case Kind.WEEKLY if own.every == 1:
            return f"Every {weekdays}"
        case Kind.WEEKLY:
            return f"Every {steps} on {weekdays}"
        case Kind.MONTHLY:
            return f"On the {days} of every {steps}"
        case Kind.YEARLY:
            return f"Every {steps} on the {days} of {_listed([MONTHS[month - 1] for month in own.months])}"
    return f"Every {steps}"


def _bounds(own: Recurrence, now: datetime) -> list[str]:
    if own.kind is Kind.ONCE:
        return []
    words = [f"from {_moment(own.start, own.timezone)}"] if own.start > now else []
    if own.count:
        words.append("once" if own.count == 1 else f"{own.count} times")
    if own.until:
        words.append(f"until {_moment(own.until, own.timezone)}")
    return words


def _moment(moment: datetime, zone: str) -> str:
    there = local(moment, zone)
    day = f"{WEEKDAYS[there.weekday()].capitalize()} {there.day} {MONTHS[there.month - 1]} {there.year}"
    return f"{day} at {_time(there.time())}"


def _time(each: time) -> str:
    return each.isoformat("seconds" if each.second else "minutes")


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _ordinal(day: int) -> str:
    if day == -1:
        return "last day"
    ending = "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{ending}"


def _span(interval: timedelta) -> str:
    seconds = int(interval.total_seconds())
    size, unit = next((size, unit) for size, unit in _SPANS if seconds % size == 0)
    return unit if seconds == size else f"{seconds // size} {unit}s"


def _note(own: Recurrence, occurrence: Occurrence) -> str:
    zone = ZoneInfo(own.timezone)
    there = occurrence.at.astimezone(zone)
    wanted = occurrence.wanted
    if wanted and there.replace(tzinfo=None) != wanted:
        return (
            f"The clocks go forward and skip {_time(wanted.time())} on that day; "
            f"it happens at {_time(there.time())}."
        )
    naive = there.replace(tzinfo=None, fold=0)
    again = naive.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if again <= naive.replace(tzinfo=zone, fold=0).astimezone(UTC):
        return ""
    which = "it happens the first time only"
    if own.kind is Kind.INTERVAL or (own.kind is Kind.CRON and follows_the_clock(own.cron)):
        which = "this is the second" if there.fold else "this is the first"
    return f"The clocks go back and show {_time(there.time())} twice on that day; {which}."
