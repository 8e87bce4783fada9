"""Preferred times: making and changing them, what comes next, what came of it."""

from datetime import timedelta
from functools import partial
from typing import Any, cast

from django.db import transaction
from django.utils import timezone
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ModelViewSet

from campaigns.api.base import RowSerializer
from campaigns.api.fields import ObjectField, UtcField, single_line
from campaigns.models import EmailTemplate
from campaigns.tasks import hint
from schedules import broadcasting, outcomes, planning, sweeping, tasks, words
from schedules.api.base import OwnedView, RecurrenceField, sees_all, the_user
from schedules.models import Schedule, ScheduleRun
from users.api.bodies import KnownOnly
from users.api.idempotency import CreatesOnce, once
from users.models import User

FEW = 5  # moments shown with a schedule


class MomentSerializer(serializers.Serializer[words.Shown]):
    """One moment: in UTC, as the clocks there show it, and what they do to it."""

    at = UtcField()
    local = serializers.CharField()
    note = serializers.CharField()


class OwnScheduleSerializer(RowSerializer[Schedule]):
    """When a user wants mail, and which."""

    recurrence = RecurrenceField()
    sentence = serializers.SerializerMethodField()
    state = serializers.CharField(read_only=True, help_text="active, paused or finished")
    next_runs = serializers.SerializerMethodField()

    class Meta:
        model = Schedule
        fields = [
            "id",
            "user",
            "name",
            "template",
            "variables",
            "recurrence",
            "sentence",
            "grace_seconds",
            "state",
            "next_run_at",
            "next_runs",
            "last_run_for",
            "paused_at",
            "pause_note",
            "created_at",
            "updated_at",
        ]
        read_only_fields = ["user", "next_run_at", "last_run_for", "paused_at", "pause_note"]
        extra_kwargs = {"name": {"validators": [single_line]}}

    def get_sentence(self, schedule: Schedule) -> str:
        """Say it in one sentence."""
        return words.sentence_of(schedule.recurrence, now=timezone.now())

    @extend_schema_field(MomentSerializer(many=True))
    def get_next_runs(self, schedule: Schedule) -> list[dict[str, Any]]:
        """Return the next moments, unless it rests."""
        if schedule.next_run_at is None:
            return []
        before = schedule.next_run_at - timedelta(microseconds=1)
        found = words.upcoming_of(schedule.recurrence, now=before, at_most=FEW)
        return [MomentSerializer(each).data for each in found]

    def create(self, validated_data: dict[str, Any]) -> Schedule:
        """Store a schedule of the user who asks."""
        when = validated_data.pop("recurrence")
        user = the_user(self.context["request"])
        return planning.create(user, when, validated_data, now=timezone.now())

    def update(self, instance: Schedule, validated_data: dict[str, Any]) -> Schedule:
        """Change a schedule."""
        when = validated_data.pop("recurrence", None)
        return planning.edit(instance.pk, when, validated_data, now=timezone.now())


class RunSerializer(serializers.ModelSerializer[ScheduleRun]):
    """One moment and what became of it; `campaign` has the mail's ledger."""

    outcome = serializers.SerializerMethodField(
        help_text="pending, sent, failed, suppressed, unconfirmed, cancelled or missed"
    )
    campaign = serializers.IntegerField(source="delivery.campaign_id", default=None, read_only=True)
    reason = serializers.SerializerMethodField()
    scheduled_for = UtcField()
    created_at = UtcField()

    class Meta:
        model = ScheduleRun
        fields = [
            "id",
            "schedule",
            "scheduled_for",
            "outcome",
            "reason",
            "campaign",
            "delivery",
            "created_at",
        ]
        read_only_fields = fields

    def get_outcome(self, run: ScheduleRun) -> str:
        """Say what became of it in a word."""
        return outcomes.of_run(run)

    def get_reason(self, run: ScheduleRun) -> str:
        """Say why it failed or was missed."""
        return run.reason or (run.delivery.reason if run.delivery else "")


