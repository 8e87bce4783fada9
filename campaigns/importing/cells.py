"""A spreadsheet's values as a person would type them."""

from datetime import date, datetime, time, timedelta
from math import isnan

LARGEST_EXACT = 2**53  # beyond it the digits of a float are no longer those that were typed


def as_text(value: object) -> str:
    """123 for 123.0, 2026-01-31 for a date, 26:30:00 for a duration, TRUE for a truth; never "nan"."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "TRUE" if value else "FALSE"
        case float():
            return _number(value)
        case datetime() if value.time() == time():
            return value.date().isoformat()
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return _duration(value)
    return str(value)


def _number(value: float) -> str:
    if isnan(value):  # as some writers put it into an empty cell
        return ""
    return str(int(value)) if value.is_integer() and abs(value) < LARGEST_EXACT else repr(value)


def _duration(value: timedelta) -> str:
    seconds = round(value.total_seconds())
    minutes, seconds = divmod(abs(seconds), 60)
    sign = "-" if value < timedelta() else ""
    return f"{sign}{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
