"""Campaigns: a list and a page that follow the sending, and the buttons that steer it."""

from copy import copy
from functools import partial
from http import HTTPStatus
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_GET, require_POST, require_safe

from campaigns import actions, preflight, timing, watchdog
from campaigns.actions import NoLongerEditable
from campaigns.admin import operating, settling
from campaigns.admin.fields import Checked, LineField
from campaigns.admin.large import SortedList
from campaigns.admin.operating import BUTTONS, ActionRefused, ScheduleForm, SendTestForm
from campaigns.admin.summary import Summary
from campaigns.admin.times import in_zone, to_zone
from campaigns.composing import (
    HeaderRefused,
    LinkParametersRefused,
    check_extra_fields,
    check_link_parameters,
)
from campaigns.models import Campaign, CampaignStatus, Timing
from campaigns.preflight import CampaignNotReady
from users.admin import ChoosesTimezone
from users.admin_theme import ModelAdmin, ModelForm, RelatedFieldListFilter

MOST_FOLLOWED = 100
LONGEST_KEPT = 4_000
# htmx: take this answer and ask no more, https://htmx.org/docs/#polling
STOP_POLLING = 286
_REFUSED = "refused_entry"


def summaries(campaigns: list[Campaign]) -> dict[int, Summary]:
    """What to show of each campaign, by id; one query, so that all are of the same instant."""
    figures = watchdog.of_many(campaign.pk for campaign in campaigns)
    return {
        campaign.pk: Summary(campaign, figures[campaign.pk])
        for campaign in campaigns
        if campaign.pk in figures
    }


class CampaignList(SortedList):
    """Fetches the progress of the campaigns on the page."""

    moving_ids: list[int]

    def get_results(self, request: HttpRequest) -> None:
        """Fetch the page and its numbers."""
        super().get_results(request)
        found = summaries(list(self.result_list))
        self.result_list = [campaign for campaign in self.result_list if campaign.pk in found]
        for campaign in self.result_list:
            campaign.summary = found[campaign.pk]
        self.moving_ids = [pk for pk, summary in found.items() if summary.moving]


class CampaignForm(ModelForm[Campaign]):
    """The fields of a campaign that has not begun; a scheduled one must stay fit to be sent."""

    class Meta:
        model = Campaign
        fields = (
            "name",
            "audience",
            "template",
            "variables",
            "from_email",
            "from_name",
            "reply_to",
            "link_parameters",
            "headers",
            "timezone",
            "timing",
            "local_time",
        )
        field_classes = {"name": LineField, "from_name": LineField}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "timing" in self.fields and self.instance.timing != Timing.GIVEN:
            # schedules and broadcasts alone know a moment for each recipient
            own = [choice for choice in Timing.choices if choice[0] != Timing.GIVEN]
            self.fields["timing"].choices = own  # type: ignore[attr-defined]  # of a ChoiceField

    def clean_headers(self) -> dict[str, Any]:
        """Hold them to the names and values that a campaign may add."""
        headers: dict[str, Any] = self.cleaned_data["headers"]
        try:
            check_extra_fields(headers)
        except HeaderRefused as refusal:
            raise forms.ValidationError(str(refusal)) from refusal
        return headers

    def clean_link_parameters(self) -> dict[str, Any]:
        """Hold them to what can stand in a link."""
        parameters: dict[str, Any] = self.cleaned_data["link_parameters"]
        try:
            check_link_parameters(parameters)
        except LinkParametersRefused as refusal:
            raise forms.ValidationError(str(refusal)) from refusal
        return parameters

    def clean(self) -> dict[str, Any] | None:
        """Hold the whole to what the API asks of an edit, too."""
        cleaned = super().clean() or self.cleaned_data
        if not self.errors:
            try:
                actions.apply(copy(self.instance), cleaned, now=timezone.now())
            except CampaignNotReady as not_ready:
                for field, texts in not_ready.problems.items():
                    shown = field if field in self.fields else None
                    self.add_error(shown, texts if shown else operating.in_words({field: texts}))
        return cleaned


