"""Campaigns: preparing them, sending them, following them."""

from typing import Any, cast

from django.http import HttpResponseBase
from django.utils import timezone
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import ModelViewSet

from campaigns import actions, progress, timing, trial, watchdog
from campaigns.api.base import OperatorView, RowSerializer, fresh
from campaigns.api.errors import LedgerBroken
from campaigns.api.fields import AddressField, StartTimeField, UtcField, instant, single_line
from campaigns.composing import (
    HeaderRefused,
    LinkParametersRefused,
    check_extra_fields,
    check_link_parameters,
)
from campaigns.models import Campaign, CampaignStatus, Timing
from users.api.bodies import KnownOnly
from users.api.idempotency import CreatesOnce, once
from users.models import User, default_timezone, validate_timezone


class CampaignSerializer(RowSerializer[Campaign]):
    """An audience, a template, a time."""

    scheduled_at = StartTimeField(
        required=False,
        allow_null=True,
        help_text="With an offset, or a local time meant in `timezone`.",
    )

    class Meta:
        model = Campaign
        fields = [
            "id",
            "name",
            "audience",
            "template",
            "variables",
            "from_email",
            "from_name",
            "reply_to",
            "link_parameters",
            "headers",
            "scheduled_at",
            "timezone",
            "timing",
            "local_time",
            "status",
            "status_reason",
            "started_at",
            "finished_at",
            "created_by",
            "created_at",
            "updated_at",
        ]
        read_only_fields = ["status", "status_reason", "started_at", "finished_at", "created_by"]
        extra_kwargs = {"name": {"validators": [single_line]}, "from_name": {"validators": [single_line]}}

    def validate_headers(self, headers: dict[str, Any]) -> dict[str, Any]:
        """Hold them to the names and values that a campaign may add."""
        try:
            check_extra_fields(headers)
        except HeaderRefused as refusal:
            raise serializers.ValidationError(str(refusal), "header_refused") from refusal
        return headers

    def validate_link_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Hold them to what can stand in a link."""
        try:
            check_link_parameters(parameters)
        except LinkParametersRefused as refusal:
            raise serializers.ValidationError(str(refusal), "link_parameters_refused") from refusal
        return parameters

    def validate_timing(self, value: str) -> str:
        """Leave `given` to the schedules and broadcasts, which know the moments."""
        if value == Timing.GIVEN and getattr(self.instance, "timing", None) != Timing.GIVEN:
            raise serializers.ValidationError(
                "Give at_once or recipient_local; schedules and broadcasts make campaigns of this timing.",
                "invalid_choice",
            )
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Make an instant of the start time; hold `local_time` to the timing that it goes with."""
        chosen = attrs.get("timing", getattr(self.instance, "timing", Timing.AT_ONCE))
        if chosen == Timing.RECIPIENT_LOCAL:
            if attrs.get("local_time", getattr(self.instance, "local_time", None)) is None:
                raise serializers.ValidationError(
                    {"local_time": ["Say at which time of day, such as 09:00."]}
                )
        elif attrs.get("local_time"):
            raise serializers.ValidationError(
                {"local_time": ["It goes with the timing recipient_local only."]}
            )
        elif "timing" in attrs:
            attrs["local_time"] = None
        if attrs.get("scheduled_at"):
            zone = attrs.get("timezone") or getattr(self.instance, "timezone", "") or default_timezone()
            attrs["scheduled_at"] = instant(attrs["scheduled_at"], zone)
        return attrs

    def create(self, validated_data: dict[str, Any]) -> Campaign:
        """Store a draft."""
        return actions.create(validated_data, now=timezone.now())

    def update(self, instance: Campaign, validated_data: dict[str, Any]) -> Campaign:
        """Change a campaign that has not begun."""
        return actions.edit(instance.pk, validated_data, now=timezone.now())


class ScheduleSerializer(KnownOnly):
    """When to start. Without a time, the one that the campaign has already."""

    scheduled_at = StartTimeField(
        required=False, help_text="With an offset, or a local time meant in `timezone`."
    )
    timezone = serializers.CharField(
        required=False, max_length=64, validators=[validate_timezone], help_text="Default: the campaign's."
    )


class TestSerializer(KnownOnly):
    """To whom to send test mails."""

    emails = serializers.ListField(child=AddressField(), min_length=1, max_length=trial.MAX_ADDRESSES)


class StatusSerializer(serializers.Serializer[progress.Progress]):
    """total = pending + deferred + sent + failed + suppressed + unconfirmed + cancelled, at every instant."""

    id = serializers.IntegerField()
    status = serializers.ChoiceField(choices=CampaignStatus.choices)
    total = serializers.IntegerField()
    pending = serializers.IntegerField()
    deferred = serializers.IntegerField()
    sent = serializers.IntegerField()
    failed = serializers.IntegerField()
    suppressed = serializers.IntegerField()
    unconfirmed = serializers.IntegerField()
    cancelled = serializers.IntegerField()
    delivered = serializers.IntegerField()
    bounced = serializers.IntegerField()
    complained = serializers.IntegerField()
    rate_per_second = serializers.FloatField()
    eta_seconds = serializers.IntegerField(allow_null=True)
    started_at = UtcField(allow_null=True)
    finished_at = UtcField(allow_null=True)
    trouble = serializers.CharField(help_text="Why it does not move, and since when; empty when it does.")


