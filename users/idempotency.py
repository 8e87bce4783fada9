"""A POST that is repeated under the same key is done once (draft-ietf-httpapi-idempotency-key-header).

The answer is kept in the transaction that does what was asked for: after a crash there are both or neither.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import connection, transaction

from users.accounts import AddressTaken
from users.models import KeptAnswer, User

KEPT_FOR = timedelta(hours=24)
MAX_KEY = 255


class StillRunning(Exception):
    """The first request with this key has not ended yet."""


class OtherRequest(Exception):
    """The key was used for another request before."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered: its status, its body, and the headers that belong to them."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def once(
    user: User, key: str, fingerprint: str, act: Callable[[], Answer], *, now: datetime
) -> Answer | None:
    """Do `act` unless this user's request under this key has been done: return its answer then, else None.

    `fingerprint` tells one request from another. What `act` answers with 400 or more is undone and not
    kept, nor is what it raises. Raises StillRunning, OtherRequest.
    """
    with transaction.atomic():
        _lock(user, key)
        kept = KeptAnswer.objects.filter(user=user, key=key, kept_at__gt=now - KEPT_FOR).first()
        if kept:
            if kept.fingerprint != fingerprint:
                raise OtherRequest
            return Answer(kept.status, bytes(kept.body), kept.headers)
        answer = act()
        if answer.status >= 400:
            transaction.set_rollback(True)
        else:
            _keep(user, key, fingerprint, answer, now)
    return None


def once_registered(
    email: str, key: str, fingerprint: str, act: Callable[[], tuple[User, Answer]], *, now: datetime
) -> Answer | None:
    """Make an account by `act`, unless the same request under this key has made it: return its answer then.

    The key is the new account's, as there is none before. Raises AddressTaken, as `act` does, for any other
    request that names an address with an account, whatever its key: nobody learns which keys were used.
    """
    try:
        with transaction.atomic():
            user, answer = act()
            _keep(user, key, fingerprint, answer, now)
    except AddressTaken:
        owner = User.objects.with_address(email)
        kept = KeptAnswer.objects.filter(user__in=owner, key=key, kept_at__gt=now - KEPT_FOR).first()
        if kept is None or kept.fingerprint != fingerprint:
            raise
        return Answer(kept.status, bytes(kept.body), kept.headers)
    return None


def forget_old(*, now: datetime) -> int:
    """Delete the answers that have been kept for long enough; return how many."""
    return KeptAnswer.objects.filter(kept_at__lte=now - KEPT_FOR).delete()[0]


def _lock(user: User, key: str) -> None:
    """Keep others with this key out until the transaction ends. Raises StillRunning."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [f"idempotency {user.pk} {key}"]
        )
        (is_ours,) = cursor.fetchone()
    if not is_ours:
        raise StillRunning


def _keep(user: User, key: str, fingerprint: str, answer: Answer, now: datetime) -> None:
    KeptAnswer.objects.update_or_create(
        user=user,
        key=key,
        defaults={
            "fingerprint": fingerprint,
            "status": answer.status,
            "body": answer.body,
            "headers": answer.headers,
            "kept_at": now,
        },
    )
