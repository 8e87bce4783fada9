"""Files that go with the mails of templates."""

from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.filters import OrderingFilter
from rest_framework.parsers import MultiPartParser

from campaigns import attachments
from campaigns.api.base import OperatorView, RowSerializer
from campaigns.attachments import AttachmentRefused
from campaigns.models import Attachment, EmailTemplate
from users.api.idempotency import CreatesOnce


class AttachmentSerializer(RowSerializer[Attachment]):
    """A file, under its own name; it cannot be changed, only taken away."""

    template = serializers.PrimaryKeyRelatedField(queryset=EmailTemplate.objects.all())
    file = serializers.FileField(write_only=True, allow_empty_file=True)

    class Meta:
        model = Attachment
        fields = ["id", "template", "file", "name", "size", "created_at"]
        read_only_fields = ["name", "size"]

    def create(self, validated_data: dict[str, Any]) -> Attachment:
        """Attach it."""
        file: UploadedFile[bytes] = validated_data["file"]
        try:
            return attachments.add(validated_data["template"], file.name or "", file.read())
        except AttachmentRefused as refusal:
            raise serializers.ValidationError({"file": [str(refusal)]}, "attachment_refused") from refusal


@extend_schema(tags=["templates"])
class AttachmentView(
    CreatesOnce,
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.DestroyModelMixin,
    OperatorView[Attachment],
):
    """Files of templates. Campaigns that have started keep theirs when one is deleted."""

    queryset = Attachment.objects.filter(template__isnull=False).defer("content")
    serializer_class = AttachmentSerializer
    parser_classes = [MultiPartParser]
    filter_backends = [DjangoFilterBackend, OrderingFilter]
    filterset_fields = ["template"]
    ordering_fields = ["id", "name", "size"]
    ordering = ["id"]

    def perform_destroy(self, instance: Attachment) -> None:
        """Take the file from its template."""
        attachments.remove(instance)
