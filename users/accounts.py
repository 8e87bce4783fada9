"""What happens to accounts: registered, given a new password, deleted."""

import logging
from collections.abc import Collection
from datetime import datetime
from typing import Any
from urllib.parse import urljoin

import redis
from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.tokens import default_token_generator
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.db import IntegrityError, transaction
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.crypto import get_random_string
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_decode, urlsafe_base64_encode

from users.addresses import BadAddress, parse_plain_address, trim
from users.models import EndedToken, User

logger = logging.getLogger(__name__)

KEEPS = ("is_superuser", "is_active", "is_staff")  # what an account needs that gives rights to others
SECONDS_BETWEEN_RESETS = 60  # of one account, whoever asks


class AddressTaken(Exception):
    """There is an account with this address."""


class LastSuperuser(Exception):
    """Without this account nobody could give rights any more."""


class TokenEnded(Exception):
    """The refresh token was used or signed out before."""


class BadResetLink(Exception):
    """The link was not made here, is too old, or was used."""


def create(email: str, password: str = "", **fields: Any) -> User:
    """Store an account; without a password nobody can sign in before it was reset.

    Raises AddressTaken, BadAddress, and ValidationError for a password that is too weak.
    """
    user = User(email=parse_plain_address(trim(email)), **fields)
    if password:
        validate_password(password, user)
    user.set_password(password or get_random_string(40))
    return _stored(user)


def change(user: User, *, password: str = "", **fields: Any) -> User:
    """Change what is named of an account, nothing else. Raises AddressTaken, BadAddress, LastSuperuser.

    And ValidationError for a password that is too weak.
    """
    for name, value in fields.items():
        setattr(user, name, parse_plain_address(trim(value)) if name == "email" else value)
    if password:
        validate_password(password, user)
        user.set_password(password)
        fields["password"] = password
    with transaction.atomic():
        if any(fields.get(name) is False for name in KEEPS):
            keep_a_superuser_besides(user)
        return _stored(user, update_fields=list(fields))


def _stored(user: User, update_fields: Collection[str] | None = None) -> User:
    try:
        with transaction.atomic():
            user.save(update_fields=update_fields)
    except IntegrityError as error:
        raise AddressTaken from error
    return user


def delete(user: User) -> None:
    """Delete an account with what is its own; the rest forgets who it was. Raises LastSuperuser."""
    with transaction.atomic():
        keep_a_superuser_besides(user)
        user.delete()


def keep_a_superuser_besides(user: User) -> None:
    """Raise LastSuperuser if the account is the only one that can give rights; needs a transaction.

    All such accounts are locked until its end, so that of two that go at once one stays.
    """
    keepers = User.objects.select_for_update().filter(**dict.fromkeys(KEEPS, True)).order_by("pk")
    if [each.pk for each in keepers] == [user.pk]:
        raise LastSuperuser


def end_token(jti: str, *, expires_at: datetime) -> None:
    """End a refresh token for good. Raises TokenEnded if it was ended before, by whomever."""
    try:
        with transaction.atomic():
            EndedToken.objects.create(jti=jti, expires_at=expires_at)
    except IntegrityError as error:
        raise TokenEnded from error


def forget_old_tokens(*, now: datetime) -> int:
    """Delete what is kept of tokens that have run out by now; return how many there were."""
    return EndedToken.objects.filter(expires_at__lte=now).delete()[0]


def send_reset_link(email: str) -> None:
    """Mail a link with which to set a new password, if there is such an account; says nothing either way."""
    user = User.objects.with_address(email).filter(is_active=True).first()
    if user is None or not user.has_usable_password() or _had_one_a_moment_ago(user):
        return
    try:
        _reset_mail(user).send()
    except ValueError as refused:  # the answer must be the same as for an address without an account
        logger.warning("no reset link could be sent to user %s: %s", user.pk, refused)


def _had_one_a_moment_ago(user: User) -> bool:
    """Say whether a link was sent within the last minute; while Redis is away nobody knows."""
    try:
        return not cache.add(f"reset:{user.pk}", "sent", timeout=SECONDS_BETWEEN_RESETS)
    except redis.RedisError as error:
        logger.warning("Redis is away, reset links are not limited: %s", error)
        return False


def _reset_mail(user: User) -> EmailMultiAlternatives:
    uid = urlsafe_base64_encode(force_bytes(user.pk))
    token = default_token_generator.make_token(user)
    context = {
        "user": user,
        # not from the request: whoever asks could name another host in it
        "url": urljoin(settings.PUBLIC_URL, reverse("password_reset_confirm", args=[uid, token])),
        "uid": uid,
        "token": token,
        "hours": settings.PASSWORD_RESET_TIMEOUT // 3600,
        "site": settings.PUBLIC_URL,
    }
    text = render_to_string("accounts/password_reset.txt", context)
    mail = EmailMultiAlternatives("Set a new password", text, None, [user.email])
    mail.attach_alternative(render_to_string("accounts/password_reset.html", context), "text/html")
    return mail


def reset_password(uid: str, token: str, password: str) -> User:
    """Set the password of the account that a link was sent to. Raises BadResetLink, ValidationError.

    It ends every session and token of the account, and the link.
    """
    with transaction.atomic():
        user = _of_link(uid)
        if user is None or not default_token_generator.check_token(user, token):
            raise BadResetLink
        validate_password(password, user)
        user.set_password(password)
        user.save(update_fields=["password"])
    return user


def _of_link(uid: str) -> User | None:
    try:
        key = int(urlsafe_base64_decode(uid))
    except ValueError:
        return None
    if key >= 2**63:
        return None
    return User.objects.select_for_update().filter(pk=key, is_active=True).first()


__all__ = [
    "KEEPS",
    "AddressTaken",
    "BadAddress",
    "BadResetLink",
    "LastSuperuser",
    "TokenEnded",
    "ValidationError",
    "change",
    "create",
    "delete",
    "end_token",
    "forget_old_tokens",
    "keep_a_superuser_besides",
    "reset_password",
    "send_reset_link",
]
