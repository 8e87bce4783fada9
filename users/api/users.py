"""Accounts, for operators."""

from datetime import UTC
from typing import Any, cast

from django.db.models import QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView
from rest_framework.viewsets import ModelViewSet

from users import accounts
from users.api.bodies import AddressField, KnownOnly
from users.api.errors import TranslatesRefusals
from users.api.idempotency import CreatesOnce
from users.api.registering import PASSWORD
from users.models import User, default_timezone

RIGHTS = ("is_staff", "is_superuser")
_VERBS = {
    "list": "view",
    "retrieve": "view",
    "metadata": "view",
    "create": "add",
    "destroy": "delete",
}


class MayManageUsers(BasePermission):
    """Operators, each within Django's model permissions; superusers alone touch those who have rights."""

    message = "This needs an operator's account with the permission for it."

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Say whether the user may do this to any account."""
        verb = _VERBS.get(getattr(view, "action", None) or "metadata", "change")
        user = request.user
        return user.is_active and getattr(user, "is_staff", False) and user.has_perm(f"users.{verb}_user")

    def has_object_permission(self, request: Request, view: APIView, obj: User) -> bool:
        """Say whether the user may do this to that account."""
        asks = cast(User, request.user)
        if request.method in ("GET", "HEAD", "OPTIONS") or asks.is_superuser or asks.pk == obj.pk:
            return True
        return not (obj.is_staff or obj.is_superuser)


class UserSerializer(KnownOnly, serializers.ModelSerializer[User]):
    """An account. Without a password its owner sets one by a reset link."""

    email = AddressField(max_length=254)
    password = serializers.CharField(required=False, **PASSWORD)
    created_at = serializers.DateTimeField(read_only=True, default_timezone=UTC)
    last_login = serializers.DateTimeField(read_only=True, default_timezone=UTC, allow_null=True)

    class Meta:
        model = User
        fields = [
            "id",
            "email",
            "password",
            "name",
            "timezone",
            "notify_completed",
            "notify_failed",
            "is_active",
            "is_staff",
            "is_superuser",
            "created_at",
            "last_login",
        ]
        extra_kwargs = {"timezone": {"default": default_timezone}, "is_superuser": {"default": False}}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Leave rights to superusers."""
        asks = cast(User, self.context["request"].user)
        changed = [name for name in RIGHTS if attrs.get(name, False) != getattr(self.instance, name, False)]
        given = [name for name in changed if name in attrs]
        if given and not asks.is_superuser:
            raise PermissionDenied("Only superusers give and take rights.")
        return attrs

    def create(self, validated_data: dict[str, Any]) -> User:
        """Store an account."""
        return accounts.create(**validated_data)

    def update(self, instance: User, validated_data: dict[str, Any]) -> User:
        """Change an account."""
        return accounts.change(instance, **validated_data)


@extend_schema(tags=["users"])
class UserView(CreatesOnce, TranslatesRefusals, ModelViewSet[User]):
    """Accounts. One that is deleted takes its schedules and tasks along, and leaves every count as it is."""

    queryset: QuerySet[User] = User.objects.all()
    serializer_class = UserSerializer
    permission_classes = [MayManageUsers]
    lookup_value_regex = "[0-9]+"
    filter_backends = [DjangoFilterBackend, SearchFilter, OrderingFilter]
    filterset_fields = ["email", "is_active", "is_staff"]
    search_fields = ["email", "name"]
    ordering_fields = ["id", "email", "created_at"]
    ordering = ["id"]

    def get_success_headers(self, data: Any) -> dict[str, str]:
        """Say where the new account is found."""
        return {"Location": self.request.build_absolute_uri(f"{self.request.path}{data['id']}/")}

    def perform_destroy(self, instance: User) -> None:
        """Delete it."""
        accounts.delete(instance)
