"""Local times as instants, the same way everywhere (RFC 5545 §3.3.5).

A time that the clocks skip is moved forward by the gap; one that they show twice means the first.
"""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo


def instant(local: datetime, zone: str) -> datetime:
    """Return a naive local time of `zone` in UTC."""
    return local.replace(tzinfo=ZoneInfo(zone), fold=0).astimezone(UTC)


def local(moment: datetime, zone: str) -> datetime:
    """Return what the clocks of `zone` show at an aware moment, naive."""
    return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)


def next_time_of_day(time_of_day: time, zone: str, *, since: datetime) -> datetime:
    """Return the first moment at or after `since` at which it is `time_of_day` in `zone`, in UTC."""
    day = local(since, zone).date() - timedelta(days=1)
    while (moment := instant(datetime.combine(day, time_of_day), zone)) < since:
        day += timedelta(days=1)
    return moment
