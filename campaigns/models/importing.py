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
    """A worker is reading the file; nothing of it is in the audience yet."""
    COMPLETED = "completed"
    """Every good row is in the audience; every refused row is in the report."""
    FAILED = "failed"
    """The file as a whole could not be used; the audience is as it was; `problem` says why."""


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
    read = models.PositiveIntegerField("rows read", default=0, editable=False)
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
