"""How many mails the tasks, and the schedules, of one who is no operator may send in a day.

As anybody may register with anybody's address: whoever it belongs to would get them.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import connection

from campaigns.models import OutboundEmail
from schedules.models import MailsOfDay
from users.models import User

DAY = timedelta(days=1)


def is_used_up(user: User, *, now: datetime) -> bool:
    """Say whether TASK_MAILS_PER_DAY mails were stored for the user within a day; never of operators.

    Workers that ask at the same moment may each store one more.
    """
    if user.is_staff:
        return False
    stored = OutboundEmail.objects.filter(created_by=user, created_at__gt=now - DAY)
    return stored.count() >= settings.TASK_MAILS_PER_DAY


def is_stored(key: str) -> bool:
    """Say whether the mail with this key is stored: another try of what stored it needs no more room."""
    return OutboundEmail.objects.filter(idempotency_key=key).exists()


def count(mails: Mapping[int, int], *, now: datetime) -> dict[int, int]:
    """Count what the schedules of these users ask for; return by how many it is too much for the day.

    Too much is what goes over SCHEDULE_MAILS_PER_DAY since midnight in UTC; operators may ask for any
    number, and are not in the answer. The users' counts are held until the transaction ends.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO schedules_mailsofday AS counted (user_id, day, mails)
            SELECT given.user_id, %s, given.mails
              FROM unnest(%s::bigint[], %s::integer[]) AS given (user_id, mails)
              JOIN users_user ON users_user.id = given.user_id AND NOT users_user.is_staff
             ORDER BY given.user_id
            ON CONFLICT (user_id, day) DO UPDATE SET mails = counted.mails + excluded.mails
            RETURNING user_id, mails
            """,
            [_day(now), list(mails), list(mails.values())],
        )
        asked = dict(cursor.fetchall())
    over = {user_id: total - settings.SCHEDULE_MAILS_PER_DAY for user_id, total in asked.items()}
    return {user_id: min(most, mails[user_id]) for user_id, most in over.items() if most > 0}


def forget_old(*, now: datetime) -> int:
    """Delete the counts of days that are over; return how many there were."""
    return MailsOfDay.objects.filter(day__lt=_day(now)).delete()[0]


def _day(now: datetime) -> str:
    return now.astimezone(UTC).date().isoformat()
