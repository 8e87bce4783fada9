"""The delivery log of a campaign, row by row."""

import re
from typing import Any, cast

from django.db.models import Max, Min, QuerySet
from django.utils import timezone
from django_filters.rest_framework import ChoiceFilter, DjangoFilterBackend, FilterSet, ModelChoiceFilter
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.filters import SearchFilter
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response

from campaigns import actions, settling
from campaigns.api.base import OperatorView, RowSerializer
from campaigns.models import Campaign, Decision, DeliveryLog, DeliveryStatus, Settlement
from users.api.bodies import KnownOnly
from users.models import User

AN_ID = re.compile("[0-9]{1,18}")


class SettlementSerializer(RowSerializer[Settlement]):
    """What somebody decided about a delivery while it was unconfirmed."""

    class Meta:
        model = Settlement
        fields = ["decision", "decided_by", "decided_by_email", "decided_at", "note"]
        read_only_fields = fields


class DeliverySerializer(RowSerializer[DeliveryLog]):
    """One mail to one recipient, and what became of it; `settlements` from the oldest."""

    settlements = SettlementSerializer(many=True, read_only=True)

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
            "settlements",
        ]
        read_only_fields = fields


class SettleSerializer(KnownOnly):
    """Which unconfirmed deliveries, either named or all of a campaign, and what becomes of them."""

    deliveries = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**63 - 1),
        required=False,
        min_length=1,
        max_length=settling.MOST_NAMED,
        help_text="All of them or none: 409 names those that are not unconfirmed.",
    )
    campaign = serializers.PrimaryKeyRelatedField(
        queryset=Campaign.objects.all(), required=False, help_text="Instead of `deliveries`: all it has."
    )
    decision = serializers.ChoiceField(choices=Decision.choices)
    note = serializers.CharField(default="", allow_blank=True, max_length=settling.LONGEST_NOTE)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Ask for one of the two ways to say which."""
        if ("deliveries" in attrs) == ("campaign" in attrs):
            message = ["Give either deliveries or a campaign."]
            raise serializers.ValidationError({"deliveries": message, "campaign": message}, "either_or")
        return attrs


class SettledSerializer(serializers.Serializer[Any]):
    """What was done; 0 when a campaign had nothing unconfirmed."""

    settled = serializers.IntegerField()
    decision = serializers.ChoiceField(choices=Decision.choices)


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
    """The delivery log: ?campaign= (required), ?status=, ?search= an address."""

    queryset = DeliveryLog.objects.prefetch_related("settlements")
    serializer_class = DeliverySerializer
    pagination_class = ById
    filter_backends = [DjangoFilterBackend, SearchFilter]
    search_fields = ["email"]
    filterset_class = DeliveryFilter

    @extend_schema(
        summary="Decide what becomes of unconfirmed mails",
        request=SettleSerializer,
        responses=SettledSerializer,
    )
    @action(detail=False, methods=["post"], filter_backends=[], pagination_class=None)
    def settle(self, request: Request) -> Response:
        """Count them as sent, send them again or give them up; who decided is kept with each.

        Named deliveries are settled all or none; those of a campaign batch by batch. A campaign that has
        ended goes on when mails are sent again; one that was cancelled sends nothing any more (409).
        """
        asked = SettleSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        decision = Decision(given["decision"])
        kept: dict[str, Any] = {"by": cast(User, request.user), "note": given["note"], "now": timezone.now()}
        if "campaign" in given:
            settled = actions.settle_campaign(given["campaign"].pk, decision, **kept)
        else:
            settled = actions.settle_deliveries(given["deliveries"], decision, **kept)
        return Response({"settled": settled, "decision": decision})
