"""JSON Web Tokens for programs; people may use their session."""

from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework_simplejwt.exceptions import InvalidToken, TokenError
from rest_framework_simplejwt.serializers import TokenObtainPairSerializer, TokenRefreshSerializer
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import RefreshToken
from rest_framework_simplejwt.utils import get_md5_hash_password
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

from users import accounts
from users.accounts import TokenEnded
from users.models import User


def end(refresh: str) -> None:
    """End a refresh token for good. Raises InvalidToken, also for one that was ended before."""
    try:
        token = RefreshToken(refresh)  # type: ignore[arg-type]  # the stubs want a Token, it takes its text
        accounts.end_token(token["jti"], expires_at=datetime.fromtimestamp(token["exp"], UTC))
    except (TokenError, TokenEnded) as error:
        raise InvalidToken(str(error) or "Token was used or signed out") from error


class RefreshSerializer(TokenRefreshSerializer):
    """Each refresh token is good for one use; a deleted user's is invalid like any other."""

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        """Return a new access token. Raises InvalidToken, AuthenticationFailed."""
        try:
            with transaction.atomic():
                end(attrs["refresh"])
                _refuse_older_than_password(RefreshToken(attrs["refresh"]))
                return super().validate(attrs)
        except User.DoesNotExist as error:
            raise InvalidToken from error


def _refuse_older_than_password(token: RefreshToken) -> None:
    """Raise InvalidToken for one that was given before the password changed; User.DoesNotExist."""
    user = User.objects.get(pk=token[api_settings.USER_ID_CLAIM])
    if token.get(api_settings.REVOKE_TOKEN_CLAIM) != get_md5_hash_password(user.password):
        raise InvalidToken("The password was changed; sign in again")


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
    """Gives a new access token and a new refresh token for a refresh token, which has been used then."""

    serializer_class = RefreshSerializer
