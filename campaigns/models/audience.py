"""Whom campaigns are sent to."""

from django.conf import settings
from django.db import models
from django.db.models.functions import Lower, Now
from django.db.models.lookups import Exact

from campaigns.models.fields import AddressField
from users.models import validate_timezone


class JsonType(models.Func):
    """PostgreSQL's name for what a JSON value is: object, array, string ..."""

    function = "jsonb_typeof"
    output_field = models.CharField()


def is_object(field: str, *, name: str) -> models.CheckConstraint:
    """Hold a JSON field to objects: templates look things up by name in it."""
    return models.CheckConstraint(
        condition=Exact(JsonType(models.F(field)), models.Value("object")),
        name=name,
        violation_error_message=f'{field}: give an object, such as {{"city": "Pune"}}.',
    )


class Audience(models.Model):
    """A named list of recipients."""

    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                Lower("name"),
                name="audience_name_unique_whatever_its_case",
                violation_error_message="An audience with this name exists already.",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Recipient(models.Model):
    """One address in one audience, with what templates may say about its owner."""

    audience = models.ForeignKey(
        Audience, on_delete=models.CASCADE, related_name="recipients", db_index=False
    )
    email = AddressField("e-mail address", max_length=254)
    name = models.CharField(max_length=200, blank=True)
    timezone = models.CharField(
        "time zone",
        max_length=64,
        blank=True,
        validators=[validate_timezone],
        help_text="Like Asia/Kolkata; may be empty.",
    )
    attributes = models.JSONField(
        default=dict, blank=True, help_text='Further fields for templates, such as {"city": "Pune"}.'
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        editable=False,
        db_index=False,
        related_name="recipients",
        help_text="Whose account this recipient stands for; gone with it.",
    )
    created_at = models.DateTimeField(auto_now_add=True, db_default=Now())
    updated_at = models.DateTimeField(auto_now=True, db_default=Now())

    class Meta:
        constraints = [
            is_object("attributes", name="recipient_attributes_are_an_object"),
            # also serves the search for one address in an audience, and the import's ON CONFLICT
            models.UniqueConstraint(
                "audience",
                Lower("email"),
                name="recipient_email_unique_in_audience",
                violation_error_message="This audience has a recipient with this e-mail address already.",
            ),
            models.CheckConstraint(
                condition=models.Q(email__contains="@"), name="recipient_email_has_an_at_sign"
            ),
        ]
        indexes = [
            # what goes with a user's account; most recipients have none
            models.Index(models.F("user"), name="recipient_user", condition=models.Q(user__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.email
