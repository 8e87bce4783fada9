"""The account that is signed in."""

from typing import cast

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
        fields = ["id", "email", "name", "timezone", "is_staff"]
        read_only_fields = ["email", "is_staff"]


@extend_schema(summary="Your own account")
class MeView(RetrieveUpdateAPIView[User]):
    """Who is signed in; `name` and `timezone` may be changed."""

    serializer_class = MeSerializer
    permission_classes = [IsAuthenticated]
    http_method_names = ["get", "patch", "head", "options"]

    def get_object(self) -> User:
        """Return the account that asks."""
        return cast(User, self.request.user)
