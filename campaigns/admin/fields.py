"""Form fields that hold what is typed to the rules of the API and the importer."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.db import models

from campaigns.addresses import BadAddress, parse_address, parse_plain_address, trim
from campaigns.models import fields as columns
from campaigns.values import BadValue, check_line, check_object, parse_json
from users.admin_theme import AdminTextInputWidget


class ObjectField(forms.JSONField):
    """A JSON object; empty means one without members."""

    def to_python(self, value: Any) -> dict[str, Any]:  # type: ignore[override]  # the stub has CharField's
        """Return the object."""
        if value in self.empty_values or (isinstance(value, str) and not value.strip()):
            return {}
        try:
            return check_object(parse_json(value) if isinstance(value, str) else value)
        except BadValue as bad:
            raise ValidationError(str(bad), code=bad.code) from bad

    def bound_data(self, data: Any, initial: Any) -> Any:
        """Return what was typed, as the form shows it again."""
        try:
            return self.to_python(data)
        except ValidationError:
            return forms.fields.InvalidJSONInput(data)


class AddressField(forms.CharField):
    """An e-mail address, returned as it is to be stored."""

    parse = staticmethod(parse_address)

    def to_python(self, value: Any) -> str:
        """Return the address."""
        text = trim(super().to_python(value) or "")
        try:
            return self.parse(text) if text else ""
        except BadAddress as bad:
            raise ValidationError(str(bad), code="bad_address") from bad


class PlainAddressField(AddressField):
    """A sender's address, which is of ASCII."""

    parse = staticmethod(parse_plain_address)


class LineField(forms.CharField):
    """One line of text."""

    def to_python(self, value: Any) -> str:
        """Return the line."""
        text = super().to_python(value) or ""
        try:
            check_line(text)
        except BadValue as bad:
            raise ValidationError(str(bad), code=bad.code) from bad
        return text


class Checked:
    """For a ModelAdmin whose rows hold addresses or JSON objects."""

    formfield_overrides: ClassVar[Mapping["type[models.Field[Any, Any]]", Mapping[str, Any]]] = {
        models.EmailField: {"form_class": PlainAddressField},
        # browsers take no letters outside ASCII before the @-sign in an <input type="email">
        columns.AddressField: {"form_class": AddressField, "widget": AdminTextInputWidget},
        models.JSONField: {"form_class": ObjectField},
    }
