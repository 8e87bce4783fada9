"""Files that go with the mails of a template."""

from django.db import models
from django.db.models.functions import Lower

from campaigns.models.template import EmailTemplate


class Attachment(models.Model):
    """One file, never changed. A campaign that has started keeps it when its template lets go of it."""

    template = models.ForeignKey(
        EmailTemplate, on_delete=models.CASCADE, null=True, related_name="attachments", db_index=False
    )
    name = models.CharField(max_length=100)
    size = models.PositiveIntegerField(help_text="In bytes.")
    content = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            # also serves the list of a template's files
            models.UniqueConstraint(
                "template",
                Lower("name"),
                name="attachment_name_unique_in_template",
                violation_error_message="The template has a file with this name already.",
            ),
            models.CheckConstraint(condition=models.Q(size__gt=0), name="attachment_is_not_empty"),
        ]

    def __str__(self) -> str:
        return self.name
