"""JSON Web Tokens for programs; people may use their session."""

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework_simplejwt.exceptions import InvalidToken
from rest_framework_simplejwt.serializers import TokenObtainPairSerializer, TokenRefreshSerializer
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

from users.models import User


class RefreshSerializer(TokenRefreshSerializer):
    """A deleted user's token is invalid like any other."""

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        """Return a new access token. Raises InvalidToken, AuthenticationFailed."""
        try:
            return super().validate(attrs)
        except User.DoesNotExist as error:
            raise InvalidToken from error


class TokenPairSerializer(serializers.Serializer[Any]):
    """What a successful login answers."""

    access = serializers.CharField()
    refresh = serializers.CharField()


@extend_schema_view(
    post=extend_schema(
        summary="Sign in with e-mail address and password",
        request=TokenObtainPairSerializer,
        responses=TokenPairSerializer,
    )
)
class TokenView(TokenObtainPairView):
    """Gives an access token for `Authorization: Bearer ...`, and one to refresh it with."""

    throttle_scope = "token"


@extend_schema_view(post=extend_schema(summary="Get a new access token"))
class RefreshView(TokenRefreshView):
    """Gives a new access token for a refresh token."""

    serializer_class = RefreshSerializer
