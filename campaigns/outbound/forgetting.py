"""What stays of single mails to an account that is deleted: that there was one, and what became of it."""

from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Value
from django.db.models.functions import Lower
from django.db.models.signals import pre_delete

from campaigns.forgetting import AT_DELETED, pseudonym
from campaigns.models import OutboundEmail, OutboundRecipient
from campaigns.models.outbound import OPEN
from campaigns.outbound import steps
from users.models import User


@transaction.atomic
def forget(user: User) -> None:
    """Take the account's address out of single mails, and what they said out of those to nobody else.

    Other deleted accounts are nobody. What has not left is cancelled. A mail that a worker has in hand keeps
    what it says until it is given back: it may be leaving.
    """
    theirs = OutboundRecipient.objects.alias(lower_email=Lower("email")).filter(
        lower_email=Lower(Value(user.email))
    )
    found = OutboundEmail.objects.filter(id__in=theirs.values("mail_id")).order_by("id")
    mails = OutboundEmail.objects.filter(id__in=list(found.select_for_update().values_list("id", flat=True)))
    theirs.update(email=pseudonym(user.pk), name="")
    others = OutboundRecipient.objects.filter(mail=OuterRef("id")).exclude(email__endswith=AT_DELETED)
    steps.blank(mails.filter(~Exists(others)).exclude(status__in=OPEN))
    for mail in mails.filter(status__in=OPEN, lease_until=None):
        steps.settle(mail)


def _forget(instance: User, **_: Any) -> None:
    forget(instance)


def connect() -> None:
    """Have it done whichever way an account is deleted; `users` cannot call what is above it."""
    pre_delete.connect(_forget, sender=User, dispatch_uid="campaigns.outbound.forgetting")
