"""Recurrences as people and the database write them: JSON objects, read with a refusal for each field."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time, timedelta
from itertools import islice, pairwise
from typing import Any

from cronsim import CronSim, CronSimError
from django.core.exceptions import ValidationError

from campaigns.moments import instant
from schedules.recurrence import LAST_YEAR, Kind, Recurrence
from users.models import validate_timezone

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
LAST_DAY = "last"
MOST_TIMES = 24
MOST_STEPS = 366
MOST_COUNTED = 1000
SHORTEST_INTERVAL = 60  # seconds
LONGEST_INTERVAL = 366 * 24 * 3600
FIRST_YEAR = 2000

_COMMON = frozenset(("kind", "timezone"))
_BOUNDS = frozenset(("start", "until", "count", "ends_at"))
_MEMBERS = {
    Kind.ONCE: frozenset(("at",)),
    Kind.DAILY: _BOUNDS | {"times", "every"},
    Kind.WEEKLY: _BOUNDS | {"times", "weekdays", "every"},
    Kind.MONTHLY: _BOUNDS | {"times", "month_days", "every"},
    Kind.YEARLY: _BOUNDS | {"times", "month_days", "months", "every"},
    Kind.CRON: _BOUNDS | {"cron"},
    Kind.INTERVAL: _BOUNDS | {"interval_seconds"},
}
MEMBERS = frozenset().union(_COMMON, *_MEMBERS.values())


class RecurrenceRefused(Exception):
    """A recurrence cannot be; `problems` names each member and what would be right."""

    def __init__(self, problems: Mapping[str, list[str]]) -> None:
        super().__init__("; ".join(f"{field}: {' '.join(texts)}" for field, texts in problems.items()))
        self.problems = dict(problems)


class _Reader:
    """Reads one object member by member and collects what is wrong with it."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.problems: dict[str, list[str]] = defaultdict(list)

    def refuse(self, field: str, message: str) -> None:
        self.problems[field].append(message)

    def stop_if_refused(self) -> None:
        if self.problems:
            raise RecurrenceRefused(self.problems)

    def number(self, field: str, *, least: int, most: int, default: int | None = None) -> int:
        value = self.given.get(field)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.refuse(field, f"Give a whole number from {least} to {most:,}.")
            return default or least
        return value

    def items(self, field: str, of_one: Callable[[Any], Any], hint: str, *, most: int) -> tuple[Any, ...]:
        """Read a list of up to `most` different things; `of_one` raises ValueError for what is none."""
        value = self.given.get(field)
        if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= most:
            self.refuse(field, f"Give a list of 1 to {most}: {hint}")
            return ()
        found = set()
        for item in value:
            try:
                found.add(of_one(item))
            except (ValueError, TypeError, AttributeError):
                self.refuse(field, f"{_shown(item)} is none of these: {hint}")
        return tuple(sorted(found))

    def moment(self, field: str, zone: str) -> tuple[datetime | None, datetime | None]:
        """Read an instant, or a local time of `zone`; return it in UTC, and as it was wanted if local."""
        value = self.given.get(field)
        if value is None:
            return None, None
        try:
            if not isinstance(value, str) or len(value) < len("2026-05-31T09:00"):
                raise ValueError
            read = datetime.fromisoformat(value).replace(microsecond=0)
            at = read.astimezone(UTC) if read.tzinfo else instant(read, zone)
            if at.year not in range(FIRST_YEAR, LAST_YEAR + 1):
                raise ValueError
            return at, None if read.tzinfo else read
        except (ValueError, OverflowError):
            self.refuse(
                field,
                "Write it like 2026-05-31T09:00:00+05:30, or without the offset for a local time; "
                f"years {FIRST_YEAR} to {LAST_YEAR} in UTC.",
            )
            return None, None


