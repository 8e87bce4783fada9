"""What stays of an account that is deleted: what it did, no longer who it was. No count changes."""

from typing import Any

from django.db.models.signals import pre_delete

from campaigns.models import OutboundRecipient, Settlement
from users.models import User


def pseudonym(user_id: int) -> str:
    """Return what stands in place of a deleted account's address; no mail can reach it (RFC 6761 §6.4)."""
    return f"user-{user_id}@deleted.invalid"


def forget(user: User) -> None:
    """Take the account's address out of the decisions that it made, before it is deleted."""
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