class ZoneSerializer(serializers.Serializer[timing.ZoneProgress]):
    """total = pending + sent + other, in one time zone."""

    timezone = serializers.CharField()
    starts_at = UtcField(allow_null=True, help_text="When its mails may leave there.")
    total = serializers.IntegerField()
    pending = serializers.IntegerField(help_text="With those that will be tried again.")
    sent = serializers.IntegerField()
    other = serializers.IntegerField(help_text="Failed, suppressed, unconfirmed or cancelled.")


NO_BODY = extend_schema(request=None, responses=CampaignSerializer)


@extend_schema(tags=["campaigns"])
class CampaignView(CreatesOnce, OperatorView[Campaign], ModelViewSet[Campaign]):
    """Campaigns. They can be changed and deleted until they begin (409 afterwards)."""

    queryset = Campaign.objects.all()
    serializer_class = CampaignSerializer
    filter_backends = [DjangoFilterBackend, SearchFilter, OrderingFilter]
    filterset_fields = ["status", "audience", "template", "timing"]
    search_fields = ["name"]
    ordering_fields = ["id", "name", "scheduled_at", "started_at", "created_at"]
    ordering = ["-id"]
    verbs = {"status": "view", "running": "view", "zones": "view"}

    def perform_create(self, serializer: BaseSerializer[Campaign]) -> None:
        """Store a draft."""
        serializer.save(created_by=cast(User, self.request.user))

    def perform_destroy(self, instance: Campaign) -> None:
        """Delete a campaign that has not begun."""
        actions.delete(instance.pk)

    @extend_schema(summary="Start by itself later", request=ScheduleSerializer, responses=CampaignSerializer)
    @action(detail=True, methods=["post"])
    def schedule(self, request: Request, pk: str) -> Response:
        """Let the campaign start by itself; 400 names everything that would keep it from being sent."""
        campaign = self.get_object()
        asked = ScheduleSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        time, zone = asked.validated_data.get("scheduled_at"), asked.validated_data.get("timezone")
        actions.schedule(
            campaign.pk,
            scheduled_at=instant(time, zone or campaign.timezone) if time else None,
            timezone=zone,
            now=timezone.now(),
        )
        return self._campaign()

    @NO_BODY
    @extend_schema(summary="Take the start time back")
    @action(detail=True, methods=["post"])
    def unschedule(self, request: Request, pk: str) -> Response:
        """Make a scheduled campaign a draft again."""
        actions.unschedule(self.get_object().pk, now=timezone.now())
        return self._campaign()

    @NO_BODY
    @extend_schema(summary="Begin sending")
    @action(detail=True, methods=["post"])
    def start(self, request: Request, pk: str) -> Response:
        """Begin at once; 400 names everything that keeps it from being sent."""
        actions.start(self.get_object().pk, now=timezone.now())
        return self._campaign()

    @NO_BODY
    @extend_schema(summary="Let nothing more leave")
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        """Pause a campaign in progress."""
        actions.pause(self.get_object().pk, now=timezone.now())
        return self._campaign()

    @NO_BODY
    @extend_schema(summary="Go on where it was paused")
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        """Resume a paused campaign."""
        actions.resume(self.get_object().pk, now=timezone.now())
        return self._campaign()

    @NO_BODY
    @extend_schema(summary="Stop for good")
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Cancel; what was sent stays sent."""
        actions.cancel(self.get_object().pk, now=timezone.now())
        return self._campaign()

    @extend_schema(
        summary="Send test mails",
        request=TestSerializer,
        responses={202: OpenApiResponse(TestSerializer, description="Queued.")},
    )
    @action(detail=True, methods=["post"])
    @once
    def test(self, request: Request, pk: str) -> Response:
        """Send what the first recipient would get to up to ten addresses; it counts for nothing."""
        campaign = self.get_object()
        asked = TestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        actions.send_test(campaign.pk, asked.validated_data["emails"])
        return Response(asked.validated_data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(summary="How far it is", responses=StatusSerializer)
    @action(detail=True, methods=["get"])
    def status(self, request: Request, pk: str) -> HttpResponseBase:
        """Poll this: its numbers are of one instant; with If-None-Match 304 while nothing changes.

        They add up, or `trouble` says that they do not; a campaign is never called completed unless they do
        (500, `ledger_broken`).
        """
        found = watchdog.of_many([self.get_object().pk])
        if not found:
            raise NotFound
        (current,) = found.values()
        if current.status == CampaignStatus.COMPLETED and not current.adds_up:
            raise LedgerBroken(current.trouble)
        return fresh(request, StatusSerializer(current).data)

    @extend_schema(
        summary="How far it is in each time zone", responses=ZoneSerializer(many=True), filters=False
    )
    @action(detail=True, methods=["get"], pagination_class=None)
    def zones(self, request: Request, pk: str) -> HttpResponseBase:
        """Return the zones of a `recipient_local` campaign that has started, the earliest first."""
        found = timing.by_zone(self.get_object())
        return fresh(request, [ZoneSerializer(each).data for each in found])

    @extend_schema(summary="How far the campaigns in progress are", responses=StatusSerializer(many=True))
    @action(detail=False, methods=["get"], url_path="running/status", filter_backends=[])
    def running(self, request: Request) -> HttpResponseBase:
        """Return a page of status documents, all of one instant."""
        in_progress = Campaign.objects.filter(status=CampaignStatus.IN_PROGRESS).order_by("id")
        ids = self.paginate_queryset(in_progress.values_list("id", flat=True)) or []
        found = watchdog.of_many(ids)
        documents = [StatusSerializer(found[key]).data for key in sorted(found)]
        return fresh(request, self.get_paginated_response(documents).data)

    def _campaign(self) -> Response:
        return Response(self.get_serializer(self.get_object()).data)