def read(given: Any, *, now: datetime, default_timezone: str) -> Recurrence:
    """Make a recurrence of what somebody asks for. Raises RecurrenceRefused.

    `given` has `kind`, `timezone` (an IANA name; default `default_timezone`) and what goes with the kind:
    `at` (once); `times` such as ["09:00", "18:30:15"] with `weekdays` (weekly), `month_days` (monthly; 1 to
    31 or "last"), `months` and `month_days` (yearly), each with `every` (every second week: 2); `cron` with
    five fields; `interval_seconds`. All but `once` take `start`, `until` and `count`.
    """
    recurrence = _counted(_read(given, now=now, default_timezone=default_timezone))
    reader = _Reader(given)
    _check_ahead(reader, recurrence, now)
    reader.stop_if_refused()
    return recurrence


def restore(stored: Mapping[str, Any]) -> Recurrence:
    """Return the recurrence that `write` made this of; it may lie in the past.

    Nothing is judged again: a rule that has changed since must not make a stored row unreadable. What `write`
    did not make raises whatever it meets: KeyError, ValueError, TypeError, and the like.
    """
    kind, zone = Kind(stored["kind"]), stored["timezone"]
    if kind is Kind.ONCE:
        at = datetime.fromisoformat(stored["at"])
        start = at.astimezone(UTC) if at.tzinfo else instant(at, zone)
        return Recurrence(kind=kind, timezone=zone, start=start, wanted=None if at.tzinfo else at)
    return Recurrence(
        kind=kind,
        timezone=zone,
        start=datetime.fromisoformat(stored["start"]).astimezone(UTC),
        times=tuple(time.fromisoformat(each) for each in stored.get("times", ())),
        weekdays=tuple(WEEKDAYS.index(each) for each in stored.get("weekdays", ())),
        month_days=tuple(-1 if day == LAST_DAY else day for day in stored.get("month_days", ())),
        months=tuple(stored.get("months", ())),
        every=stored.get("every", 1),
        cron=stored.get("cron", ""),
        interval=timedelta(seconds=stored.get("interval_seconds", 0)),
        until=_restored(stored.get("until")),
        count=stored.get("count"),
        ends_at=_restored(stored.get("ends_at")),
    )


def _restored(moment: str | None) -> datetime | None:
    return datetime.fromisoformat(moment).astimezone(UTC) if moment else None


def write(recurrence: Recurrence) -> dict[str, Any]:
    """Return the recurrence as JSON; `read` takes it, and `restore` gives back the same."""
    own = recurrence
    written: dict[str, Any] = {"kind": str(own.kind), "timezone": own.timezone}
    if own.kind is Kind.ONCE:
        wanted = own.wanted.isoformat() if own.wanted else None
        return {**written, "at": wanted or _utc(own.start)}
    values = {
        "times": [_time(each) for each in own.times],
        "weekdays": [WEEKDAYS[day] for day in own.weekdays],
        "month_days": [LAST_DAY if day == -1 else day for day in own.month_days],
        "months": list(own.months),
        "every": own.every,
        "cron": own.cron,
        "interval_seconds": int(own.interval.total_seconds()),
        "start": _utc(own.start),
        "until": _utc(own.until),
        "count": own.count,
        "ends_at": _utc(own.ends_at),
    }
    return written | {name: value for name, value in values.items() if name in _MEMBERS[own.kind]}


