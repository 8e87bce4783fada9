"""What comes back from a recipient: the signed address under which they unsubscribe."""

import hmac
from functools import cache
from hashlib import sha256

from django.conf import settings
from django.core.signing import BadSignature, Signer, b64_encode

from campaigns.models import DeliveryLog

SALT, SEPARATOR = "campaigns.unsubscribe", "."


class UnknownToken(Exception):
    """The address was not made by this system, or its mail is gone."""


def unsubscribe_url(delivery_id: int) -> str:
    """Return the address that unsubscribes this delivery's recipient, as in RFC 8058 §3.1."""
    value = str(delivery_id)
    return f"{settings.PUBLIC_URL}/u/{value}{SEPARATOR}{_signature(value.encode())}"


def _signature(value: bytes) -> str:
    """Sign as Django's Signer does, without deriving its key anew for every mail."""
    return b64_encode(hmac.digest(_key(), value, "sha256")).decode()


@cache
def _key() -> bytes:
    """Return the key that `django.utils.crypto.salted_hmac` derives for the Signer."""
    return sha256(f"{SALT}signer{settings.SECRET_KEY}".encode()).digest()


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
    return Signer(salt=SALT, sep=SEPARATOR)
