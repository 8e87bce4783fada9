"""The account that every other app refers to."""

from functools import cache
from typing import ClassVar
from unicodedata import category
from zoneinfo import available_timezones

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import PermissionsMixin
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Lower

from users.managers import UserManager

NO_ZONES = {"localtime", "Factory"}  # files beside them: what this machine is set to, and "not set yet"


@cache  # reading the zone files takes 10 ms; they change with a new tzdata only
def timezones() -> frozenset[str]:
    """Return the names of the IANA database's zones."""
    return frozenset(available_timezones() - NO_ZONES)


def validate_timezone(name: str) -> None:
    """Raise ValidationError unless `name` is a zone of the IANA database, such as Asia/Kolkata."""
    if name not in timezones():
        raise ValidationError(
            "%(name)s is not a time zone of the IANA database; write it like Asia/Kolkata or Europe/Paris.",
            code="unknown_timezone",
            params={"name": repr(name)},
        )


def validate_line(text: str) -> None:
    """Raise ValidationError for control characters: a name stands in headers (RFC 5322 §2.2)."""
    if any(category(character) in ("Cc", "Zl", "Zp") for character in text):
        raise ValidationError(
            "It contains a line break or another control character.", code="control_character"
        )


def default_timezone() -> str:
    """The TIME_ZONE of the settings, for new rows."""
    return str(settings.TIME_ZONE)


class User(AbstractBaseUser, PermissionsMixin):
    """A person or program that signs in with an e-mail address."""

    email = models.EmailField("e-mail address", max_length=254, unique=True)
    name = models.CharField(max_length=200, blank=True, validators=[validate_line])
    timezone = models.CharField(
        "time zone", max_length=64, default=default_timezone, validators=[validate_timezone]
    )
    notify_completed = models.BooleanField(
        "mail when done", default=True, help_text="Mails the user when a task of theirs is completed."
    )
    notify_failed = models.BooleanField(
        "mail when failed", default=True, help_text="Mails the user when a task of theirs has failed."
    )
    is_staff = models.BooleanField(
        "operator", default=False, help_text="May use the admin and the campaign API."
    )
    is_active = models.BooleanField(default=True, help_text="Switch off instead of deleting an account.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"

    class Meta:
        constraints = [
            models.UniqueConstraint(
                Lower("email"),
                name="user_email_unique_whatever_its_case",
                violation_error_message="A user with this e-mail address exists already.",
            ),
        ]

    def __str__(self) -> str:
        return self.email


class KeptAnswer(models.Model):
    """What a POST with an Idempotency-Key was answered, for whoever repeats it; see `users.idempotency`."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField()
    body = models.BinaryField()
    headers = models.JSONField(default=dict)
    kept_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint("user", "key", name="kept_answer_unique_for_user_and_key"),
        ]
        indexes = [
            # the tick, which deletes old ones
            models.Index(models.F("kept_at"), name="kept_answer_by_age"),
        ]

    def __str__(self) -> str:
        return self.key


class EndedToken(models.Model):
    """A refresh token that was used or signed out, until it would have run out anyhow."""

    jti = models.CharField(max_length=255, unique=True)
    expires_at = models.DateTimeField()

    class Meta:
        indexes = [
            # the tick, which deletes old ones
            models.Index(models.F("expires_at"), name="ended_token_by_expiry"),
        ]

    def __str__(self) -> str:
        return self.jti
