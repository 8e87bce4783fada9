"""What comes back from a recipient: the signed address under which they unsubscribe."""

from django.conf import settings
from django.core.signing import BadSignature, Signer

from campaigns.models import DeliveryLog

_SIGNER = Signer(salt="campaigns.unsubscribe", sep=".")


class UnknownToken(Exception):
    """The address was not made by this system, or its mail is gone."""


def unsubscribe_url(delivery_id: int) -> str:
    """Return the address that unsubscribes this delivery's recipient, as in RFC 8058 §3.1."""
    return f"{settings.PUBLIC_URL}/u/{_SIGNER.sign(str(delivery_id))}"


def delivery_for(token: str) -> DeliveryLog:
    """Return the delivery that an unsubscribe address was made for. Raises UnknownToken."""
    try:
        delivery_id = int(_SIGNER.unsign(token))
        return DeliveryLog.objects.select_related("campaign").get(id=delivery_id)
    except (BadSignature, ValueError, DeliveryLog.DoesNotExist) as error:
        raise UnknownToken from error
