"""Tasks: making and changing them, running them, what came of each run."""

from functools import partial
from pathlib import PurePath
from typing import Any, cast

from django.conf import settings
from django.db import transaction
from django.http import FileResponse
from django.utils import timezone
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field, extend_schema_view
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ModelViewSet

from campaigns.api.base import RowSerializer
from campaigns.api.fields import ObjectField, UtcField, single_line
from campaigns.api.imports import FORM_BYTES, FileTooLarge
from campaigns.values import BadValue, parse_json
from schedules import assigning, reading, tasks, words
from schedules.api.base import RECURRENCE_SCHEMA, OwnedView, the_user
from schedules.api.schedules import NoteSerializer
from schedules.kinds import CHOICES, KINDS
from schedules.models import Task, TaskRun, TaskRunState
from schedules.recurrence import Recurrence
from users.api.idempotency import CreatesOnce, once

NOW = "now"


@extend_schema_field(
    {
        "description": 'When: "now", a time of its own, or again and again.',
        "oneOf": [
            {"const": NOW},
            {
                "type": "object",
                "required": ["at"],
                "additionalProperties": False,
                "properties": {
                    "at": {"type": "string", "description": "With an offset, or local in `timezone`."},
                    "timezone": {"type": "string"},
                },
            },
            {
                "type": "object",
                "required": ["recurrence"],
                "additionalProperties": False,
                "properties": {"recurrence": RECURRENCE_SCHEMA},
            },
        ],
    }
)
class WhenField(serializers.Field[Any, Any, Any, Any]):
    """When a task runs; in a form, as JSON or the word now."""

    def to_internal_value(self, data: Any) -> Recurrence | None:
        """Return the recurrence, None for at once. Raises ValidationError naming what cannot be."""
        given = self._parsed(data) if isinstance(data, str) and data != NOW else data
        if given == getattr(getattr(self.parent, "instance", None), "asked", ()):
            raise serializers.SkipField  # what was answered is sent back: nothing is planned anew
        match given:
            case "now":
                return None
            case {"at": at, **others} if others.keys() <= {"timezone"}:
                return self._read({"kind": "once", "at": at, **others}, ())
            case {"recurrence": recurrence, **others} if not others:
                return self._read(recurrence, ("recurrence",))
        raise serializers.ValidationError(
            'Give "now", {"at": "2026-05-31T09:00:00"} or {"recurrence": {"kind": "daily", ...}}.', "invalid"
        )

    def to_representation(self, value: Any) -> Any:
        """Return it as it was asked for."""
        return value

    def _parsed(self, text: str) -> Any:
        try:
            return parse_json(text)
        except BadValue:
            return text

    def _read(self, given: Any, under: tuple[str, ...]) -> Recurrence:
        owner = getattr(getattr(self.parent, "instance", None), "user", None) or self.context["request"].user
        try:
            return reading.read(given, now=timezone.now(), default_timezone=owner.timezone)
        except reading.RecurrenceRefused as refused:
            problems = {
                ".".join(filter(None, [*under, field])) or "non_field_errors": texts
                for field, texts in refused.problems.items()
            }
            raise serializers.ValidationError(problems, "recurrence") from refused


class TaskSerializer(RowSerializer[Task]):
    """A job: what, and when."""

    kind = serializers.ChoiceField(
        choices=CHOICES, error_messages={"invalid_choice": f"Give one of {', '.join(KINDS)}."}
    )
    payload = ObjectField(required=False)
    when = WhenField(source="asked", required=False)
    sentence = serializers.SerializerMethodField()

    class Meta:
        model = Task
        fields = [
            "id",
            "user",
            "title",
            "description",
            "kind",
            "payload",
            "file_name",
            "when",
            "sentence",
            "retries",
            "grace_seconds",
            "status",
            "last_error",
            "failures",
            "next_run_at",
            "paused_at",
            "pause_note",
            "created_at",
            "updated_at",
        ]
        read_only_fields = [
            *("user", "file_name", "status", "last_error", "failures", "next_run_at", "paused_at"),
            "pause_note",
        ]
        extra_kwargs = {"title": {"validators": [single_line]}}

    def get_sentence(self, task: Task) -> str:
        """Say when in one sentence."""
        return words.sentence_of(task.recurrence, now=timezone.now()) if task.recurrence else "At once"

    def create(self, validated_data: dict[str, Any]) -> Task:
        """Store a task of the user who asks."""
        when, file = validated_data.pop("asked", None), validated_data.pop("file", None)
        user = the_user(self.context["request"])
        return assigning.create(user, validated_data, when=when, file=file, now=timezone.now())

    def update(self, instance: Task, validated_data: dict[str, Any]) -> Task:
        """Change a task; its file stays."""
        if "asked" in validated_data:
            validated_data["when"] = validated_data.pop("asked")
        return assigning.edit(instance.pk, validated_data, now=timezone.now())


class NewTaskSerializer(TaskSerializer):
    """The same with a file, as multipart/form-data."""

    file = serializers.FileField(write_only=True, required=False)

    class Meta(TaskSerializer.Meta):
        fields = [*TaskSerializer.Meta.fields, "file"]