class PreviewSerializer(KnownOnly):
    """A recurrence to be looked at."""

    recurrence = RecurrenceField()
    moments = serializers.IntegerField(min_value=1, max_value=50, default=10)


class PreviewedSerializer(serializers.Serializer[Any]):
    """What a recurrence means."""

    sentence = serializers.CharField()
    moments = MomentSerializer(many=True)


class NoteSerializer(KnownOnly):
    """Why a schedule is paused."""

    note = serializers.CharField(max_length=500, default="", allow_blank=True, validators=[single_line])


class OutcomesSerializer(serializers.Serializer[outcomes.Outcomes]):
    """total = pending + sent + failed + suppressed + unconfirmed + cancelled + missed."""

    total = serializers.IntegerField()
    pending = serializers.IntegerField()
    sent = serializers.IntegerField()
    failed = serializers.IntegerField()
    suppressed = serializers.IntegerField()
    unconfirmed = serializers.IntegerField()
    cancelled = serializers.IntegerField()
    missed = serializers.IntegerField()


class SweptSerializer(serializers.Serializer[Any]):
    """What was due: its runs, and the campaigns that send them."""

    runs = serializers.ListField(child=serializers.IntegerField())
    campaigns = serializers.ListField(child=serializers.IntegerField())


class BroadcastSerializer(KnownOnly):
    """What is sent to everybody at their next preferred time."""

    template = serializers.PrimaryKeyRelatedField(queryset=EmailTemplate.objects.all())
    variables = ObjectField(default=dict)
    name = serializers.CharField(max_length=200, default="", allow_blank=True, validators=[single_line])
    within_days = serializers.IntegerField(
        min_value=1,
        max_value=31,
        default=broadcasting.DEFAULT_DAYS,
        help_text="Whoever prefers no moment within so many days gets it at their end.",
    )


class BroadcastedSerializer(serializers.Serializer[Any]):
    """The campaign that sends a broadcast; its status is at campaigns/{id}/status/."""

    id = serializers.IntegerField()
    campaign = serializers.IntegerField()


