"""What operators decided about unconfirmed mails."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from campaigns.models.delivery import DeliveryLog


class Decision(models.TextChoices):
    """What is to become of a mail of which nobody knows whether it arrived."""

    SENT = "sent", "it arrived: count it as sent"
    """The operator found it, in the provider's log or with its reader."""
    SEND_AGAIN = "send_again", "send it again"
    """It may arrive twice, under the same Message-ID; rather that than not at all."""
    GIVE_UP = "give_up", "give it up: count it as failed"
    """It may have arrived; it is not sent again."""


class Settlement(models.Model):
    """One decision about one unconfirmed delivery: what, by whom, when. Never changed afterwards.

    `decided_by_email` stays when the account is deleted or gets another address.
    """

    delivery = models.ForeignKey(DeliveryLog, on_delete=models.CASCADE, related_name="settlements")
    decision = models.CharField(max_length=20, choices=Decision)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="settlements"
    )
    decided_by_email = models.EmailField("decided by", max_length=254)
    decided_at = models.DateTimeField()
    note = models.TextField(blank=True, default="", db_default="")

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(decision__in=Decision.values), name="settlement_decision_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.decided_by_email}: {self.get_decision_display()}"