@admin.register(Campaign)
class CampaignAdmin(Checked, ChoosesTimezone, ModelAdmin[Campaign]):
    """Mailings."""

    form = CampaignForm
    list_display = ("title", "state", "delivery", "when")
    list_display_links = None
    list_filter = ("status", "timing", ("audience", RelatedFieldListFilter))
    list_filter_submit = True
    list_select_related = ("audience",)
    list_per_page = 25
    list_before_template = "admin/campaigns/campaign/list_follow.html"
    search_fields = ("name",)
    autocomplete_fields = ("audience", "template")
    sortable_by = ()
    show_facets = admin.ShowFacets.NEVER
    change_form_outer_before_template = "admin/campaigns/campaign/panel.html"
    fieldsets = (
        (None, {"fields": ("name", "audience", "template", "variables")}),
        ("Sender", {"fields": ("from_email", "from_name", "reply_to")}),
        ("Time", {"fields": ("timezone", "timing", "local_time")}),
        ("Links and headers", {"fields": ("link_parameters", "headers"), "classes": ("collapse",)}),
    )

    # --- The list

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """The list with the numbers."""
        return CampaignList

    @admin.display(description="campaign", ordering="name")
    def title(self, campaign: Campaign) -> SafeString:
        """Name and audience."""
        return format_html(
            '<a class="mailer-title" href="{}">{}</a><span class="mailer-sub">to {}</span>',
            reverse("admin:campaigns_campaign_change", args=[campaign.pk]),
            campaign.name,
            campaign.audience,
        )

    @admin.display(description="status")
    def state(self, campaign: Campaign) -> SafeString:
        """The status as a coloured label."""
        return render_to_string("admin/campaigns/campaign/state.html", {"summary": _summary_of(campaign)})

    @admin.display(description="delivery")
    def delivery(self, campaign: Campaign) -> SafeString:
        """The bar, the counts and the share accepted."""
        return render_to_string("admin/campaigns/campaign/delivery.html", {"summary": _summary_of(campaign)})

    @admin.display(description="time")
    def when(self, campaign: Campaign) -> str:
        """When it started, or will."""
        if campaign.started_at:
            return f"started {in_zone(campaign.started_at, campaign.timezone)}"
        if campaign.scheduled_at:
            return f"starts {in_zone(campaign.scheduled_at, campaign.timezone)}"
        return "-"

    # --- The page

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Campaign | None:
        """Return the campaign; locked while its form is saved, so that this cannot write over a start."""
        campaign = super().get_object(request, object_id, from_field)
        if campaign is not None and _saves_form(request):
            return Campaign.objects.select_for_update().filter(pk=campaign.pk).first()
        return campaign

    def get_readonly_fields(self, request: HttpRequest, obj: Campaign | None = None) -> tuple[str, ...]:
        """The zone belongs to the start time; both are changed by scheduling anew."""
        return ("timezone",) if obj and obj.status == CampaignStatus.SCHEDULED else ()

    def has_change_permission(self, request: HttpRequest, obj: Campaign | None = None) -> bool:
        """Whether the fields may be changed: not once sending has begun."""
        return self._may_operate(request) and (obj is None or actions.may_edit(obj.status))

    def has_delete_permission(self, request: HttpRequest, obj: Campaign | None = None) -> bool:
        """Whether it may be deleted: not once sending has begun, for it proves what was sent."""
        allowed = super().has_delete_permission(request, obj)
        return allowed and (obj is None or actions.may_edit(obj.status))

    def save_form(self, request: HttpRequest, form: "forms.ModelForm[Campaign]", change: bool) -> Any:
        """Note who made it."""
        campaign = super().save_form(request, form, change)
        if not change:
            campaign.created_by = request.user
        return campaign

    def save_model(
        self, request: HttpRequest, obj: Campaign, form: "forms.ModelForm[Campaign]", change: bool
    ) -> None:
        """Write the form's own columns; the status is lifecycle's."""
        if change:
            obj.save(update_fields=[*form.cleaned_data, "updated_at"])
        else:
            obj.save()

    def delete_model(self, request: HttpRequest, obj: Campaign) -> None:
        """Delete one, unless it has begun in the meantime."""
        try:
            actions.delete(obj.pk)
        except NoLongerEditable as refused:
            raise PermissionDenied(str(refused)) from refused

    def delete_queryset(self, request: HttpRequest, queryset: "QuerySet[Campaign]") -> None:
        """Delete the chosen ones, or none of them."""
        with transaction.atomic():
            for campaign in queryset.order_by("pk").select_for_update(of=("self",)):
                self.delete_model(request, campaign)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The page, with the numbers and buttons above the form."""
        campaign = super().get_object(request, object_id)
        panel = self._panel(request, campaign) if campaign and self.has_view_permission(request) else {}
        return super().change_view(request, object_id, form_url, {**panel, **(extra_context or {})})

    @method_decorator(require_safe)
    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """What operators did with it."""
        return super().history_view(request, object_id, extra_context)

    def _panel(self, request: HttpRequest, campaign: Campaign) -> dict[str, Any]:
        summary = summaries([campaign])[campaign.pk]
        return {
            "summary": summary,
            "doubtful": settling.offer(request, campaign, summary),
            "times": _times(campaign),
            "zones": timing.by_zone(campaign),
            "buttons": self._buttons(request, campaign, _refused_entry(request, campaign)),
            "problems": _problems(campaign),
        }

    def _buttons(
        self, request: HttpRequest, campaign: Campaign, refused: dict[str, Any]
    ) -> list[dict[str, Any]]:
        if not self._may_operate(request):
            return []
        return [
            {
                "button": button,
                "url": reverse(f"admin:campaigns_campaign_{button.action}", args=[campaign.pk]),
                "form": _form(button.form, campaign, refused.get(button.action, {}).get("typed", {})),
                "reasons": refused.get(button.action, {}).get("reasons", []),
            }
            for button in BUTTONS.values()
            if button.allowed(campaign.status)
        ]

    def _may_operate(self, request: HttpRequest) -> bool:
        return super().has_change_permission(request)

    # --- The addresses beside Django's own

    def get_urls(self) -> list[URLPattern]:
        """Add what follows the sending, and one address for each button."""
        wrap = self.admin_site.admin_view
        operations = [
            path(
                f"<int:campaign_id>/{action}/",
                wrap(require_POST(partial(self.operate, action=action))),
                name=f"campaigns_campaign_{action}",
            )
            for action in BUTTONS
        ]
        return [
            path("live/", wrap(self.live_list), name="campaigns_campaign_live_list"),
            path("<int:campaign_id>/live/", wrap(self.live), name="campaigns_campaign_live"),
            *operations,
            *super().get_urls(),
        ]

    def operate(self, request: HttpRequest, campaign_id: int, action: str) -> HttpResponse:
        """Do what a button says, or say why not; back to the page either way."""
        campaign = get_object_or_404(Campaign, pk=campaign_id)
        if not self._may_operate(request):
            raise PermissionDenied
        try:
            done = operating.perform(action, campaign, request.POST, now=timezone.now())
        except ActionRefused as refused:
            for reason in refused.reasons:
                messages.error(request, reason)
            _keep_entry(request, campaign_id, action, refused.reasons)
        else:
            self.log_change(request, campaign, done)
            messages.success(request, done)
        return HttpResponseRedirect(reverse("admin:campaigns_campaign_change", args=[campaign_id]))

    @method_decorator(require_GET)
    def live(self, request: HttpRequest, campaign_id: int) -> HttpResponse:
        """The numbers of one campaign; the whole page anew once its status is not ?status any more."""
        self._require_view_permission(request)
        campaign = get_object_or_404(Campaign.objects.select_related("audience"), pk=campaign_id)
        if campaign.status != request.GET.get("status"):
            return HttpResponse(headers={"HX-Refresh": "true"})
        return HttpResponse(
            render_to_string(
                "admin/campaigns/campaign/live.html",
                {"summary": summaries([campaign])[campaign.pk], "times": _times(campaign)},
            )
        )

    @method_decorator(require_GET)
    def live_list(self, request: HttpRequest) -> HttpResponse:
        """The labels and bars of the campaigns ?ids=1,2; 286 when none of them moves any more."""
        self._require_view_permission(request)
        try:
            ids = [int(number) for number in request.GET.get("ids", "").split(",")]
        except ValueError:
            return HttpResponseBadRequest("ids: write them like 1,2,3.", content_type="text/plain")
        campaigns = list(Campaign.objects.filter(pk__in=ids[:MOST_FOLLOWED]).select_related("audience"))
        found = list(summaries(campaigns).values())
        moving = any(summary.moving for summary in found)
        return HttpResponse(
            render_to_string("admin/campaigns/campaign/live_list.html", {"summaries": found}),
            status=HTTPStatus.OK if moving else STOP_POLLING,
        )

    def _require_view_permission(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied


def _saves_form(request: HttpRequest) -> bool:
    """Whether this is a POST to the page of one campaign; Django has opened a transaction for it."""
    match = request.resolver_match
    return request.method == "POST" and match is not None and match.url_name == "campaigns_campaign_change"


def _summary_of(campaign: Campaign) -> Summary:
    summary: Summary = campaign.summary  # type: ignore[attr-defined]  # CampaignList put it there
    return summary


def _times(campaign: Campaign) -> list[tuple[str, str]]:
    labelled = (
        ("Starts", campaign.scheduled_at if campaign.status == CampaignStatus.SCHEDULED else None),
        ("Started", campaign.started_at),
        ("Ended", campaign.finished_at),
    )
    return [(label, in_zone(moment, campaign.timezone)) for label, moment in labelled if moment]


def _problems(campaign: Campaign) -> list[str]:
    """What would keep the campaign from starting, in words."""
    if not actions.may_edit(campaign.status):
        return []
    try:
        preflight.check(campaign)
    except CampaignNotReady as not_ready:
        return operating.in_words(not_ready.problems)
    return []


def _keep_entry(request: HttpRequest, campaign_id: int, action: str, reasons: list[str]) -> None:
    """Remember what was typed into a dialog and refused, for the next look at the campaign's page."""
    form = BUTTONS[action].form
    if form:
        typed = {name: request.POST.get(name, "")[:LONGEST_KEPT] for name in form.base_fields}
        request.session[_REFUSED] = {
            "campaign": campaign_id,
            "entries": {action: {"typed": typed, "reasons": reasons}},
        }


def _refused_entry(request: HttpRequest, campaign: Campaign) -> dict[str, Any]:
    """Return what `_keep_entry` kept of this campaign, by action, and forget it."""
    if request.session.get(_REFUSED, {}).get("campaign") != campaign.pk:
        return {}
    entries: dict[str, Any] = request.session.pop(_REFUSED)["entries"]
    return entries


def _form(form: type[forms.Form] | None, campaign: Campaign, typed: dict[str, str]) -> forms.Form | None:
    if form is ScheduleForm:
        local = to_zone(campaign.scheduled_at, campaign.timezone) if campaign.scheduled_at else None
        start_at = f"{local:%Y-%m-%dT%H:%M}" if local else ""
        return ScheduleForm(initial={"start_at": start_at, "timezone": campaign.timezone, **typed})
    return SendTestForm(initial=typed) if form is SendTestForm else None
