"""Addresses that must not be mailed."""

from django.contrib import admin
from django.http import HttpRequest

from campaigns.addresses import folded
from campaigns.admin.fields import Checked
from campaigns.admin.large import Large
from campaigns.models import Suppression
from users.admin_theme import ModelAdmin, ModelForm


class SuppressionForm(ModelForm[Suppression]):
    """Takes an address as people write it and keeps it in lower case."""

    class Meta:
        model = Suppression
        fields = ("email", "reason", "note")

    def clean_email(self) -> str:
        """Return the address in lower case."""
        email: str = self.cleaned_data["email"]
        return folded(email)


@admin.register(Suppression)
class SuppressionAdmin(Checked, Large, ModelAdmin[Suppression]):
    """Who must not be mailed, and why."""

    form = SuppressionForm
    list_display = ("email", "reason", "campaign", "created_at")
    list_filter = ("reason",)
    list_select_related = ("campaign",)
    search_fields = ("^email",)
    readonly_fields = ("campaign", "created_at")

    def get_fields(self, request: HttpRequest, obj: Suppression | None = None) -> tuple[str, ...]:
        """A new entry comes from no campaign and has no date yet."""
        fields = ("email", "reason", "note")
        return (*fields, "campaign", "created_at") if obj else fields

    def get_readonly_fields(self, request: HttpRequest, obj: Suppression | None = None) -> tuple[str, ...]:
        """The address of an entry stays; delete the entry to let the address be mailed again."""
        return ("email", *self.readonly_fields) if obj else self.readonly_fields
