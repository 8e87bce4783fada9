"""Sessions for people in a browser, and the end of a session or of a token."""

from typing import Any

from django.contrib.auth import authenticate, login, logout
from django.middleware.csrf import get_token
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from users.api.bodies import KnownOnly
from users.api.me import MeSerializer
from users.api.registering import PASSWORD
from users.api.tokens import end


class SignInSerializer(KnownOnly):
    """E-mail address and password."""

    email = serializers.CharField(max_length=254)
    password = serializers.CharField(**PASSWORD)


class SignOutSerializer(KnownOnly):
    """The refresh token that is to end; a session needs none."""

    refresh = serializers.CharField(required=False, max_length=5000)


class _AsksForToken(APIView):
    """Answers 401, and not 403, to who could not sign in."""

    def get_authenticate_header(self, request: Request) -> str:
        """Name the way to sign in."""
        return 'Bearer realm="api"'


class SessionView(_AsksForToken):
    """Signs in with a cookie. A form on another site cannot post JSON, so this takes no CSRF token."""

    authentication_classes = []
    permission_classes = [AllowAny]
    throttle_scope = "token"

    @extend_schema(summary="Sign in with a session", request=SignInSerializer, responses=MeSerializer)
    def post(self, request: Request) -> Response:
        """Begin a session; further requests that change something send its CSRF token."""
        asked = SignInSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given: dict[str, Any] = asked.validated_data
        user = authenticate(request._request, username=given["email"], password=given["password"])
        if user is None:
            raise AuthenticationFailed(
                "No active account found with the given credentials", "no_active_account"
            )
        login(request._request, user)
        get_token(request._request)  # sends the cookie from which scripts read it
        return Response(MeSerializer(user).data)


class SignOutView(_AsksForToken):
    """Ends a session, and a refresh token for good. Its access tokens last their half hour."""

    permission_classes = [AllowAny]

    @extend_schema(summary="Sign out", request=SignOutSerializer, responses={204: None})
    def post(self, request: Request) -> Response:
        """Sign out."""
        asked = SignOutSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        refresh = asked.validated_data.get("refresh")
        had_session = request.user.is_authenticated and request.auth is None
        if not refresh and not had_session:
            raise serializers.ValidationError({"refresh": ["This field is required."]}, "required")
        if refresh:
            end(refresh)
        if had_session:
            logout(request._request)
        return Response(status=status.HTTP_204_NO_CONTENT)