def _utc(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment else None


def _time(each: time) -> str:
    return each.isoformat("seconds" if each.second else "minutes")


def _shown(value: Any) -> str:
    return repr(value)[:60]


def _read(given: Any, *, now: datetime, default_timezone: str) -> Recurrence:
    if not isinstance(given, Mapping):
        raise RecurrenceRefused({"": ['Give an object, such as {"kind": "daily", "times": ["09:00"]}.']})
    reader = _Reader(given)
    kind = _kind(reader)
    zone = _zone(reader, default_timezone)
    _check_members(reader, kind)
    reader.stop_if_refused()
    start, wanted = reader.moment("at" if kind is Kind.ONCE else "start", zone)
    if kind is Kind.ONCE and start is None and not reader.problems:
        reader.refuse("at", "Say when: such as 2026-05-31T09:00:00.")
    until, _ = reader.moment("until", zone)
    ends_at, _ = reader.moment("ends_at", zone)
    count = given.get("count")
    if count is not None:
        count = reader.number("count", least=1, most=MOST_COUNTED)
    own = _own_members(reader, kind)
    reader.stop_if_refused()
    return Recurrence(
        kind=kind,
        timezone=zone,
        start=start or now.replace(microsecond=0).astimezone(UTC),
        wanted=wanted if kind is Kind.ONCE else None,
        until=until,
        count=count,
        ends_at=ends_at if count else until,
        **own,
    )


def _kind(reader: _Reader) -> Kind:
    try:
        return Kind(reader.given.get("kind", ""))
    except (ValueError, TypeError):
        reader.refuse("kind", f"Give one of {', '.join(Kind)}.")
        raise RecurrenceRefused(reader.problems) from None


def _zone(reader: _Reader, default: str) -> str:
    zone = reader.given.get("timezone") or default
    try:
        validate_timezone(zone)
    except (ValidationError, TypeError) as error:
        words = error.messages if isinstance(error, ValidationError) else ["Write it like Asia/Kolkata."]
        reader.refuse("timezone", " ".join(words))
        return default
    return str(zone)


def _check_members(reader: _Reader, kind: Kind) -> None:
    for name, value in reader.given.items():
        if name not in MEMBERS:
            reader.refuse(str(name)[:60], f"There is no such field; {kind} takes {_named(kind)}.")
        elif name not in _COMMON | _MEMBERS[kind] and value not in (None, [], "", 0):
            reader.refuse(name, f"It does not go with {kind}, which takes {_named(kind)}.")


def _named(kind: Kind) -> str:
    return ", ".join(sorted((_COMMON | _MEMBERS[kind]) - {"ends_at"}))


def _own_members(reader: _Reader, kind: Kind) -> dict[str, Any]:
    """Read what belongs to this kind alone."""
    if kind is Kind.CRON:
        return {"cron": _cron(reader)}
    if kind is Kind.INTERVAL:
        seconds = reader.number("interval_seconds", least=SHORTEST_INTERVAL, most=LONGEST_INTERVAL)
        return {"interval": timedelta(seconds=seconds)}
    if kind is Kind.ONCE:
        return {}
    own: dict[str, Any] = {
        "times": _times(reader),
        "every": reader.number("every", least=1, most=MOST_STEPS, default=1),
    }
    if kind is Kind.WEEKLY:
        own["weekdays"] = reader.items("weekdays", _weekday, f"{', '.join(WEEKDAYS)}.", most=7)
    if kind in (Kind.MONTHLY, Kind.YEARLY):
        own["month_days"] = reader.items("month_days", _month_day, f'1 to 31, or "{LAST_DAY}".', most=32)
    if kind is Kind.YEARLY:
        own["months"] = reader.items("months", _month, "1 to 12.", most=12)
    return own


def _times(reader: _Reader) -> tuple[time, ...]:
    hint = "times of day such as 09:00 or 18:30:15."
    times: tuple[time, ...] = reader.items("times", _time_of_day, hint, most=MOST_TIMES)
    seconds = [each.hour * 3600 + each.minute * 60 + each.second for each in times]
    round_the_clock = [*seconds, *(each + 24 * 3600 for each in seconds[:1])]  # the day after, too
    if any(b - a < SHORTEST_INTERVAL for a, b in pairwise(round_the_clock)):
        reader.refuse("times", "Leave at least a minute between two times.")
    return times


def _time_of_day(value: str) -> time:
    read = time.fromisoformat(value)
    if ":" not in value or read.tzinfo or read.microsecond:
        raise ValueError(value)
    return read


def _weekday(value: str) -> int:
    if len(value) < 3:
        raise ValueError(value)
    return [day[: len(value)] for day in WEEKDAYS].index(value.lower())


def _month_day(value: Any) -> int:
    return -1 if value in (LAST_DAY, -1) else _whole(value, 31)


def _month(value: Any) -> int:
    return _whole(value, 12)


def _whole(value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(value)
    return value


def _cron(reader: _Reader) -> str:
    value = reader.given.get("cron")
    fields = value.split() if isinstance(value, str) and len(value) <= 200 else []
    if len(fields) == 6:
        reader.refuse("cron", "It has six fields; seconds are not for a cron expression. Give five: minute, "
                      "hour, day of the month, month, day of the week.")  # fmt: skip
    elif len(fields) != 5:
        reader.refuse("cron", 'Give five fields, such as "0 9 * * MON-FRI": minute, hour, day of the month, '
                      "month, day of the week.")  # fmt: skip
    else:
        try:
            CronSim(" ".join(fields), datetime(FIRST_YEAR, 1, 1))  # noqa: DTZ001  # naive: only to look at it
        except (CronSimError, ValueError) as error:
            reader.refuse("cron", _why_no_cron(fields, str(error)))
    return " ".join(fields)


def _why_no_cron(fields: list[str], problem: str) -> str:
    minute, hour, day, _, weekday = fields
    if problem == "Bad day-of-month" and _is_cron(f"{minute} {hour} {day} * {weekday}"):
        return "It never happens: no month that it names has such a day. Give days that these months have."
    return f'{problem}; write it like "0 9 * * MON-FRI".'


def _is_cron(text: str) -> bool:
    try:
        CronSim(text, datetime(FIRST_YEAR, 1, 1))  # noqa: DTZ001  # naive: only to look at it
    except (CronSimError, ValueError):
        return False
    return True


def _check_ahead(reader: _Reader, recurrence: Recurrence, now: datetime) -> None:
    """Refuse what would never happen, or has happened already."""
    own = recurrence
    if own.kind is Kind.ONCE:
        if own.start <= now:
            reader.refuse(
                "at", f"{_utc(own.start)} is in the past; give a time after {_utc(_whole_second(now))}."
            )
        return
    if own.until is not None and own.until <= max(own.start, now):
        reader.refuse("until", f"{_utc(own.until)} is not after the start, nor in the future.")
        return
    unbounded = Recurrence(**{**_fields(own), "until": None, "count": None, "ends_at": None})
    first = unbounded.next(after=now)
    if first is None:
        _refuse_never(reader, own)
    elif own.until and first > own.until:
        reader.refuse("until", f"It ends before its first moment, {_utc(first)}.")
    elif own.count and own.next(after=now) is None:
        reader.refuse("count", f"All {own.count} lie in the past; give a later start.")


def _refuse_never(reader: _Reader, recurrence: Recurrence) -> None:
    field = "cron" if recurrence.kind is Kind.CRON else "month_days"
    if recurrence.kind in (Kind.DAILY, Kind.WEEKLY, Kind.INTERVAL):
        field = "start"
    reader.refuse(field, "It never happens: no such day is in the calendar between now and the year "
                  f"{LAST_YEAR}. Give days that these months have.")  # fmt: skip


def _counted(recurrence: Recurrence) -> Recurrence:
    """Find the last of `count` once, so that nobody needs to count again."""
    if recurrence.count is None:
        return recurrence
    bounded = Recurrence(**{**_fields(recurrence), "ends_at": recurrence.until})
    counted = [each.at for each in islice(bounded.occurrences(), recurrence.count)]
    return Recurrence(**{**_fields(recurrence), "ends_at": counted[-1] if counted else recurrence.until})


def _fields(recurrence: Recurrence) -> dict[str, Any]:
    return {name: getattr(recurrence, name) for name in Recurrence.__slots__}


def _whole_second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0) + timedelta(seconds=math.ceil(moment.microsecond / 1e6))
