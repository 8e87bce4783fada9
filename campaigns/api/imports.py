"""Files on their way into an audience."""

from functools import partial
from typing import Any, cast

from django.conf import settings
from django.db import transaction
from django.http import FileResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import APIException, NotFound
from rest_framework.filters import OrderingFilter
from rest_framework.parsers import MultiPartParser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from campaigns import tasks
from campaigns.api.base import OperatorView, RowSerializer, fresh
from campaigns.api.fields import ObjectField
from campaigns.api.renderers import CsvRenderer
from campaigns.importing import jobs
from campaigns.importing.preview import ACCEPTED, Found, Preview, Shown, preview
from campaigns.importing.reading import EXTENSIONS
from campaigns.importing.refusals import DUPLICATE, REFUSED, WARNING, Reading
from campaigns.importing.warnings import ABOUT
from campaigns.models import Audience, ImportJob, OnExisting
from users.api.bodies import KnownOnly
from users.api.idempotency import once
from users.models import User

FORM_BYTES = 1024 * 1024  # what the other fields of the form and its boundaries may add to the file


class FileTooLarge(APIException):
    """The upload is larger than IMPORT_MAX_BYTES."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"


class ImportSerializer(RowSerializer[ImportJob]):
    """read = created + updated + unchanged + duplicate + refused, once completed."""

    phase = serializers.ChoiceField(choices=["", "reading", "writing"], read_only=True)
    errors_csv = serializers.SerializerMethodField()

    class Meta:
        model = ImportJob
        fields = [
            "id",
            "audience",
            "original_name",
            "mapping",
            "sheet",
            "encoding",
            "warn_about",
            "on_existing",
            "dry_run",
            "reading",
            "status",
            "phase",
            "problem",
            "total",
            "read",
            "accepted",
            "created",
            "updated",
            "unchanged",
            "duplicate",
            "refused",
            "warnings",
            "suppressed",
            "rate_per_second",
            "eta_seconds",
            "attempts",
            "cancel_asked_at",
            "errors_csv",
            "created_by",
            "created_at",
            "started_at",
            "finished_at",
        ]
        read_only_fields = fields

    @extend_schema_field(OpenApiTypes.URI)
    def get_errors_csv(self, job: ImportJob) -> str | None:
        """Return where the report of refused and duplicate rows is; none were, or not yet: null."""
        if not job.errors_file:
            return None
        request: Request = self.context["request"]
        list_path = request.path.partition("/imports/")[0]
        return request.build_absolute_uri(f"{list_path}/imports/{job.pk}/errors.csv")


class FileSerializer(KnownOnly):
    """The form: a file, and how to read it."""

    file = serializers.FileField(allow_empty_file=True, help_text=f"One of {', '.join(EXTENSIONS)}.")
    mapping = ObjectField(
        default=dict,
        help_text='JSON: the column for each field, such as {"email": "Contact e-mail"}; guessed when empty.',
    )
    sheet = serializers.CharField(
        default="",
        allow_blank=True,
        max_length=255,
        help_text="Of a workbook; when empty the first with a column of addresses.",
    )
    encoding = serializers.CharField(
        default="",
        allow_blank=True,
        max_length=40,
        help_text="Of a text file, such as windows-1251; found out when empty.",
    )
    warn_about = serializers.ListField(
        child=serializers.ChoiceField(choices=ABOUT),
        default=list,
        help_text="What to flag besides misspelt domains; the field may come twice.",
    )

    def validate_mapping(self, mapping: dict[str, Any]) -> dict[str, str]:
        """Refuse what names no column."""
        for field, column in mapping.items():
            if not isinstance(column, str):
                raise serializers.ValidationError(f"{field}: a column is named by a text.", "invalid")
        return mapping

    def options(self) -> dict[str, Any]:
        """What says how to read the file."""
        return {name: self.validated_data[name] for name in ("mapping", "sheet", "encoding", "warn_about")}


class UploadSerializer(FileSerializer):
    """The form: a file, how to read it, and where it goes."""

    audience = serializers.PrimaryKeyRelatedField(queryset=Audience.objects.all())
    on_existing = serializers.ChoiceField(choices=OnExisting.choices, default=OnExisting.UPDATE)
    dry_run = serializers.BooleanField(default=False)


class ReadingSerializer(serializers.Serializer[Reading]):
    """How a file was read; what does not apply is empty. `unread` are sheets that have addresses too."""

    format = serializers.CharField()
    encoding = serializers.CharField()
    delimiter = serializers.CharField()
    member = serializers.CharField(help_text="The file in the archive.")
    sheet = serializers.CharField()
    sheets = serializers.ListField(child=serializers.CharField())
    unread = serializers.ListField(child=serializers.CharField())
    engine = serializers.CharField(help_text="What read a workbook, if not the usual reader.")


class FoundSerializer(serializers.Serializer[Found]):
    """Where a field is ("" for in no column), and why there."""

    field = serializers.CharField()
    column = serializers.CharField()
    reason = serializers.CharField()


class ShownSerializer(serializers.Serializer[Shown]):
    """One line, and what would become of it."""

    line = serializers.IntegerField()
    cells = serializers.ListField(child=serializers.CharField())
    verdict = serializers.ChoiceField(choices=(ACCEPTED, REFUSED, DUPLICATE, WARNING))
    column = serializers.CharField()
    reason = serializers.CharField()


class PreviewSerializer(serializers.Serializer[Preview]):
    """What an import would make of a file, from its first lines."""

    reading = ReadingSerializer()
    columns = serializers.ListField(child=serializers.CharField())
    mapping = FoundSerializer(many=True, source="fields")
    attributes = serializers.DictField(child=serializers.CharField(), help_text="Column: name in templates.")
    rows = ShownSerializer(many=True)


@extend_schema(tags=["imports"])
class ImportView(mixins.ListModelMixin, OperatorView[ImportJob]):
    """Imports: POST a file, then follow its counters."""

    queryset = ImportJob.objects.all()
    serializer_class = ImportSerializer
    parser_classes = [MultiPartParser]
    filter_backends = [DjangoFilterBackend, OrderingFilter]
    filterset_fields = ["audience", "status"]
    ordering_fields = ["id", "created_at"]
    ordering = ["-id"]
    verbs = {"errors_csv": "view", "preview": "add"}

    @extend_schema(
        summary="Import a file",
        request={"multipart/form-data": UploadSerializer},
        responses={202: ImportSerializer},
    )
    @once
    def create(self, request: Request) -> Response:
        """Check and store the file; a worker imports it."""
        _refuse_too_large(request)
        upload = UploadSerializer(data=request.data)
        upload.is_valid(raise_exception=True)
        given = upload.validated_data
        job = jobs.create_job(
            given["audience"],
            given["file"],
            given["file"].name,
            **upload.options(),
            on_existing=given["on_existing"],
            dry_run=given["dry_run"],
            created_by=cast(User, request.user),
        )
        transaction.on_commit(partial(tasks.hint, tasks.import_recipients, job.pk))
        data = self.get_serializer(job).data
        return Response(data, status=status.HTTP_202_ACCEPTED, headers=self.get_success_headers(data))

    @extend_schema(
        summary="What an import would make of a file",
        request={"multipart/form-data": FileSerializer},
        responses={200: PreviewSerializer},
    )
    @action(detail=False, methods=["post"])
    def preview(self, request: Request) -> Response:
        """Read the first lines of a file, guess its mapping and judge them; nothing is stored."""
        _refuse_too_large(request)
        upload = FileSerializer(data=request.data)
        upload.is_valid(raise_exception=True)
        file = upload.validated_data["file"]
        seen = preview(file.name, file, size=file.size, **upload.options())
        if seen.problem:
            raise seen.problem
        return Response(PreviewSerializer(seen).data)

    @extend_schema(summary="How far it is", responses=ImportSerializer)
    def retrieve(self, request: Request, pk: str) -> HttpResponseBase:
        """Poll this: its counters move while the file is read, then while its rows are written.

        With If-None-Match 304 while nothing changes.
        """
        return fresh(request, self.get_serializer(self.get_object()).data)

    @extend_schema(summary="End it where it is", request=None, responses={202: ImportSerializer})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Ask that the import end; what it has written stays, and `problem` then says how much that is.

        A worker that is at it ends within a second or so. An import that has ended: 409.
        """
        job = jobs.cancel(self.get_object().pk, now=timezone.now())
        return Response(self.get_serializer(job).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(
        summary="The rows that did not get in, with the reason for each",
        responses={(200, "text/csv"): OpenApiTypes.BINARY},
    )
    def errors_csv(self, request: Request, pk: int) -> FileResponse:
        """Send the report; it can be corrected and imported again."""
        job = self.get_object()
        if not job.errors_file:
            raise NotFound("This import has refused no row so far.")
        return FileResponse(
            job.errors_file.open("rb"),
            as_attachment=True,
            filename=f"import-{job.pk}-errors.csv",
            content_type="text/csv; charset=utf-8",
        )

    def get_renderers(self) -> list[BaseRenderer]:
        """Offer text/csv where that is what there is."""
        return [CsvRenderer(), JSONRenderer()] if self.action == "errors_csv" else super().get_renderers()


def _refuse_too_large(request: Request) -> None:
    """Refuse by the announced length, before anything is read."""
    most = settings.IMPORT_MAX_BYTES + FORM_BYTES
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdecimal() or int(length) > most:
        raise FileTooLarge(f"A file may have {settings.IMPORT_MAX_BYTES:,} bytes.")
