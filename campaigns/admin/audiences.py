"""Audiences and their recipients."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.http import content_disposition_header
from django.utils.safestring import SafeString
from django.views.decorators.http import require_GET

from campaigns import audiences
from campaigns.admin.fields import Checked, LineField
from campaigns.admin.large import Large, SortedList
from campaigns.admin.searching import with_address
from campaigns.exporting.exports import EXTENSIONS, TooManyRows, export
from campaigns.models import Audience, Campaign, Recipient
from users.admin import ChoosesTimezone
from users.admin_theme import ModelAdmin, ModelForm, RelatedFieldListFilter


def recipient_counts(audience_ids: list[int]) -> dict[int, int]:
    """How many recipients each of these audiences has; one query."""
    counted = (
        Recipient.objects.filter(audience__in=audience_ids)
        .order_by()
        .values_list("audience_id")
        .annotate(Count("pk"))
    )
    return dict(counted)


def export_page(request: HttpRequest, audience_id: int, extension: str) -> HttpResponseBase:
    """All recipients of an audience as a file; rows are read as they are sent."""
    if not request.user.has_perm("campaigns.view_recipient"):
        raise PermissionDenied
    audience = get_object_or_404(Audience, pk=audience_id)
    try:
        found = export(audience, extension)
    except TooManyRows as error:
        messages.error(request, str(error))
        return HttpResponseRedirect(reverse("admin:campaigns_audience_change", args=[audience.pk]))
    return StreamingHttpResponse(
        found.pieces,
        content_type=found.media_type,
        headers={"Content-Disposition": content_disposition_header(True, found.name) or ""},
    )


class AudienceList(SortedList):
    """Counts the recipients of the audiences on the page."""

    def get_results(self, request: HttpRequest) -> None:
        """Fetch the page and its counts."""
        super().get_results(request)
        counts = recipient_counts([audience.pk for audience in self.result_list])
        for audience in self.result_list:
            audience.recipient_count = counts.get(audience.pk, 0)


@admin.register(Audience)
class AudienceAdmin(ModelAdmin[Audience]):
    """Lists of recipients."""

    # not "recipients": ?o= would sort by the relation of that name, a row for each recipient
    list_display = ("name", "recipient_total", "created_at")
    sortable_by = ("name", "created_at")
    search_fields = ("name",)
    readonly_fields = ("recipient_total", "created_at")
    change_form_outer_before_template = "admin/campaigns/audience/links.html"
    actions = ("export_csv", "export_xlsx")

    def get_fields(self, request: HttpRequest, obj: Audience | None = None) -> tuple[str, ...]:
        """A new audience has no recipients yet, nor a date."""
        return ("name", "description", *self.readonly_fields) if obj else ("name", "description")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """The list that counts."""
        return AudienceList

    def get_urls(self) -> list[URLPattern]:
        """The files of an audience beside its page."""
        wrap = self.admin_site.admin_view
        exports = [
            path(
                f"<int:audience_id>/recipients.{extension}",
                wrap(require_GET(export_page)),
                {"extension": extension},
                name=f"audience_{extension}",
            )
            for extension in EXTENSIONS
        ]
        return [*exports, *super().get_urls()]

    @admin.action(description="Export the recipients as CSV", permissions=["export"])
    def export_csv(self, request: HttpRequest, queryset: "QuerySet[Audience]") -> HttpResponseBase | None:
        """The chosen audience as CSV."""
        return self._export(request, queryset, "csv")

    @admin.action(description="Export the recipients as XLSX", permissions=["export"])
    def export_xlsx(self, request: HttpRequest, queryset: "QuerySet[Audience]") -> HttpResponseBase | None:
        """The chosen audience as a workbook."""
        return self._export(request, queryset, "xlsx")

    def has_export_permission(self, request: HttpRequest) -> bool:
        """Whoever may look at recipients may take them along."""
        return request.user.has_perm("campaigns.view_recipient")

    def _export(
        self, request: HttpRequest, queryset: "QuerySet[Audience]", extension: str
    ) -> HttpResponseBase | None:
        chosen = list(queryset[:2])
        if len(chosen) == 1:
            return export_page(request, chosen[0].pk, extension)
        self.message_user(request, "Choose one audience; each is a file of its own.", messages.WARNING)
        return None

    @admin.display(description="recipients")
    def recipient_total(self, audience: Audience) -> SafeString:
        """The number of recipients, leading to them."""
        count = getattr(audience, "recipient_count", None)
        if count is None:
            count = recipient_counts([audience.pk]).get(audience.pk, 0)
        return format_html('<a class="mailer-link" href="{}">{}</a>', _list_of(audience), f"{count:,}")

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[Any]]:
        """Say what would go, in numbers: naming each of a million recipients would take all memory."""
        audiences = list(objs)
        counts = recipient_counts([audience.pk for audience in audiences])
        named = [f"{audience}: {counts.get(audience.pk, 0):,} recipients" for audience in audiences]
        totals = {"audiences": len(audiences), "recipients": sum(counts.values())}
        lacking = set() if self.has_delete_permission(request) else {"audience"}
        protected = [
            f"campaign {campaign}, sent to {campaign.audience}"
            for campaign in Campaign.objects.filter(audience__in=audiences).select_related("audience")
        ]
        return named, totals, lacking, protected

    def delete_model(self, request: HttpRequest, obj: Audience) -> None:
        """Delete one."""
        audiences.delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: "QuerySet[Audience]") -> None:
        """Delete the chosen ones, or none of them."""
        with transaction.atomic():
            for audience in queryset:
                audiences.delete(audience)


class RecipientForm(ModelForm[Recipient]):
    """A recipient as the API would take them."""

    class Meta:
        model = Recipient
        fields = ("audience", "email", "name", "timezone", "attributes")
        field_classes = {"name": LineField}


@admin.register(Recipient)
class RecipientAdmin(Checked, Large, ChoosesTimezone, ModelAdmin[Recipient]):
    """One address in one audience; the list stays quick at millions."""

    form = RecipientForm
    list_display = ("email", "name", "audience", "timezone", "updated_at")
    list_filter = (("audience", RelatedFieldListFilter),)
    list_filter_submit = True
    list_select_related = ("audience",)
    search_fields = ("email",)
    search_help_text = "An address, or a part of one"
    autocomplete_fields = ("audience",)
    readonly_fields = ("created_at", "updated_at")
    ordering = ("-id",)

    def get_fields(self, request: HttpRequest, obj: Recipient | None = None) -> tuple[str, ...]:
        """A new recipient has no dates yet."""
        fields = ("audience", "email", "name", "timezone", "attributes")
        return (*fields, *self.readonly_fields) if obj else fields

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[Recipient]", search_term: str
    ) -> tuple["QuerySet[Recipient]", bool]:
        """Find an address; no row can appear twice."""
        if search_term:
            queryset = with_address(queryset, search_term, owners=Audience, field="audience")
        return queryset, False


def _list_of(audience: Audience) -> str:
    query = urlencode({"audience__id__exact": audience.pk})
    return f"{reverse('admin:campaigns_recipient_changelist')}?{query}"
