"""The ledger: one row per recipient and campaign, in batches that a worker leases."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower

from campaigns.models.audience import Recipient
from campaigns.models.campaign import Campaign
from campaigns.models.fields import AddressField


class DeliveryStatus(models.TextChoices):
    """What has become of one mail. The seven add up to the campaign's total at every instant."""

    PENDING = "pending"
    """Not tried yet, or given back untried."""
    DEFERRED = "deferred"
    """Refused for now; it will be tried again after `not_before`."""
    SENT = "sent"
    """The provider accepted it."""
    FAILED = "failed"
    """Refused for good, or refused for now once too often; `reason` says why."""
    SUPPRESSED = "suppressed"
    """The address must not be mailed, so it was not."""
    UNCONFIRMED = "unconfirmed"
    """It left, and no answer was recorded: it may or may not have arrived."""
    CANCELLED = "cancelled"
    """The campaign was cancelled, or the recipient deleted, before it left."""


class Batch(models.Model):
    """Up to CAMPAIGN_BATCH_SIZE rows of the ledger, worked on by one worker at a time.

    A worker holds a batch while `lease_until` lies ahead, and may write only with the `lease_token` it
    was given; each new lease has a higher token. The counters are those of the batch's rows.

    `leaving` are the deliveries that are about to leave, or have left without a written answer, through
    the provider `leaving_through`. Whoever ends the lease must call them unconfirmed.
    """

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="batches", db_index=False)
    # none is negative: one CHECK says so of all, as to check each took a twentieth of an UPDATE
    number = models.IntegerField()
    size = models.IntegerField()

    pending = models.IntegerField()
    deferred = models.IntegerField(default=0, db_default=0)
    sent = models.IntegerField(default=0, db_default=0)
    failed = models.IntegerField(default=0, db_default=0)
    suppressed = models.IntegerField(default=0, db_default=0)
    unconfirmed = models.IntegerField(default=0, db_default=0)
    cancelled = models.IntegerField(default=0, db_default=0)

    not_before = models.DateTimeField(null=True)
    published_at = models.DateTimeField(null=True)
    lease_owner = models.CharField(max_length=200, default="", db_default="")
    lease_token = models.BigIntegerField(default=0, db_default=0)
    lease_until = models.DateTimeField(null=True)
    leaving = ArrayField(models.BigIntegerField(), default=list, db_default=[])
    leaving_through = models.CharField(max_length=20, default="", db_default="")
    failures = models.IntegerField(default=0, db_default=0)
    trouble = models.TextField(default="", db_default="")
    recorded_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "batches"
        ordering = ["campaign", "number"]
        constraints = [
            # also serves every sum over a campaign's batches
            models.UniqueConstraint("campaign", "number", name="batch_number_unique_in_campaign"),
            models.CheckConstraint(
                name="batch_counters_add_up",
                condition=Q(
                    size=F("pending")
                    + F("deferred")
                    + F("sent")
                    + F("failed")
                    + F("suppressed")
                    + F("unconfirmed")
                    + F("cancelled")
                ),
            ),
            models.CheckConstraint(
                name="batch_numbers_are_not_negative",
                condition=Q(
                    number__gte=0,
                    size__gte=0,
                    pending__gte=0,
                    deferred__gte=0,
                    sent__gte=0,
                    failed__gte=0,
                    suppressed__gte=0,
                    unconfirmed__gte=0,
                    cancelled__gte=0,
                    failures__gte=0,
                ),
            ),
            models.CheckConstraint(
                name="batch_nothing_leaves_without_a_lease",
                condition=Q(leaving=[]) | Q(lease_until__isnull=False),
            ),
        ]
        indexes = [
            # the top-up and the tick: batches of a campaign with work left
            models.Index(
                F("campaign"),
                F("number"),
                name="batch_open",
                condition=Q(pending__gt=0) | Q(deferred__gt=0),
            ),
            # recovery: leases that may have run out
            models.Index(F("lease_until"), name="batch_leased", condition=Q(lease_until__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"batch {self.number} of campaign {self.campaign_id}"


class DeliveryLog(models.Model):
    """One mail to one recipient: the row exists before the mail, and keeps what became of it."""

    # No foreign key is checked: row by row that took most of a start. A campaign's batches and rows are
    # written by one statement, and deleted only with it. A trigger sets `recipient` to null where a DELETE
    # took it, and a start and a deletion wait for each other (`campaigns.audiences`).
    campaign = models.ForeignKey(
        Campaign, on_delete=models.CASCADE, related_name="deliveries", db_index=False, db_constraint=False
    )
    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, related_name="deliveries", db_constraint=False)
    recipient = models.ForeignKey(
        Recipient, on_delete=models.SET_NULL, null=True, related_name="deliveries", db_constraint=False
    )
    email = AddressField("e-mail address", max_length=254)
    message_id = models.TextField(help_text="The Message-ID header, the same on every attempt.")

    # In no index: an UPDATE of these columns stays on the row's page (HOT).
    status = models.CharField(
        max_length=20,
        choices=DeliveryStatus,
        default=DeliveryStatus.PENDING,
        db_default=DeliveryStatus.PENDING.value,
    )
    attempts = models.PositiveSmallIntegerField(default=0, db_default=0)
    not_before = models.DateTimeField(null=True)
    provider = models.CharField(max_length=20, default="", db_default="")
    provider_message_id = models.TextField(default="", db_default="")
    reason = models.TextField(default="", db_default="")
    attempted_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    doubts = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text="How often it left without a recorded answer."
    )

    class Meta:
        verbose_name = "delivery"
        verbose_name_plural = "delivery log"
        constraints = [
            # nobody is written to twice in one campaign, however their address is capitalised
            models.UniqueConstraint("campaign", Lower("email"), name="delivery_email_unique_in_campaign"),
            models.CheckConstraint(
                condition=Q(status__in=DeliveryStatus.values), name="delivery_status_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.email} in campaign {self.campaign_id}"

    @property
    def may_have_arrived_twice(self) -> bool:
        """Whether it left more than once in a way that may have reached its reader."""
        return self.doubts + (self.sent_at is not None) > 1
