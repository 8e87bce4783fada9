"""What stays of single mails to an account that is deleted: that there was one, and what became of it."""

from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet, Value
from django.db.models.functions import Lower
from django.db.models.signals import pre_delete

from campaigns.forgetting import pseudonym
from campaigns.models import DeliveryStatus, OutboundEmail, OutboundPart, OutboundRecipient
from campaigns.models.outbound import OPEN
from campaigns.outbound.steps import settle_status
from users.models import User

GONE = "(to an account that was deleted)"


@transaction.atomic
def forget(user: User) -> None:
    """Take the account's address out of single mails, and out of those to it alone what they said.

    What has not left is cancelled. A mail that a worker has in hand keeps what it says: it may be leaving.
    """
    theirs = OutboundRecipient.objects.alias(lower_email=Lower("email")).filter(
        lower_email=Lower(Value(user.email))
    )
    found = OutboundEmail.objects.filter(id__in=theirs.values("mail_id")).order_by("id")
    mails = OutboundEmail.objects.filter(id__in=list(found.select_for_update().values_list("id", flat=True)))
    _cancel(mails.filter(status__in=OPEN, lease_until=None), theirs)
    alone = ~Exists(OutboundRecipient.objects.filter(mail=OuterRef("id")).exclude(id__in=theirs.values("id")))
    said = list(mails.filter(alone).exclude(status__in=OPEN).values_list("id", flat=True))
    theirs.update(email=pseudonym(user.pk), name="")
    OutboundPart.objects.filter(mail__in=said).delete()
    OutboundEmail.objects.filter(id__in=said).update(subject=GONE, text="", html="", headers={}, reply_to=[])


def _cancel(mails: "QuerySet[OutboundEmail]", theirs: "QuerySet[OutboundRecipient]") -> None:
    for mail in mails:
        theirs.filter(mail=mail, status__in=OPEN).update(
            status=DeliveryStatus.CANCELLED, reason="the account was deleted", not_before=None
        )
        OutboundEmail.objects.filter(id=mail.pk).update(**settle_status(mail))


def _forget(instance: User, **_: Any) -> None:
    forget(instance)


def connect() -> None:
    """Have it done whichever way an account is deleted; `users` cannot call what is above it."""
    pre_delete.connect(_forget, sender=User, dispatch_uid="campaigns.outbound.forgetting")
