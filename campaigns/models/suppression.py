"""Addresses that must not be mailed."""

from django.db import models
from django.db.models.functions import Lower, Now

from campaigns.models.campaign import Campaign
from campaigns.models.fields import AddressField


class SuppressionReason(models.TextChoices):
    """Why an address is not mailed."""

    UNSUBSCRIBE = "unsubscribe", "unsubscribed"
    """Its owner asked for no more mail."""
    COMPLAINT = "complaint", "complained"
    """Its owner called a mail spam."""
    BOUNCE = "bounce", "bounced"
    """Mail to it comes back for good."""
    MANUAL = "manual", "by hand"
    """An operator entered it."""


class Suppression(models.Model):
    """One address that no campaign mails, whatever audience it is in."""

    email = AddressField("e-mail address", max_length=254, unique=True, help_text="Kept in lower case.")
    reason = models.CharField(max_length=20, choices=SuppressionReason, default=SuppressionReason.MANUAL)
    note = models.TextField(blank=True)
    campaign = models.ForeignKey(
        Campaign, on_delete=models.SET_NULL, null=True, editable=False, related_name="suppressions"
    )
    created_at = models.DateTimeField(auto_now_add=True, db_default=Now())

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(email=Lower("email")),
                name="suppression_email_is_lower_case",
                violation_error_message="Write the address in lower case.",
            ),
        ]

    def __str__(self) -> str:
        return self.email
