"""Columns whose values have rules of their own."""

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.expressions import Combinable

from users.addresses import BadAddress, parse_address


def validate_address(text: str) -> None:
    """Raise ValidationError unless mail can be sent to this address."""
    try:
        parse_address(text)
    except BadAddress as bad:
        raise ValidationError(str(bad), code="bad_address") from bad


if TYPE_CHECKING:
    EmailField = models.EmailField[str | Combinable, str]
else:
    EmailField = models.EmailField  # which takes types in its stub alone


class AddressField(EmailField):
    """Somebody to write to; unlike a sender they may have letters outside ASCII before the @-sign."""

    default_validators = [validate_address]

    def deconstruct(self) -> tuple[str, str, list[Any], dict[str, Any]]:
        """Be an EmailField to migrations: the column is the same."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.EmailField", list(args), dict(kwargs)
