"""The delivery log of a campaign, row by row."""

import re

from django.db.models import Max, Min, QuerySet
from django_filters.rest_framework import ChoiceFilter, DjangoFilterBackend, FilterSet, ModelChoiceFilter
from drf_spectacular.utils import extend_schema
from rest_framework import mixins
from rest_framework.exceptions import NotFound
from rest_framework.filters import SearchFilter
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request

from campaigns.api.base import OperatorView, RowSerializer
from campaigns.models import Campaign, DeliveryLog, DeliveryStatus

AN_ID = re.compile("[0-9]{1,18}")


class DeliverySerializer(RowSerializer[DeliveryLog]):
    """One mail to one recipient, and what became of it."""

    class Meta:
        model = DeliveryLog
        fields = [
            "id",
            "campaign",
            "batch",
            "recipient",
            "email",
            "message_id",
            "status",
            "attempts",
            "doubts",
            "not_before",
            "provider",
            "provider_message_id",
            "reason",
            "attempted_at",
            "sent_at",
        ]
        read_only_fields = fields


class DeliveryFilter(FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """?campaign= is required in a list: the log of all campaigns together has no use and no bound."""

    campaign = ModelChoiceFilter(queryset=Campaign.objects.all(), required=True, method="of_campaign")
    status = ChoiceFilter(choices=DeliveryStatus.choices)

    def of_campaign(
        self, deliveries: QuerySet[DeliveryLog], name: str, campaign: Campaign
    ) -> QuerySet[DeliveryLog]:
        """Keep a campaign's rows.

        They were written together, in the order of their batches. Naming the range of their ids keeps
        PostgreSQL from walking the primary key through other campaigns' millions.
        """
        batches = campaign.batches.order_by("number").values_list("pk", flat=True)
        edges = [batches.first(), batches.last()]
        ids = DeliveryLog.objects.filter(batch__in=[pk for pk in edges if pk]).aggregate(
            first=Min("pk"), last=Max("pk")
        )
        if ids["first"] is None:
            return deliveries.none()
        return deliveries.filter(campaign=campaign, pk__range=(ids["first"], ids["last"]))


class ById(CursorPagination):
    """Pages that stay right while rows change; nothing is counted."""

    page_size = 100
    page_size_query_param = "page_size"
    max_page_size = 1000
    ordering = "id"

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Read ?cursor=. Raises NotFound for one that was not made here."""
        cursor = super().decode_cursor(request)
        position = cursor.position if cursor else None
        if position is not None and not AN_ID.fullmatch(str(position)):
            raise NotFound(self.invalid_cursor_message)
        return cursor


@extend_schema(tags=["deliveries"])
class DeliveryView(mixins.ListModelMixin, mixins.RetrieveModelMixin, OperatorView[DeliveryLog]):
    """The delivery log, read only: ?campaign= (required), ?status=, ?search= an address."""

    queryset = DeliveryLog.objects.all()
    serializer_class = DeliverySerializer
    pagination_class = ById
    filter_backends = [DjangoFilterBackend, SearchFilter]
    search_fields = ["email"]
    filterset_class = DeliveryFilter
