"""Schedules for the tests: whose, when, and since when."""

from datetime import UTC, datetime
from typing import Any

from campaigns.models import EmailTemplate
from schedules import planning, reading
from schedules.models import Schedule
from users.models import User

MONDAY = datetime(2026, 5, 4, 6, 0, tzinfo=UTC)


def user(email: str = "asha@example.com", **fields: Any) -> User:
    found = User.objects.filter(email=email).first()
    return found or User.objects.create_user(email, **{"name": "Asha", "timezone": "Asia/Kolkata", **fields})


def schedule(
    owner: User, template: EmailTemplate | None, *, now: datetime = MONDAY, **recurrence: Any
) -> Schedule:
    """Store a schedule; daily at 09:00 in UTC unless told otherwise."""
    variables = recurrence.pop("variables", {})
    given = recurrence or {"kind": "daily", "times": ["09:00"], "timezone": "UTC"}
    when = reading.read(given, now=now, default_timezone=owner.timezone)
    return planning.create(owner, when, {"template": template, "variables": variables}, now=now)
