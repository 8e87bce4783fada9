"""What the bodies of requests may name."""

from collections.abc import Mapping
from typing import Any

from django.http import QueryDict
from rest_framework import serializers

from users.addresses import BadAddress, parse_address, trim

MOST_NAMED = 20
LONGEST_NAME = 100
CSRF_FIELD = "csrfmiddlewaretoken"  # a form posted with a session has it beside its own fields


class AddressField(serializers.EmailField):
    """The address of an account, as it is to be stored; of one that mail cannot be sent to it says why."""

    def to_internal_value(self, data: Any) -> str:
        """Return the address, for Django's rules to be asked, too."""
        try:
            return parse_address(trim(super().to_internal_value(data)))
        except BadAddress as bad:
            raise serializers.ValidationError(str(bad), "bad_address") from bad


class KnownOnly(serializers.Serializer[Any]):
    """Refuses members that are no fields, lest a typing error be taken for a success.

    Read-only fields are ignored, so that what was answered can be sent back.
    """

    def to_internal_value(self, data: Any) -> Any:
        """Return the values. Raises ValidationError naming each unknown member, up to MOST_NAMED."""
        if isinstance(data, Mapping):
            unknown = [name for name in data if name not in self.fields]
            if isinstance(data, QueryDict):
                unknown = [name for name in unknown if name != CSRF_FIELD]
            if unknown:
                raise serializers.ValidationError(
                    {name[:LONGEST_NAME]: ["There is no such field."] for name in unknown[:MOST_NAMED]},
                    "unknown_field",
                )
        return super().to_internal_value(data)