class TaskRunSerializer(serializers.ModelSerializer[TaskRun]):
    """One run: when it was meant, when it was, and what came of it."""

    state = serializers.ChoiceField(choices=TaskRunState.choices)
    scheduled_for = UtcField()
    started_at = UtcField()
    finished_at = UtcField()
    late_seconds = serializers.FloatField(allow_null=True, help_text="How late it began.")
    result = serializers.JSONField(allow_null=True)
    file = serializers.SerializerMethodField(help_text="Where what it made can be fetched.")

    class Meta:
        model = TaskRun
        fields = [
            *("id", "task", "scheduled_for", "state", "attempts", "started_at", "finished_at"),
            *("late_seconds", "result", "file", "error"),
        ]
        read_only_fields = fields

    @extend_schema_field({"type": ["string", "null"], "format": "uri"})
    def get_file(self, run: TaskRun) -> str | None:
        """Return where its file is."""
        if not run.result_file:
            return None
        request: Request = self.context["request"]
        base = request.path.partition("/tasks/")[0]
        return request.build_absolute_uri(f"{base}/tasks/{run.task_id}/runs/{run.pk}/file/")


@extend_schema(tags=["tasks"])
@extend_schema_view(
    create=extend_schema(
        request={"application/json": TaskSerializer, "multipart/form-data": NewTaskSerializer},
        responses={201: TaskSerializer},
    )
)
class TaskView(OwnedView[Task], CreatesOnce, ModelViewSet[Task]):
    """Tasks. Everybody has their own; operators see all, if they may."""

    queryset = Task.objects.select_related("user")
    serializer_class = TaskSerializer
    parser_classes = [*APIView.parser_classes, MultiPartParser]
    filter_backends = [DjangoFilterBackend, SearchFilter, OrderingFilter]
    filterset_fields = ["user", "status", "kind"]
    search_fields = ["title", "description"]
    ordering_fields = ["id", "title", "next_run_at", "created_at"]
    ordering = ["-id"]
    reads = OwnedView.reads | {"runs", "run_of", "run_file"}

    def get_serializer_class(self) -> type[TaskSerializer]:
        """A file comes with a new task only."""
        return NewTaskSerializer if self.action == "create" else TaskSerializer

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse an upload that is too large by its announced length, before it is read."""
        super().initial(request, *args, **kwargs)
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not length.isdecimal() or int(length) > settings.IMPORT_MAX_BYTES + FORM_BYTES:
            raise FileTooLarge(f"A file may have {settings.IMPORT_MAX_BYTES:,} bytes.")

    def perform_create(self, serializer: serializers.BaseSerializer[Task]) -> None:
        """Store a task, and tell a worker if it runs at once or soon."""
        _look_at(serializer.save())

    def perform_update(self, serializer: serializers.BaseSerializer[Task]) -> None:
        """Change a task, and tell a worker if it runs at once or soon."""
        _look_at(serializer.save())

    @extend_schema(summary="Run it now", request=None, responses={202: TaskRunSerializer})
    @once
    @action(detail=True, methods=["post"])
    def run(self, request: Request, pk: str) -> Response:
        """Queue a run at once; its next moment stays. 409 while one is queued or running."""
        task = self.get_object()
        run = assigning.run(task.pk, now=timezone.now())
        _look_at(task)
        data = TaskRunSerializer(run, context=self.get_serializer_context()).data
        return Response(data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(summary="Let it rest", request=NoteSerializer, responses=TaskSerializer)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        """Pause, with a note; 409 when it has no moment ahead."""
        task = self.get_object()
        asked = NoteSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        return self._answer(assigning.pause(task.pk, note=asked.validated_data["note"], now=timezone.now()))

    @extend_schema(summary="Let it run again", request=None, responses=TaskSerializer)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        """Go on from the next moment; what passed meanwhile is not made up for."""
        resumed = assigning.resume(self.get_object().pk, now=timezone.now())
        _look_at(resumed)
        return self._answer(resumed)

    @extend_schema(summary="Stop it for good", request=None, responses=TaskSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Cancel, with what is queued or running; 409 when it has ended."""
        return self._answer(assigning.cancel(self.get_object().pk, now=timezone.now()))

    @extend_schema(summary="Its runs", responses=TaskRunSerializer(many=True))
    @action(detail=True, methods=["get"], filter_backends=[])
    def runs(self, request: Request, pk: str) -> Response:
        """List the runs, the latest first."""
        rows = TaskRun.objects.filter(task=self.get_object())
        page = cast("list[TaskRun]", self.paginate_queryset(rows) or [])  # type: ignore[arg-type]  # runs
        context = self.get_serializer_context()
        return self.get_paginated_response([TaskRunSerializer(run, context=context).data for run in page])

    @extend_schema(summary="One run", responses=TaskRunSerializer)
    def run_of(self, request: Request, pk: int, run_id: int) -> Response:
        """Show one run."""
        return Response(TaskRunSerializer(self._run(run_id), context=self.get_serializer_context()).data)

    @extend_schema(
        summary="What a run made", responses={(200, "application/octet-stream"): OpenApiTypes.BINARY}
    )
    def run_file(self, request: Request, pk: int, run_id: int) -> FileResponse:
        """Send the file of a run; 404 when it made none."""
        run = self._run(run_id)
        if not run.result_file:
            raise NotFound("This run has made no file.")
        suffix = PurePath(run.result_file.name or "").suffix
        return FileResponse(
            run.result_file.open("rb"),
            as_attachment=True,
            filename=f"task-{run.task_id}-run-{run.pk}{suffix}",
            content_type="text/csv; charset=utf-8" if suffix == ".csv" else "application/json",
        )

    def _run(self, run_id: int) -> TaskRun:
        run = TaskRun.objects.filter(task=self.get_object(), id=run_id).first()
        if run is None:
            raise NotFound
        return run

    def _answer(self, task: Task) -> Response:
        return Response(self.get_serializer(task).data)


def _look_at(task: Task) -> None:
    # robust: what fails here is what the tick does again
    transaction.on_commit(partial(tasks.look_at_task, task.pk), robust=True)
