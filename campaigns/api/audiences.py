"""Audiences and their recipients."""

from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import extend_schema
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.viewsets import ModelViewSet

from campaigns import audiences
from campaigns.api.base import OperatorView, RowSerializer
from campaigns.api.fields import single_line
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
