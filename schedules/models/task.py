"""A user's jobs, and each run of them."""

from typing import Any

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from campaigns.models.audience import is_object
from schedules import reading
from schedules.recurrence import Kind, Recurrence

MOST_RETRIES = 10
DEFAULT_GRACE = 3600  # seconds


class TaskStatus(models.TextChoices):
    """What came of a task so far."""

    PENDING = "pending"
    """It has not run to its end yet."""
    COMPLETED = "completed"
    """Its last run did what was asked."""
    FAILED = "failed"
    """Its last run failed, after its retries, or its last moment was missed; `last_error` says why."""
    CANCELLED = "cancelled"
    """Its owner stopped it for good."""


class Task(models.Model):
    """A job that a user has done at once, at a time, or again and again.

    `recurrence` is empty for a task that runs at once only.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="tasks")
    title = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    kind = models.CharField(max_length=40)
    payload = models.JSONField(default=dict, blank=True, help_text="What the kind works on.")
    file = models.FileField(upload_to="tasks/%Y/%m/", blank=True)
    file_name = models.CharField(max_length=255, blank=True, editable=False)
    recurrence = models.JSONField(null=True, blank=True, help_text="When; empty: at once.")
    retries = models.PositiveSmallIntegerField(
        default=3, validators=[MaxValueValidator(MOST_RETRIES)], help_text="Further tries inside one run."
    )
    grace_seconds = models.PositiveIntegerField(
        default=DEFAULT_GRACE,
        validators=[MinValueValidator(60), MaxValueValidator(31 * 24 * 3600)],
        help_text="How late a run may begin that could not begin in time; later, it is missed.",
    )
    status = models.CharField(max_length=20, choices=TaskStatus, default=TaskStatus.PENDING, editable=False)
    last_error = models.TextField(blank=True, editable=False)
    failures = models.PositiveIntegerField(default=0, editable=False, help_text="Failed runs in a row.")
    next_run_at = models.DateTimeField(null=True, editable=False)
    paused_at = models.DateTimeField(null=True, editable=False)
    pause_note = models.CharField(max_length=500, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            is_object("payload", name="task_payload_is_an_object"),
            models.CheckConstraint(condition=Q(status__in=TaskStatus.values), name="task_status_is_known"),
            models.CheckConstraint(
                condition=Q(next_run_at__isnull=True)
                | (Q(paused_at__isnull=True) & ~Q(status=TaskStatus.CANCELLED)),
                name="task_paused_or_cancelled_has_no_next_run",
            ),
        ]
        indexes = [
            # the sweep: what is due
            models.Index(F("next_run_at"), name="task_due", condition=Q(next_run_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def when(self) -> Recurrence | None:
        """The recurrence, or None for a task that ran at once."""
        return reading.restore(self.recurrence) if self.recurrence else None

    @property
    def asked(self) -> "str | dict[str, Any]":
        """When it runs, as the API takes it: "now", {"at": ...} or {"recurrence": {...}}."""
        if not self.recurrence:
            return "now"
        if self.recurrence.get("kind") == Kind.ONCE:
            return {name: self.recurrence.get(name) for name in ("at", "timezone")}
        return {"recurrence": self.recurrence}


class TaskRunState(models.TextChoices):
    """Where one run of a task is."""

    QUEUED = "queued"
    """A worker will take it, not before `not_before`; also between two tries."""
    RUNNING = "running"
    """A worker has it, until its lease runs out."""
    COMPLETED = "completed"
    """It did what was asked."""
    FAILED = "failed"
    """It did not, after its retries; `error` says why."""
    MISSED = "missed"
    """Its moment passed by more than the grace while nothing ran."""
    SKIPPED = "skipped"
    """The run before it was not at its end yet."""
    CANCELLED = "cancelled"
    """Its task was cancelled before its end."""


class TaskRun(models.Model):
    """One run of a task. A worker may write only with the `lease_token` that it was given."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="runs", db_index=False)
    scheduled_for = models.DateTimeField()
    state = models.CharField(max_length=20, choices=TaskRunState, default=TaskRunState.QUEUED)
    attempts = models.PositiveSmallIntegerField(default=0)
    not_before = models.DateTimeField(null=True)
    published_at = models.DateTimeField(null=True)
    lease_token = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    result = models.JSONField(null=True)
    result_file = models.FileField(upload_to="results/%Y/%m/", blank=True)
    error = models.TextField(blank=True)

    class Meta:
        ordering = ["-scheduled_for", "-id"]
        constraints = [
            # each moment once; also serves the runs of a task
            models.UniqueConstraint(
                fields=["task", "scheduled_for"], name="run_once_for_each_moment_of_a_task"
            ),
            # the database keeps two runs of a task from being open at a time
            models.UniqueConstraint(
                fields=["task"],
                condition=Q(state__in=[TaskRunState.QUEUED, TaskRunState.RUNNING]),
                name="one_open_run_of_a_task",
            ),
            models.CheckConstraint(
                condition=Q(state__in=TaskRunState.values), name="task_run_state_is_known"
            ),
            models.CheckConstraint(
                condition=Q(state=TaskRunState.RUNNING, lease_until__isnull=False)
                | (~Q(state=TaskRunState.RUNNING) & Q(lease_until__isnull=True)),
                name="task_run_has_a_lease_while_it_runs",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task} for {self.scheduled_for.isoformat()}"

    @property
    def late_seconds(self) -> float | None:
        """How long after its moment it began; None before it has."""
        if self.started_at is None:
            return None
        return max(round((self.started_at - self.scheduled_for).total_seconds(), 3), 0.0)
