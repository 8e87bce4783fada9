"""How many mails the tasks of one who is no operator may send in a day, whoever they go to."""

from datetime import datetime, timedelta

from django.conf import settings

from campaigns.models import OutboundEmail
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
