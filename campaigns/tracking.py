"""What comes back from a recipient: the signed address under which they unsubscribe."""

from functools import cache

from django.conf import settings
from django.core.signing import BadSignature, Signer

from campaigns.models import DeliveryLog


class UnknownToken(Exception):
    """The address was not made by this system, or its mail is gone."""


def unsubscribe_url(delivery_id: int) -> str:
    """Return the address that unsubscribes this delivery's recipient, as in RFC 8058 §3.1."""
    return f"{settings.PUBLIC_URL}/u/{_signer().sign(str(delivery_id))}"


def delivery_for(token: str) -> DeliveryLog:
    """Return the delivery that an unsubscribe address was made for. Raises UnknownToken."""
    try:
        delivery_id = int(_signer().unsign(token))
        return DeliveryLog.objects.select_related("campaign").get(id=delivery_id)
    except (BadSignature, ValueError, DeliveryLog.DoesNotExist) as error:
        raise UnknownToken from error


@cache
def _signer() -> Signer:
    """Made at the first use: `manage.py up` loads this module before there is a SECRET_KEY."""
    return Signer(salt="campaigns.unsubscribe", sep=".")
