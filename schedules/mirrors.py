"""Users as recipients: one audience that mirrors them, so that what is sent to them has the same ledger."""

from collections.abc import Collection

from django.db import connection
from django.db.models.functions import Lower

from campaigns.models import Audience, DeliveryLog, Recipient

AUDIENCE = "Users with schedules"


def audience() -> Audience:
    """Return the audience of users, made when it is needed first."""
    # lower-cased as its unique constraint does it, where nothing that only looks alike is the same
    found = Audience.objects.alias(lower=Lower("name")).filter(lower=AUDIENCE.lower()).first()
    return (
        found
        or Audience.objects.get_or_create(
            name=AUDIENCE, defaults={"description": "Mirrors the users who are mailed at their own times."}
        )[0]
    )


def recipients_of(user_ids: Collection[int]) -> dict[int, int]:
    """Bring the recipients of these users up to date; return each active user's recipient, by user.

    A user whose address has changed gets a new recipient, and what was open to the old one is cancelled.
    """
    mirrored = audience().pk
    ids = list(user_ids)
    _forget_old_addresses(mirrored, ids)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO campaigns_recipient (audience_id, user_id, email, name, timezone, attributes)
            SELECT %s, id, email, name, timezone, '{}' FROM users_user WHERE id = ANY(%s) AND is_active
             ORDER BY lower(email)
            ON CONFLICT (audience_id, lower(email)) DO UPDATE
               SET user_id = excluded.user_id, name = excluded.name, timezone = excluded.timezone,
                   updated_at = now()
             WHERE (campaigns_recipient.user_id, campaigns_recipient.name, campaigns_recipient.timezone)
                   IS DISTINCT FROM (excluded.user_id, excluded.name, excluded.timezone)
            """,
            [mirrored, ids],
        )
        cursor.execute(
            """
            SELECT users_user.id, recipient.id
              FROM users_user JOIN campaigns_recipient AS recipient ON recipient.user_id = users_user.id
             WHERE users_user.id = ANY(%s) AND users_user.is_active AND recipient.audience_id = %s
            """,
            [ids, mirrored],
        )
        return dict(cursor.fetchall())


def _forget_old_addresses(audience_id: int, user_ids: list[int]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT recipient.id FROM campaigns_recipient AS recipient
              JOIN users_user ON users_user.id = recipient.user_id
             WHERE recipient.user_id = ANY(%s) AND recipient.audience_id = %s
               AND lower(recipient.email) <> lower(users_user.email)
            """,
            [user_ids, audience_id],
        )
        old = [row[0] for row in cursor.fetchall()]
    if old:
        DeliveryLog.objects.filter(recipient__in=old).update(recipient=None)
        Recipient.objects.filter(id__in=old).delete()
