"""One file on its way into an audience."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from campaigns.models.audience import Audience


class ImportStatus(models.TextChoices):
    """Where an import is."""

    QUEUED = "queued"
    """Its file is stored; a worker will take it."""
    RUNNING = "running"
    """A worker reads the whole file, then writes its rows in chunks that each stay."""
    COMPLETED = "completed"
    """Every good row is in the audience; every refused row is in the report."""
    FAILED = "failed"
    """It could not be done; `problem` says why. When the file is at fault the audience is as it was."""
    CANCELLED = "cancelled"
    """Somebody ended it; `problem` says what it had done."""


class OnExisting(models.TextChoices):
    """What an import does with an address that the audience has already."""

    SKIP = "skip", "leave it as it is"
    UPDATE = "update", "take the file's name, time zone and attributes"


class ImportJob(models.Model):
    """A CSV file or workbook, how to read it, and what became of its rows.

    read = created + updated + unchanged + duplicate + refused, once completed. A warning counts beside those.
    """

    audience = models.ForeignKey(Audience, on_delete=models.CASCADE, related_name="imports")
    file = models.FileField(upload_to="imports/%Y/%m/")
    original_name = models.CharField(max_length=255)
    mapping = models.JSONField(
        default=dict,
        blank=True,
        help_text='The column for each field, such as {"email": "Contact e-mail"}; guessed when empty.',
    )
    on_existing = models.CharField(max_length=10, choices=OnExisting, default=OnExisting.UPDATE)
    dry_run = models.BooleanField(default=False, help_text="Check the file and report; change nothing.")
    sheet = models.CharField(
        max_length=255,
        blank=True,
        help_text="The sheet of a workbook; when empty the first with a column of addresses.",
    )
    encoding = models.CharField(
        max_length=40, blank=True, help_text="The encoding of a text file; found out when empty."
    )
    warn_about = models.JSONField(
        default=list, blank=True, help_text='What to flag besides misspelt domains: "role", "disposable".'
    )
    reading = models.JSONField(
        default=dict,
        blank=True,
        editable=False,
        help_text="How the file was read: its format, encoding, sheet.",
    )

    status = models.CharField(
        max_length=10, choices=ImportStatus, default=ImportStatus.QUEUED, editable=False
    )
    problem = models.TextField(blank=True, editable=False)
    total = models.PositiveIntegerField(
        null=True, editable=False, help_text="Rows of the file; estimated until it has been read."
    )
    read = models.PositiveIntegerField("rows read", default=0, editable=False)
    accepted = models.PositiveIntegerField(
        null=True,
        editable=False,
        help_text="Rows that go into the audience; known when the whole file has been read.",
    )
    created = models.PositiveIntegerField(default=0, editable=False)
    updated = models.PositiveIntegerField(default=0, editable=False)
    unchanged = models.PositiveIntegerField(default=0, editable=False)
    duplicate = models.PositiveIntegerField(
        default=0, editable=False, help_text="Rows whose address stood in the file before; the first counts."
    )
    refused = models.PositiveIntegerField(default=0, editable=False)
    warnings = models.PositiveIntegerField(
        default=0, editable=False, help_text="Rows that were taken and look wrong; the report says why."
    )
    suppressed = models.PositiveIntegerField(
        default=0, editable=False, help_text="Rows that were taken and whose address is not mailed."
    )
    rate_per_second = models.FloatField(null=True, editable=False)
    eta_seconds = models.PositiveIntegerField(null=True, editable=False)
    written_through = models.PositiveBigIntegerField(
        default=0,
        editable=False,
        help_text="The line up to which the rows are in the audience; the next run goes on behind it.",
    )
    attempts = models.PositiveIntegerField(
        default=0, editable=False, help_text="How often it was begun since rows of it were last written."
    )
    cancel_asked_at = models.DateTimeField(null=True, editable=False)
    errors_file = models.FileField(upload_to="imports/%Y/%m/", blank=True, editable=False)

    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, editable=False, related_name="imports"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, editable=False)
    finished_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        verbose_name = "import"
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=ImportStatus.values), name="import_status_is_known"
            ),
            models.CheckConstraint(
                condition=~Q(status=ImportStatus.COMPLETED)
                | Q(read=F("created") + F("updated") + F("unchanged") + F("duplicate") + F("refused")),
                name="import_counts_add_up_once_completed",
            ),
        ]
        indexes = [
            # the tick: imports that nobody works on
            models.Index(
                F("id"),
                name="import_open",
                condition=Q(status__in=[ImportStatus.QUEUED, ImportStatus.RUNNING]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.original_name} into {self.audience}"

    @property
    def phase(self) -> str:
        """What a running import is at: "reading" or "writing"; "" when it is not running."""
        if self.status != ImportStatus.RUNNING:
            return ""
        return "reading" if self.accepted is None else "writing"

    @property
    def written(self) -> int:
        """Rows that are dealt with in the audience."""
        return self.created + self.updated + self.unchanged
