"""Accounts that people make for themselves."""

from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from users import accounts
from users.api.bodies import AddressField, KnownOnly
from users.api.errors import TranslatesRefusals
from users.api.idempotency import registers_once
from users.api.me import MeSerializer
from users.models import User, default_timezone

PASSWORD: dict[str, Any] = {
    "max_length": 1000,  # hashing takes longer the longer it is
    "write_only": True,
    "trim_whitespace": False,
    "style": {"input_type": "password"},
}


class RegisterSerializer(KnownOnly, serializers.ModelSerializer[User]):
    """A new account."""

    email = AddressField(max_length=254)
    password = serializers.CharField(**PASSWORD)

    class Meta:
        model = User
        fields = ["email", "password", "name", "timezone", "notify_completed", "notify_failed"]
        extra_kwargs = {"timezone": {"default": default_timezone}}


class RegisterView(TranslatesRefusals):
    """Makes an account that is no operator's: it has its own schedules and tasks, and sees nothing else."""

    authentication_classes = []
    permission_classes = [AllowAny]
    throttle_scope = "register"

    @extend_schema(summary="Register", request=RegisterSerializer, responses={201: MeSerializer})
    @registers_once
    def post(self, request: Request) -> Response:
        """Register; one can sign in at once.

        That an address has an account already is said (400): whoever may sign in at once learns it anyhow.
        """
        if not settings.REGISTRATION_OPEN:
            raise PermissionDenied("Nobody can register here; ask an operator for an account.")
        asked = RegisterSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        user = accounts.create(**asked.validated_data)
        return Response(MeSerializer(user).data, status=status.HTTP_201_CREATED)
