"""How values are written in requests and answers."""

from datetime import UTC, datetime
from typing import Any, NoReturn

from django.core.exceptions import ValidationError as ModelValidationError
from django.utils.dateparse import parse_datetime
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from campaigns import moments
from campaigns.addresses import BadAddress, folded, parse_address, parse_plain_address, trim
from campaigns.values import YEARS, BadValue, check_line, check_object, parse_json


def single_line(text: str) -> None:
    """Raise ValidationError for control characters: the text goes into a header (RFC 5322 §2.2)."""
    try:
        check_line(text)
    except BadValue as bad:
        raise ModelValidationError(str(bad), code=bad.code) from bad


class UtcField(serializers.DateTimeField):
    """An instant, answered in UTC (RFC 3339)."""

    timezone = UTC


@extend_schema_field(OpenApiTypes.DATETIME)
class StartTimeField(UtcField):
    """An instant with its offset, or a local time, which stays naive until `instant` is told the zone."""

    def to_internal_value(self, value: Any) -> datetime:
        """Return a time, aware or not."""
        if not isinstance(value, str) or not {"T", "t", " "} & set(value):
            self._refuse()
        try:
            time = parse_datetime(value)
        except ValueError:
            self._refuse()
        if time is None or time.year not in YEARS:
            self._refuse()
        return time

    def _refuse(self) -> NoReturn:
        raise serializers.ValidationError(
            "Write it like 2026-05-31T09:00:00+05:30, or without the offset for a local time; "
            f"years {YEARS[0]} to {YEARS[-1]}.",
            "invalid",
        )


def instant(time: datetime, zone: str) -> datetime:
    """Return `time` in UTC; a naive one is meant in `zone`.

    `campaigns.moments` says what becomes of a local time that the zone skips, or has twice.
    """
    return time.astimezone(UTC) if time.tzinfo else moments.instant(time, zone)


@extend_schema_field(OpenApiTypes.IDN_EMAIL)
class AddressField(serializers.CharField):
    """An e-mail address, held to the rules of the importer and stored as it stores them."""

    parse = staticmethod(parse_address)

    def to_internal_value(self, data: Any) -> str:
        """Return the address as it is to be stored."""
        try:
            return self.parse(trim(super().to_internal_value(data)))
        except BadAddress as error:
            raise serializers.ValidationError(str(error), "bad_address") from error


@extend_schema_field(OpenApiTypes.EMAIL)
class PlainAddressField(AddressField):
    """A sender's address, which is of ASCII."""

    parse = staticmethod(parse_plain_address)


@extend_schema_field(OpenApiTypes.IDN_EMAIL)
class LowerCaseAddressField(AddressField):
    """The same in lower case, as suppressions are kept."""

    def to_internal_value(self, data: Any) -> str:
        """Return the address in lower case."""
        return folded(super().to_internal_value(data))


@extend_schema_field(OpenApiTypes.OBJECT)
class ObjectField(serializers.JSONField):
    """A JSON object that PostgreSQL can store; in a form, its text."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Return the object."""
        try:
            return check_object(parse_json(data) if getattr(data, "is_json_string", False) else data)
        except BadValue as bad:
            raise serializers.ValidationError(str(bad), bad.code) from bad
