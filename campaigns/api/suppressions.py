"""Addresses that must not be mailed."""

from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import extend_schema
from rest_framework import mixins
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.validators import UniqueValidator

from campaigns.api.base import OperatorView, RowSerializer
from campaigns.api.fields import LowerCaseAddressField
from campaigns.models import Suppression
from users.api.idempotency import CreatesOnce


class SuppressionSerializer(RowSerializer[Suppression]):
    """One address; stored in lower case."""

    email = LowerCaseAddressField(
        max_length=254,
        validators=[
            UniqueValidator(Suppression.objects.all(), message="This address is suppressed already.")
        ],
    )

    class Meta:
        model = Suppression
        fields = ["id", "email", "reason", "note", "campaign", "created_at"]
        read_only_fields = ["campaign"]


@extend_schema(tags=["suppressions"])
class SuppressionView(
    CreatesOnce,
    mixins.DestroyModelMixin,
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    OperatorView[Suppression],
):
    """Addresses that no campaign mails; senders look here at the last moment."""

    queryset = Suppression.objects.all()
    serializer_class = SuppressionSerializer
    filter_backends = [DjangoFilterBackend, SearchFilter, OrderingFilter]
    filterset_fields = ["reason", "campaign"]
    search_fields = ["email", "note"]
    ordering_fields = ["id", "email", "created_at"]
    ordering = ["-id"]
