"""When a user wants mail, and what came of each moment."""

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from campaigns.models import Campaign, DeliveryLog, EmailTemplate
from campaigns.models.audience import is_object
from schedules import reading
from schedules.recurrence import Recurrence

DEFAULT_GRACE = 12 * 3600  # seconds
LONGEST_GRACE = 31 * 24 * 3600


class ScheduleState(models.TextChoices):
    """Whether a schedule has moments ahead."""

    ACTIVE = "active"
    """It runs at `next_run_at`."""
    PAUSED = "paused"
    """Its owner, or an operator, let it rest; `pause_note` may say why."""
    FINISHED = "finished"
    """Its last moment has passed."""


class Schedule(models.Model):
    """A user's preferred time: when, in which zone, and which template is sent then.

    Without a template nothing is sent by itself; it says when broadcasts may reach the user.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="schedules")
    name = models.CharField(max_length=200, blank=True)
    template = models.ForeignKey(
        EmailTemplate,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="schedules",
        help_text="What is sent. Empty: it only says when broadcasts may come.",
    )
    variables = models.JSONField(
        default=dict,
        blank=True,
        help_text='Values for the template beside the user\'s own, as {"city": "Pune"}.',
    )
    recurrence = models.JSONField(help_text="When; see `schedules.reading`.")
    grace_seconds = models.PositiveIntegerField(
        default=DEFAULT_GRACE,
        validators=[MinValueValidator(60), MaxValueValidator(LONGEST_GRACE)],
        help_text="How late a moment may run that could not run in time; later, it is missed.",
    )
    next_run_at = models.DateTimeField(null=True, editable=False, help_text="Empty when paused or finished.")
    last_run_for = models.DateTimeField(null=True, editable=False, help_text="The moment of its last run.")
    paused_at = models.DateTimeField(null=True, editable=False)
    pause_note = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            is_object("variables", name="schedule_variables_are_an_object"),
            is_object("recurrence", name="schedule_recurrence_is_an_object"),
            models.CheckConstraint(
                condition=Q(paused_at__isnull=True) | Q(next_run_at__isnull=True),
                name="schedule_paused_has_no_next_run",
            ),
        ]
        indexes = [
            # the sweep: what is due
            models.Index(F("next_run_at"), name="schedule_due", condition=Q(next_run_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.name or f"schedule {self.pk}"

    @property
    def when(self) -> Recurrence:
        """The recurrence, made of what is stored."""
        return reading.restore(self.recurrence)

    @property
    def state(self) -> ScheduleState:
        """Whether it has moments ahead."""
        if self.paused_at:
            return ScheduleState.PAUSED
        return ScheduleState.ACTIVE if self.next_run_at else ScheduleState.FINISHED


class RunState(models.TextChoices):
    """What has become of one moment of a schedule."""

    DUE = "due"
    """Its moment has come; its mail is not in a ledger yet."""
    SENDING = "sending"
    """Its mail is a delivery, which says what became of it."""
    MISSED = "missed"
    """Its moment passed by more than the grace while nothing ran; it is not made up for."""
    FAILED = "failed"
    """Its mail could not be prepared; `reason` says why."""


class ScheduleRun(models.Model):
    """One moment of a schedule; there is one row for each, whoever sweeps and however often."""

    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="runs", db_index=False)
    scheduled_for = models.DateTimeField()
    state = models.CharField(max_length=20, choices=RunState, default=RunState.DUE)
    reason = models.TextField(blank=True)
    delivery = models.ForeignKey(
        DeliveryLog, on_delete=models.SET_NULL, null=True, related_name="schedule_runs"
    )
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-scheduled_for", "-id"]
        constraints = [
            # each moment once; also serves the runs of a schedule
            models.UniqueConstraint(
                fields=["schedule", "scheduled_for"], name="run_once_for_each_moment_of_a_schedule"
            ),
            models.CheckConstraint(
                condition=Q(state__in=RunState.values), name="schedule_run_state_is_known"
            ),
        ]
        indexes = [
            # the sweep: what is not in a ledger yet
            models.Index(F("id"), name="schedule_run_due", condition=Q(state=RunState.DUE)),
        ]

    def __str__(self) -> str:
        return f"{self.schedule} for {self.scheduled_for.isoformat()}"


class MailsOfDay(models.Model):
    """How many mails the schedules of one user have asked for on one day; it outlasts the schedules."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    day = models.DateField(help_text="In UTC.")
    mails = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "day"], name="mails_of_day_counted_once_for_a_user"),
        ]
        indexes = [
            # the tick, which deletes old ones
            models.Index(F("day"), name="mails_of_day_by_age"),
        ]

    def __str__(self) -> str:
        return f"{self.mails} mails of user {self.user_id} on {self.day}"


class Broadcast(models.Model):
    """A campaign to all users, each mail held until its user's next preferred moment."""

    campaign = models.OneToOneField(Campaign, on_delete=models.CASCADE, related_name="broadcast")
    within = models.DurationField(help_text="Whoever prefers no moment within this time gets it at its end.")
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.campaign.name
