"""What stays of an account that is deleted: what it did, no longer who it was. No count changes."""

from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models.signals import pre_delete

from campaigns import audiences
from campaigns.models import DeliveryLog, OutboundRecipient, Recipient, Settlement
from users.models import User

AT_DELETED = "@deleted.invalid"  # no mail can reach it (RFC 6761 §6.4)


def pseudonym(user_id: int) -> str:
    """Return what stands in place of a deleted account's address."""
    return f"user-{user_id}{AT_DELETED}"


def is_pseudonym(email: str) -> bool:
    """Say whether this stands in place of a deleted account's address."""
    return email.endswith(AT_DELETED)


@transaction.atomic
def forget(user: User) -> None:
    """Take the account's address out of the ledger and of the decisions that it made, before it is deleted.

    A campaign that is being started is waited for: its rows would not be seen. What was sent to it as a
    recipient that is no account's, of an imported list, stays as it is. So does a suppression: whoever
    complained is still not to be mailed.
    """
    for audience_id in Recipient.objects.filter(user=user).values_list("audience_id", flat=True).distinct():
        audiences.about_to_lose_recipients(audience_id)
    DeliveryLog.objects.filter(recipient__user=user).update(email=pseudonym(user.pk))
    logged = LogEntry.objects.filter(content_type=ContentType.objects.get_for_model(User), object_id=user.pk)
    logged.update(object_repr=pseudonym(user.pk))  # who has changed the account, and deletes it now
    Settlement.objects.filter(decided_by=user).update(decided_by_email=pseudonym(user.pk))
    for recipient in OutboundRecipient.objects.filter(decisions__contains=[{"by": user.email}]):
        for decision in recipient.decisions:
            if decision["by"] == user.email:
                decision["by"] = pseudonym(user.pk)
        recipient.save(update_fields=["decisions"])


def _forget(instance: User, **_: Any) -> None:
    forget(instance)


def connect() -> None:
    """Have it done whichever way an account is deleted; `users` cannot call what is above it."""
    pre_delete.connect(_forget, sender=User, dispatch_uid="campaigns.forgetting")
