"""Passwords that are forgotten, or changed."""

from typing import Any, cast

from django.contrib.auth import update_session_auth_hash
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from users import accounts
from users.api.bodies import KnownOnly
from users.api.errors import TranslatesRefusals
from users.api.registering import PASSWORD
from users.models import User


class ResetSerializer(KnownOnly):
    """Whose password is forgotten."""

    email = serializers.EmailField(max_length=254)


class ConfirmSerializer(KnownOnly):
    """What the link in the mail ends with, and the new password."""

    uid = serializers.CharField(max_length=50)
    token = serializers.CharField(max_length=100)
    password = serializers.CharField(**PASSWORD)


class ChangeSerializer(KnownOnly):
    """The old password and the new one."""

    current_password = serializers.CharField(**PASSWORD)
    password = serializers.CharField(**PASSWORD)


class ResetView(TranslatesRefusals):
    """Mails a link with which to set a new password."""

    authentication_classes = []
    permission_classes = [AllowAny]
    throttle_scope = "reset"

    @extend_schema(
        summary="Ask for a link to set a new password",
        request=ResetSerializer,
        responses={202: OpenApiResponse(ResetSerializer, description="The same for every address.")},
    )
    def post(self, request: Request) -> Response:
        """Queue the mail, if there is an account; the answer does not tell whether there is."""
        asked = ResetSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        accounts.send_reset_link(asked.validated_data["email"])
        return Response(asked.validated_data, status=status.HTTP_202_ACCEPTED)


class ConfirmView(TranslatesRefusals):
    """Sets a new password with what a link holds."""

    authentication_classes = []
    permission_classes = [AllowAny]
    throttle_scope = "reset"

    @extend_schema(summary="Set a new password", request=ConfirmSerializer, responses={204: None})
    def post(self, request: Request) -> Response:
        """Set it; every session and token of the account ends."""
        asked = ConfirmSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        accounts.reset_password(**asked.validated_data)
        return Response(status=status.HTTP_204_NO_CONTENT)


class ChangeView(TranslatesRefusals):
    """Changes one's own password."""

    permission_classes = [IsAuthenticated]
    throttle_scope = "token"

    @extend_schema(summary="Change your password", request=ChangeSerializer, responses={204: None})
    def post(self, request: Request) -> Response:
        """Change it; every other session, and every token, ends."""
        asked = ChangeSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given: dict[str, Any] = asked.validated_data
        user = cast(User, request.user)
        if not user.check_password(given["current_password"]):
            raise serializers.ValidationError({"current_password": ["This is not your password."]}, "wrong")
        accounts.change(user, password=given["password"])
        update_session_auth_hash(request._request, user)
        return Response(status=status.HTTP_204_NO_CONTENT)
