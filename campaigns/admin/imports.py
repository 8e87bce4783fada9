"""The list of all imports; the pages of one are in `import_steps`."""

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from campaigns.admin.import_steps import colour
from campaigns.admin.readonly import ReadOnly
from campaigns.models import ImportJob
from users.admin_theme import ModelAdmin, RelatedFieldListFilter


@admin.register(ImportJob)
class ImportJobAdmin(ReadOnly, ModelAdmin[ImportJob]):
    """Every import that was asked for."""

    list_display = (
        "page", "audience", "state",
        "read", "created", "updated", "unchanged", "duplicate", "refused", "warnings", "created_at",
    )  # fmt: skip
    list_display_links = None
    list_filter = ("status", "dry_run", ("audience", RelatedFieldListFilter))
    list_filter_submit = True
    list_select_related = ("audience",)
    search_fields = ("original_name",)
    exclude = ("file", "errors_file")
    readonly_fields = ("page", "errors")
    show_facets = admin.ShowFacets.NEVER

    @admin.display(description="file", ordering="original_name")
    def page(self, job: ImportJob) -> SafeString:
        """The name of the file, leading to the import's page."""
        return format_html(
            '<a class="mailer-title" href="{}">{}</a>',
            reverse("admin:import_progress", args=[job.pk]),
            job.original_name,
        )

    @admin.display(description="status", ordering="status")
    def state(self, job: ImportJob) -> SafeString:
        """The status as a coloured label."""
        label = format_html(
            '<span class="mailer-label mailer-{}">{}</span>', colour(job), job.get_status_display()
        )
        return format_html('{} <span class="mailer-sub">dry run</span>', label) if job.dry_run else label

    @admin.display(description="refused rows")
    def errors(self, job: ImportJob) -> SafeString | str:
        """The errors file, if there is one."""
        if not job.errors_file:
            return "none"
        url = reverse("admin:import_errors", args=[job.pk])
        return format_html('<a class="mailer-link" href="{}">errors.csv</a>', url)