@extend_schema(tags=["schedules"])
class ScheduleView(OwnedView[Schedule], CreatesOnce, ModelViewSet[Schedule]):
    """Preferred times. Everybody has their own; operators see all, if they may."""

    queryset = Schedule.objects.select_related("user")
    serializer_class = OwnScheduleSerializer
    filter_backends = [DjangoFilterBackend, SearchFilter, OrderingFilter]
    filterset_fields = ["user", "template"]
    search_fields = ["name"]
    ordering_fields = ["id", "name", "next_run_at", "created_at"]
    ordering = ["-id"]
    reads = OwnedView.reads | {"runs"}

    def perform_create(self, serializer: serializers.BaseSerializer[Schedule]) -> None:
        """Store a schedule, and hand over what comes before the tick could."""
        _look_at(serializer.save())

    def perform_update(self, serializer: serializers.BaseSerializer[Schedule]) -> None:
        """Change a schedule, and hand over what comes before the tick could."""
        _look_at(serializer.save())

    @extend_schema(summary="Let it rest", request=NoteSerializer, responses=OwnScheduleSerializer)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        """Pause, with a note; what is due within 75 s still runs."""
        schedule = self.get_object()
        asked = NoteSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        paused = planning.pause(schedule.pk, note=asked.validated_data["note"], now=timezone.now())
        return Response(self.get_serializer(paused).data)

    @extend_schema(summary="Let it run again", request=None, responses=OwnScheduleSerializer)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        """Go on from the next moment; what passed meanwhile is not made up for."""
        resumed = planning.resume(self.get_object().pk, now=timezone.now())
        _look_at(resumed)
        return Response(self.get_serializer(resumed).data)

    @extend_schema(
        summary="What a recurrence means", request=PreviewSerializer, responses=PreviewedSerializer
    )
    @action(detail=False, methods=["post"])
    def preview(self, request: Request) -> Response:
        """Answer a sentence and the next moments, with notes where the clocks change; nothing is stored."""
        asked = PreviewSerializer(data=request.data, context=self.get_serializer_context())
        asked.is_valid(raise_exception=True)
        when, now = asked.validated_data["recurrence"], timezone.now()
        shown = words.upcoming(when, now=now, at_most=asked.validated_data["moments"])
        return Response(
            {
                "sentence": words.sentence(when, now=now),
                "moments": [MomentSerializer(each).data for each in shown],
            }
        )

    @extend_schema(summary="Run what is due now", request=None, responses={202: SweptSerializer})
    @once
    @action(detail=False, methods=["post"], url_path="send-due")
    def send_due(self, request: Request) -> Response:
        """Do for your own schedules what the tick does each minute; operators do it for all, if they may."""
        user = the_user(request)
        if user.is_staff and not user.has_perm("schedules.change_schedule"):
            raise PermissionDenied("It is done for all users; that needs the permission to change schedules.")
        swept = sweeping.sweep(
            now=timezone.now(), ahead=timedelta(0), user_id=None if user.is_staff else user.pk
        )
        tasks.tell(swept)
        document = {"runs": swept.run_ids, "campaigns": swept.campaign_ids}
        return Response(document, status=status.HTTP_202_ACCEPTED)

    @extend_schema(summary="What came of all runs", responses=OutcomesSerializer, filters=False)
    @action(detail=False, methods=["get"], pagination_class=None)
    def status(self, request: Request) -> Response:
        """Count the runs of your own schedules; operators who may see all: everybody's, or one's (?user=)."""
        user = the_user(request)
        whose = _whose(request) if sees_all(user, Schedule) else user.pk
        return Response(OutcomesSerializer(outcomes.of(whose)).data)

    @extend_schema(summary="Its moments and what became of them", responses=RunSerializer(many=True))
    @action(detail=True, methods=["get"], filter_backends=[])
    def runs(self, request: Request, pk: str) -> Response:
        """List the runs, the latest first."""
        rows = ScheduleRun.objects.filter(schedule=self.get_object()).select_related("delivery")
        page = cast("list[ScheduleRun]", self.paginate_queryset(rows) or [])  # type: ignore[arg-type]  # runs
        return self.get_paginated_response([RunSerializer(run).data for run in page])

    @extend_schema(
        summary="Send to everybody at their next preferred time",
        request=BroadcastSerializer,
        responses={202: BroadcastedSerializer},
    )
    @once
    @action(detail=False, methods=["post"])
    def broadcasts(self, request: Request) -> Response:
        """Start one campaign to all users, each mail held until its user's next moment (operators)."""
        user = the_user(request)
        if not _may_broadcast(user):
            raise PermissionDenied("This needs an operator's account that may add campaigns.")
        asked = BroadcastSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        broadcast = broadcasting.create(
            given["template"],
            given["variables"],
            name=given["name"],
            within=timedelta(days=given["within_days"]),
            by=user,
            now=timezone.now(),
        )
        transaction.on_commit(partial(hint, tasks.start_broadcast, broadcast.pk))
        document = {"id": broadcast.pk, "campaign": broadcast.campaign_id}
        return Response(document, status=status.HTTP_202_ACCEPTED)


def _look_at(schedule: Schedule) -> None:
    # robust: what fails here is what the tick does again
    transaction.on_commit(partial(tasks.look_at_schedules, schedule), robust=True)


def _whose(request: Request) -> int | None:
    """Return the user that an operator asks about, if one is named."""
    named = request.query_params.get("user", "")
    if not named:
        return None
    if not named.isascii() or not named.isdigit() or len(named) > 18:
        raise ValidationError({"user": ["Give the id of a user."]})
    return int(named)


def _may_broadcast(user: User) -> bool:
    return user.is_active and user.is_staff and user.has_perm("campaigns.add_campaign")
