"""Audiences as wholes: what takes care with a million recipients."""

from django.db import transaction

from campaigns.models import Audience, DeliveryLog, Recipient


def delete(audience: Audience) -> None:
    """Delete an audience and its recipients without loading them.

    Raises ProtectedError, having deleted nothing, while a campaign refers to the audience.
    """
    with transaction.atomic():
        recipients = Recipient.objects.filter(audience=audience)
        DeliveryLog.objects.filter(recipient__in=recipients).update(recipient=None)
        recipients._raw_delete(recipients.db)
        audience.delete()
