"""One mailing: an audience, a template, a time."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from campaigns.models.attachment import Attachment
from campaigns.models.audience import Audience, is_object
from campaigns.models.template import EmailTemplate
from users.models import default_timezone, validate_timezone


class CampaignStatus(models.TextChoices):
    """Where a campaign is in its life; `campaigns.lifecycle` is the only writer."""

    DRAFT = "draft"
    """Being prepared; nothing is sent until somebody schedules or starts it."""
    SCHEDULED = "scheduled"
    """Starts by itself at `scheduled_at`."""
    IN_PROGRESS = "in_progress", "in progress"
    """Its batches are being sent."""
    PAUSED = "paused"
    """Nothing more leaves until somebody resumes it."""
    COMPLETED = "completed"
    """Every recipient has a final answer, and at least one mail was accepted or none was due."""
    FAILED = "failed"
    """It could not be started, or not one mail was accepted; `status_reason` says why."""
    CANCELLED = "cancelled"
    """Somebody stopped it for good; what had been sent stays sent."""


class Timing(models.TextChoices):
    """When the mails of a campaign leave, once it has started."""

    AT_ONCE = "at_once", "at once"
    """As fast as the providers take them."""
    RECIPIENT_LOCAL = "recipient_local", "at a time of day in each recipient's zone"
    """At `local_time` in each recipient's own zone, within a day of the start."""
    GIVEN = "given", "at each recipient's own moment"
    """Whoever starts it says when each mail may leave: schedules and broadcasts do."""


class Campaign(models.Model):
    """What is sent to whom and when.

    Once sending starts, `subject`, `html`, `text` and `attachments` hold the template as it was at that
    moment, so that an edit half-way cannot split the audience.
    """

    name = models.CharField(max_length=200)
    audience = models.ForeignKey(Audience, on_delete=models.PROTECT, related_name="campaigns")
    template = models.ForeignKey(EmailTemplate, on_delete=models.PROTECT, related_name="campaigns")
    variables = models.JSONField(
        default=dict, blank=True, help_text='Values the same for everybody, such as {"month": "May"}.'
    )
    from_email = models.EmailField("sender address", blank=True, help_text="Empty: DEFAULT_FROM_EMAIL.")
    from_name = models.CharField("sender name", max_length=200, blank=True)
    reply_to = models.EmailField("reply-to address", blank=True)

    link_parameters = models.JSONField(
        default=dict,
        blank=True,
        help_text='Appended to web links of the HTML part, such as {"utm_source": "newsletter"}.',
    )
    headers = models.JSONField(
        default=dict,
        blank=True,
        help_text='Further header fields of its mails, such as {"X-Campaign": "May"}.',
    )

    scheduled_at = models.DateTimeField(null=True, blank=True, help_text="When it starts by itself.")
    timezone = models.CharField(
        "time zone",
        max_length=64,
        default=default_timezone,
        validators=[validate_timezone],
        help_text="The zone in which the start time is meant and shown.",
    )
    timing = models.CharField(
        max_length=20, choices=Timing, default=Timing.AT_ONCE, db_default=Timing.AT_ONCE.value
    )
    local_time = models.TimeField(
        null=True,
        blank=True,
        help_text="With recipient_local: the time of day in each recipient's zone, such as 09:00.",
    )
    status = models.CharField(
        max_length=20, choices=CampaignStatus, default=CampaignStatus.DRAFT, editable=False
    )
    status_reason = models.TextField(blank=True, editable=False)
    started_at = models.DateTimeField(null=True, editable=False)
    finished_at = models.DateTimeField(null=True, editable=False)

    subject = models.TextField(blank=True, editable=False)
    html = models.TextField(blank=True, editable=False)
    text = models.TextField(blank=True, editable=False)
    attachments = models.ManyToManyField(Attachment, editable=False, related_name="campaigns")
    ledger_built_at = models.DateTimeField(null=True, editable=False)
    ledger_size = models.PositiveIntegerField(
        null=True,
        editable=False,
        help_text="How many rows the ledger was built with; as many must be found at every reading.",
    )
    unsent_total = models.PositiveIntegerField(
        null=True,
        editable=False,
        help_text="The audience's size when the campaign ended before its ledger was built.",
    )

    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        editable=False,
        related_name="campaigns",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            is_object("variables", name="campaign_variables_are_an_object"),
            is_object("link_parameters", name="campaign_link_parameters_are_an_object"),
            is_object("headers", name="campaign_headers_are_an_object"),
            models.CheckConstraint(
                condition=Q(status__in=CampaignStatus.values), name="campaign_status_is_known"
            ),
            models.CheckConstraint(
                condition=~Q(status=CampaignStatus.SCHEDULED) | Q(scheduled_at__isnull=False),
                name="campaign_scheduled_has_a_time",
            ),
            models.CheckConstraint(
                condition=~Q(status__in=[CampaignStatus.IN_PROGRESS, CampaignStatus.PAUSED])
                | Q(started_at__isnull=False),
                name="campaign_running_has_a_start",
            ),
            models.CheckConstraint(
                condition=Q(timing=Timing.RECIPIENT_LOCAL, local_time__isnull=False)
                | (~Q(timing=Timing.RECIPIENT_LOCAL) & Q(timing__in=Timing.values, local_time__isnull=True)),
                name="campaign_local_time_goes_with_recipient_local",
                violation_error_message="local_time and the timing recipient_local go together.",
            ),
        ]
        indexes = [
            # the tick: what is due, and what is open
            models.Index(
                F("scheduled_at"), name="campaign_due", condition=Q(status=CampaignStatus.SCHEDULED)
            ),
            models.Index(
                F("id"),
                name="campaign_open",
                condition=Q(status__in=[CampaignStatus.IN_PROGRESS, CampaignStatus.CANCELLED]),
            ),
        ]

    def __str__(self) -> str:
        return self.name
