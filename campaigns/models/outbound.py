"""Single mails: what one call of `send_email` wrote, to whom, and what became of it."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Lower, Now

from campaigns.models.delivery import DeliveryStatus
from campaigns.models.fields import AddressField

OPEN = (DeliveryStatus.PENDING.value, DeliveryStatus.DEFERRED.value)


class OutboundEmail(models.Model):
    """One mail as it is to be sent. A worker holds it under a lease, as it holds a batch.

    `status` is that of its recipients: pending or deferred while one of them is open, else the worst
    that became of any (unconfirmed, failed, suppressed, sent). `leaving` are the recipients to whom it is
    about to leave, or has left without a written answer, through `leaving_through`.
    """

    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, editable=False, related_name="+"
    )
    idempotency_key = models.CharField(max_length=255, blank=True, default="")
    fingerprint = models.CharField(max_length=64, editable=False, help_text="Of all that was asked for.")

    message_id = models.TextField(help_text="The Message-ID header, the same on every attempt.")
    from_email = models.TextField(blank=True, help_text="Empty: each provider's own, or DEFAULT_FROM_EMAIL.")
    reply_to = ArrayField(models.TextField(), default=list)
    subject = models.TextField()
    text = models.TextField()
    html = models.TextField(blank=True)
    headers = models.JSONField(default=dict)
    goes_first = models.BooleanField(
        default=True, db_default=True, editable=False, help_text="Of the system or an operator."
    )

    status = models.CharField(
        max_length=20,
        choices=DeliveryStatus,
        default=DeliveryStatus.PENDING,
        db_default=DeliveryStatus.PENDING.value,
    )
    created_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)

    not_before = models.DateTimeField(null=True)
    lease_owner = models.CharField(max_length=200, default="", db_default="")
    lease_token = models.BigIntegerField(default=0, db_default=0)
    lease_until = models.DateTimeField(null=True)
    leaving = ArrayField(models.BigIntegerField(), default=list, db_default=[])
    leaving_through = models.CharField(max_length=20, default="", db_default="")
    failures = models.PositiveIntegerField(default=0, db_default=0)
    trouble = models.TextField(default="", db_default="")

    class Meta:
        verbose_name = "single mail"
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                "idempotency_key", name="outbound_key_used_once", condition=~Q(idempotency_key="")
            ),
            models.CheckConstraint(
                name="outbound_status_is_known", condition=Q(status__in=DeliveryStatus.values)
            ),
            models.CheckConstraint(
                name="outbound_nothing_leaves_without_a_lease",
                condition=Q(leaving=[]) | Q(lease_until__isnull=False),
            ),
        ]
        indexes = [
            # the tick: what is due, and leases that may have run out
            models.Index(F("not_before"), F("id"), name="outbound_open", condition=Q(status__in=OPEN)),
            # what goes before users' own mails: what is due, those that wait longest first
            models.Index(
                Coalesce("not_before", "created_at"),
                F("id"),
                name="outbound_first",
                condition=Q(status__in=OPEN, goes_first=True),
            ),
            # the admin's filter
            models.Index(F("status"), F("id").desc(), name="outbound_by_status"),
        ]

    def __str__(self) -> str:
        return self.subject


class RecipientKind(models.TextChoices):
    """In which field of the mail a recipient stands."""

    TO = "to"
    """In To, which all can read."""
    CC = "cc"
    """In Cc, which all can read."""
    BCC = "bcc"
    """In none: nobody else learns of it."""


class OutboundRecipient(models.Model):
    """One recipient of a single mail, and what became of the mail to them."""

    mail = models.ForeignKey(
        OutboundEmail, on_delete=models.CASCADE, related_name="recipients", db_index=False
    )
    kind = models.CharField(max_length=3, choices=RecipientKind)
    email = AddressField("e-mail address", max_length=254)
    name = models.CharField(max_length=200, blank=True)

    status = models.CharField(
        max_length=20,
        choices=DeliveryStatus,
        default=DeliveryStatus.PENDING,
        db_default=DeliveryStatus.PENDING.value,
    )
    attempts = models.PositiveSmallIntegerField(default=0, db_default=0)
    doubts = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text="How often it left without a recorded answer."
    )
    not_before = models.DateTimeField(null=True)
    provider = models.CharField(max_length=20, default="", db_default="")
    provider_message_id = models.TextField(default="", db_default="")
    reason = models.TextField(default="", db_default="")
    attempted_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    decisions = models.JSONField(
        default=list, db_default=[], help_text="What operators decided, by whom and when; the oldest first."
    )

    class Meta:
        verbose_name = "recipient of a single mail"
        verbose_name_plural = "recipients of single mails"
        ordering = ["id"]
        constraints = [
            # nobody gets a mail twice because they stand in two of its fields; serves the list of them, too
            models.UniqueConstraint("mail", Lower("email"), name="outbound_recipient_unique_in_mail"),
            models.CheckConstraint(
                name="outbound_recipient_status_is_known", condition=Q(status__in=DeliveryStatus.values)
            ),
        ]

    def __str__(self) -> str:
        return self.email


class OutboundPart(models.Model):
    """A file, an inline image or another form of the text that goes with a single mail."""

    mail = models.ForeignKey(OutboundEmail, on_delete=models.CASCADE, related_name="parts")
    kind = models.CharField(max_length=11)  # a `composing.PartKind`
    name = models.TextField(blank=True)
    content_type = models.TextField()
    content_id = models.TextField(blank=True)
    content = models.BinaryField()

    class Meta:
        verbose_name = "part of a single mail"
        verbose_name_plural = "parts of single mails"
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name or self.content_type
