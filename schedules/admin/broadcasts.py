"""One campaign to all users, each at their next preferred time."""

from datetime import timedelta
from functools import partial
from typing import Any, cast

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from campaigns.admin.fields import LineField, ObjectField
from campaigns.models import EmailTemplate
from campaigns.tasks import hint
from schedules import broadcasting, planning, tasks
from schedules.admin.schedules import label
from schedules.models import Broadcast
from users.admin_theme import AdminTextareaWidget, AdminTextInputWidget, ModelAdmin, ModelForm, Select
from users.models import User


class BroadcastForm(ModelForm[Broadcast]):
    """What is sent, and how long a preferred time is waited for."""

    template = forms.ModelChoiceField(EmailTemplate.objects.all(), widget=Select())
    name = LineField(required=False, max_length=200, widget=AdminTextInputWidget())
    variables = ObjectField(
        required=False,
        help_text='Values the same for everybody, as {"month": "May"}.',
        widget=AdminTextareaWidget(),
    )
    within_days = forms.IntegerField(
        min_value=1,
        max_value=31,
        initial=broadcasting.DEFAULT_DAYS,
        help_text="Whoever prefers no moment within so many days gets it at their end.",
        widget=AdminTextInputWidget(),
    )

    class Meta:
        model = Broadcast
        fields = ()

    def clean(self) -> dict[str, Any] | None:
        """Refuse a template that could not be written with these variables, once they can be read."""
        cleaned = super().clean() or self.cleaned_data
        if "variables" not in cleaned:
            return cleaned
        try:
            planning.check_template(cleaned.get("template"), cleaned.get("variables") or {})
        except ValidationError as problem:
            self.add_error(None, problem)
        return cleaned


@admin.register(Broadcast)
class BroadcastAdmin(ModelAdmin[Broadcast]):
    """Broadcasts; each has a campaign, whose page follows it."""

    form = BroadcastForm
    fields = ("template", "name", "variables", "within_days")
    list_display = ("page", "state", "within", "created_at")
    list_display_links = None
    list_select_related = ("campaign",)

    @admin.display(description="campaign")
    def page(self, broadcast: Broadcast) -> SafeString:
        """The campaign's name, leading to its page."""
        url = reverse("admin:campaigns_campaign_change", args=[broadcast.campaign_id])
        return format_html('<a class="mailer-title" href="{}">{}</a>', url, broadcast.campaign.name)

    @admin.display(description="state")
    def state(self, broadcast: Broadcast) -> SafeString:
        """What has become of the campaign, and why, if it failed."""
        campaign = broadcast.campaign
        return format_html(
            '{}<span class="mailer-sub">{}</span>',
            label(campaign.get_status_display()),
            campaign.status_reason,
        )

    def has_change_permission(self, request: HttpRequest, obj: Broadcast | None = None) -> bool:
        """A broadcast is its campaign once it is made."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Broadcast | None = None) -> bool:
        """The campaign is what can be cancelled."""
        return False

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Whoever may add campaigns may."""
        return super().has_add_permission(request) and request.user.has_perm("campaigns.add_campaign")

    def save_model(
        self, request: HttpRequest, obj: Broadcast, form: "forms.ModelForm[Broadcast]", change: bool
    ) -> None:
        """Store it and have it begin."""
        given = form.cleaned_data
        made = broadcasting.create(
            given["template"],
            given["variables"],
            name=given["name"],
            within=timedelta(days=given["within_days"]),
            by=cast(User, request.user),
            now=timezone.now(),
        )
        obj.pk, obj.campaign = made.pk, made.campaign
        transaction.on_commit(partial(hint, tasks.start_broadcast, made.pk))
