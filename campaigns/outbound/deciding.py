"""What operators decide about a single mail: how it ended, or that it is tried again."""

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum

from django.db import transaction

from campaigns.models import Decision, DeliveryStatus, OutboundEmail
from campaigns.outbound import steps
from users.models import User


class NothingToDecide(Exception):
    """The mail has no recipient of whom that can be decided."""


class Verb(StrEnum):
    """What an operator can do with a mail."""

    RETRY = "retry"
    """Send it once more to those to whom it failed, unless it was given up in doubt: it may have arrived."""
    SENT = Decision.SENT.value
    """Count what is unconfirmed as sent."""
    SEND_AGAIN = Decision.SEND_AGAIN.value
    """Send again what is unconfirmed: it may arrive twice, under the same Message-ID."""
    GIVE_UP = Decision.GIVE_UP.value
    """Count what is unconfirmed as failed."""


_FROM_TO: dict[Verb, tuple[DeliveryStatus, DeliveryStatus]] = {
    Verb.RETRY: (DeliveryStatus.FAILED, DeliveryStatus.PENDING),
    Verb.SENT: (DeliveryStatus.UNCONFIRMED, DeliveryStatus.SENT),
    Verb.SEND_AGAIN: (DeliveryStatus.UNCONFIRMED, DeliveryStatus.PENDING),
    Verb.GIVE_UP: (DeliveryStatus.UNCONFIRMED, DeliveryStatus.FAILED),
}


def decide(mail_ids: Collection[int], verb: Verb, *, by: User, now: datetime, note: str = "") -> list[int]:
    """Do it to every recipient of these mails that is in the state for it; return the mails that had one.

    Who decided is kept with each. Those that a worker holds at this moment are left alone: they are not
    settled yet. Raises NothingToDecide when no mail had such a recipient.
    """
    done = [mail_id for mail_id in sorted(mail_ids) if _decide_one(mail_id, verb, by, now, note)]
    if not done:
        before = _FROM_TO[verb][0]
        but = ", without a doubt" if verb is Verb.RETRY else ""
        raise NothingToDecide(f"None of these mails has a recipient that is {before.label.lower()}{but}.")
    return done


@transaction.atomic
def _decide_one(mail_id: int, verb: Verb, by: User, now: datetime, note: str) -> bool:
    before, after = _FROM_TO[verb]
    mail = OutboundEmail.objects.select_for_update().filter(pk=mail_id, lease_until=None).first()
    recipients = list(mail.recipients.filter(status=before)) if mail else []
    if verb is Verb.RETRY:
        recipients = [each for each in recipients if not steps.may_have_arrived(each)]
    if not mail or not recipients:
        return False
    kept = {"decision": verb.value, "by": by.email, "at": now.isoformat(), "note": note}
    for recipient in recipients:
        recipient.status = after
        recipient.decisions = [*recipient.decisions, kept]
        recipient.not_before = None
        if after == DeliveryStatus.PENDING:
            recipient.attempts = 0
        if after == DeliveryStatus.SENT:
            recipient.sent_at = recipient.attempted_at or now
        recipient.save()
    steps.settle(mail, failures=0, trouble="")
    return True
