"""Audiences as wholes: what takes care with a million recipients."""

from django.db import IntegrityError, connection, transaction
from django.db.models import Value
from django.db.models.functions import Lower
from django.db.models.lookups import Exact

from campaigns.models import Audience, DeliveryLog, Recipient


def named(name: str) -> Audience | None:
    """The audience of this name, whatever its case."""
    return Audience.objects.filter(Exact(Lower("name"), Lower(Value(name)))).first()


def find_or_create(name: str) -> tuple[Audience, bool]:
    """The audience of this name, whatever its case, and whether it is new.

    Two that ask for the same name at the same moment get the same audience, new to one of them. Raises
    ValidationError for what cannot be a name.
    """
    audience = Audience(name=name)
    audience.clean_fields()
    if found := named(name):
        return found, False
    try:
        with transaction.atomic():
            audience.save(force_insert=True)
    except IntegrityError:
        return Audience.objects.get(Exact(Lower("name"), Lower(Value(name)))), False
    return audience, True


def delete(audience: Audience) -> None:
    """Delete an audience and its recipients without loading them.

    Raises ProtectedError, having deleted nothing, while a campaign refers to the audience.
    """
    with transaction.atomic():
        recipients = Recipient.objects.filter(audience=audience)
        DeliveryLog.objects.filter(recipient__in=recipients).update(recipient=None)
        recipients._raw_delete(recipients.db)
        audience.delete()


def keep_recipients(audience_id: int) -> None:
    """Wait for deletions of its recipients, and let others wait until this transaction ends: a start's lock.

    It is not the lock by which imports into an audience take turns, so starts and imports do not wait for
    each other. Starts do not wait for each other either. Whoever deletes recipients takes the lock in the
    trigger of migration 0015, once it has deleted them and before it looks for the deliveries that name them.
    """
    _lock("pg_advisory_xact_lock_shared", audience_id)


def about_to_lose_recipients(audience_id: int) -> None:
    """Wait for starts for this audience: until this transaction ends, all their rows are seen."""
    _lock("pg_advisory_xact_lock", audience_id)


def _lock(function: str, audience_id: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {function}(hashtextextended(%s, 0))",  # one of two names
            [f"recipients of audience {audience_id}"],
        )
