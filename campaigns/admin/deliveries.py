"""The ledger, to be read: batches and the delivery log."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from campaigns.admin.large import Large
from campaigns.admin.readonly import ReadOnly
from campaigns.admin.searching import with_address
from campaigns.admin.settling import Settles
from campaigns.models import Batch, Campaign, DeliveryLog, DeliveryStatus
from users.admin_theme import ModelAdmin, RelatedFieldListFilter

STATUS_COLOURS = {
    DeliveryStatus.PENDING: "neutral",
    DeliveryStatus.DEFERRED: "yellow",
    DeliveryStatus.SENT: "green",
    DeliveryStatus.FAILED: "red",
    DeliveryStatus.SUPPRESSED: "neutral",
    DeliveryStatus.UNCONFIRMED: "yellow",
    DeliveryStatus.CANCELLED: "neutral",
}


@admin.register(Batch)
class BatchAdmin(Large, ReadOnly, ModelAdmin[Batch]):
    """What workers lease; its counters are the campaign's numbers."""

    list_display = (
        "number", "campaign", "size", *DeliveryStatus.values, "not_before", "lease_owner", "trouble",
    )  # fmt: skip
    list_filter = (("campaign", RelatedFieldListFilter),)
    list_filter_submit = True
    list_select_related = ("campaign",)
    ordering = ("-campaign_id", "number")


class StatusFilter(admin.SimpleListFilter):
    """Status is in no index; the counters of the batches say where to look."""

    title = "status"
    parameter_name = "status__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """All statuses."""
        return [(value, str(label)) for value, label in DeliveryStatus.choices]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[DeliveryLog]") -> "QuerySet[DeliveryLog]":
        """Rows of one status; an unknown one is none."""
        status = self.value()
        if status is None:
            return queryset
        if status not in DeliveryStatus.values:
            return queryset.none()
        return queryset.filter(status=status, batch__in=Batch.objects.filter(**{f"{status}__gt": 0}))


@admin.register(DeliveryLog)
class DeliveryLogAdmin(Large, ReadOnly, Settles):
    """One row per recipient and campaign."""

    list_display = (
        "email", "campaign", "state", "doubt", "attempts", "provider", "reason", "sent_at", "not_before",
    )  # fmt: skip
    list_filter = (("campaign", RelatedFieldListFilter), StatusFilter)
    list_filter_submit = True
    list_select_related = ("campaign",)
    raw_id_fields = ("recipient",)
    readonly_fields = ("doubt", "decisions")
    search_fields = ("email",)
    search_help_text = "An address, or a part of one"
    ordering = ("-id",)

    @admin.display(description="status")
    def state(self, delivery: DeliveryLog) -> SafeString:
        """The status as a coloured label."""
        return format_html(
            '<span class="mailer-label mailer-{}">{}</span>',
            STATUS_COLOURS[DeliveryStatus(delivery.status)],
            delivery.get_status_display(),
        )

    @admin.display(description="in doubt", empty_value="-")
    def doubt(self, delivery: DeliveryLog) -> str | None:
        """What its reader may have got that nobody recorded."""
        if delivery.may_have_arrived_twice:
            return "may have arrived more than once"
        return "left once without an answer" if delivery.doubts else None

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[DeliveryLog]", search_term: str
    ) -> tuple["QuerySet[DeliveryLog]", bool]:
        """Find an address; no row can appear twice."""
        if search_term:
            queryset = with_address(queryset, search_term, owners=Campaign, field="campaign")
        return queryset, False
