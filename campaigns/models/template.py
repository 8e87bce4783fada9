"""What a mail says, with gaps for each recipient's own values."""

from django.db import models
from django.db.models.functions import Lower


class EmailTemplate(models.Model):
    """Subject, HTML and text in Jinja2 syntax, held to the constructs that `campaigns.composing` allows."""

    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    subject = models.CharField(max_length=998, help_text="One line; may hold {{ fields }}.")
    html = models.TextField("HTML", blank=True)
    text = models.TextField(
        "plain text", blank=True, help_text="What readers without HTML see; made from the HTML when empty."
    )
    preheader = models.CharField(
        max_length=300,
        blank=True,
        help_text="What inboxes show beside the subject; hidden in the mail. May hold {{ fields }}.",
    )
    inline_css = models.BooleanField(
        "inline styles",
        default=True,
        help_text="Write what <style> elements say into the tags, for mail programs that read no <style>.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                Lower("name"),
                name="template_name_unique_whatever_its_case",
                violation_error_message="A template with this name exists already.",
            ),
            models.CheckConstraint(
                condition=~models.Q(html="") | ~models.Q(text=""),
                name="template_has_html_or_text",
                violation_error_message="Give the template an HTML part, a plain-text part, or both.",
            ),
        ]

    def __str__(self) -> str:
        return self.name
