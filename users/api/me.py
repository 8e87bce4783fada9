"""The account that is signed in."""

from typing import Any, cast

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.generics import RetrieveUpdateAPIView
from rest_framework.permissions import IsAuthenticated

from users.api.bodies import KnownOnly
from users.models import User


class MeSerializer(KnownOnly, serializers.ModelSerializer[User]):
    """One's own account."""

    class Meta:
        model = User
        fields = ["id", "email", "name", "timezone", "notify_completed", "notify_failed", "is_staff"]
        read_only_fields = ["email", "is_staff"]


@extend_schema(summary="Your own account")
class MeView(RetrieveUpdateAPIView[User]):
    """Who is signed in; name, time zone, and of what to be told by mail may be changed."""

    serializer_class = MeSerializer
    permission_classes = [IsAuthenticated]
    http_method_names = ["get", "patch", "head", "options"]

    def get_object(self) -> User:
        """Return the account that asks."""
        return cast(User, self.request.user)

    def perform_update(self, serializer: Any) -> None:
        """Write only what was sent: another request may be changing the rest."""
        user = self.get_object()
        for name, value in serializer.validated_data.items():
            setattr(user, name, value)
        user.save(update_fields=list(serializer.validated_data))
