"""Audiences and their recipients."""

from django.http import StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.utils.http import content_disposition_header
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.viewsets import ModelViewSet

from campaigns import audiences
from campaigns.api.base import OperatorView, RowSerializer
from campaigns.api.fields import single_line
from campaigns.api.renderers import CsvRenderer, XlsxRenderer
from campaigns.exporting.exports import export
from campaigns.exporting.files import FORMATS
from campaigns.models import Audience, Recipient
from users.api.idempotency import CreatesOnce


class AudienceSerializer(RowSerializer[Audience]):
    """A named list of recipients."""

    constraints = {"audience_name_unique_whatever_its_case": "name"}

    class Meta:
        model = Audience
        fields = ["id", "name", "description", "created_at"]


@extend_schema(tags=["audiences"])
class AudienceView(CreatesOnce, OperatorView[Audience], ModelViewSet[Audience]):
    """Named lists of recipients. One that a campaign refers to cannot be deleted (409)."""

    queryset = Audience.objects.all()
    serializer_class = AudienceSerializer
    filter_backends = [SearchFilter, OrderingFilter]
    search_fields = ["name", "description"]
    ordering_fields = ["id", "name", "created_at"]
    ordering = ["name", "id"]

    def perform_destroy(self, instance: Audience) -> None:
        """Delete it, whatever its size."""
        audiences.delete(instance)


class RecipientSerializer(RowSerializer[Recipient]):
    """One address in one audience."""

    constraints = {"recipient_email_unique_in_audience": "email"}

    class Meta:
        model = Recipient
        fields = ["id", "audience", "email", "name", "timezone", "attributes", "created_at", "updated_at"]
        extra_kwargs = {"name": {"validators": [single_line]}}


@extend_schema(tags=["audiences"])
class RecipientView(CreatesOnce, OperatorView[Recipient], ModelViewSet[Recipient]):
    """The people in the audiences. To add many, import a file."""

    queryset = Recipient.objects.all()
    serializer_class = RecipientSerializer
    filter_backends = [DjangoFilterBackend, SearchFilter, OrderingFilter]
    filterset_fields = ["audience"]
    search_fields = ["email", "name"]
    ordering_fields = ["id", "email", "created_at"]
    ordering = ["id"]
    verbs = {"export": "view"}

    @extend_schema(
        summary="All recipients of an audience as a file, which imports again as it is",
        responses={(200, kind): OpenApiTypes.BINARY for kind, _ in FORMATS.values()},
    )
    def export(self, request: Request, pk: int, extension: str) -> StreamingHttpResponse:
        """Stream the file; rows are read as they are sent."""
        found = export(get_object_or_404(Audience, pk=pk), extension)
        return StreamingHttpResponse(
            found.pieces,
            content_type=found.media_type,
            headers={"Content-Disposition": content_disposition_header(True, found.name) or ""},
        )

    def get_renderers(self) -> list[BaseRenderer]:
        """Offer the formats of a file where there is one."""
        return (
            [CsvRenderer(), XlsxRenderer(), JSONRenderer()]
            if self.action == "export"
            else super().get_renderers()
        )
