"""Times as a campaign's people read and write them: in its own zone."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_FORMAT = "%a %d %b %Y, %H:%M"


def in_zone(moment: datetime, zone: str) -> str:
    """Such as "Mon 01 Dec 2026, 14:00 Asia/Kolkata (08:30 UTC)"; in UTC alone where the zone is none."""
    utc = moment.astimezone(UTC)
    local = to_zone(moment, zone)
    if local is None:
        return f"{utc:{_FORMAT}} UTC"
    utc_format = "%H:%M" if utc.date() == local.date() else _FORMAT
    return f"{local:{_FORMAT}} {zone} ({utc:{utc_format}} UTC)"


def to_zone(moment: datetime, zone: str) -> datetime | None:
    """What the clocks of `zone` show; None where it is no zone, or the year has no place in its calendar."""
    try:
        return moment.astimezone(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError, OverflowError):  # OSError: "Europe" is a directory
        return None


def from_zone(local: datetime, zone: str) -> datetime:
    """The instant, in UTC, at which the clocks of `zone` show the naive `local`.

    Where they skip it (summer time begins) the same distance after the gap, where they show it twice the
    first: RFC 5545 §3.3.5.
    """
    return local.replace(tzinfo=ZoneInfo(zone), fold=0).astimezone(UTC)
