"""Importing recipients: a page to upload a file, one that follows the import, and the list of all imports."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_GET, require_http_methods

from campaigns import tasks
from campaigns.admin.readonly import ReadOnly
from campaigns.importing import jobs
from campaigns.importing.refusals import ImportRefused, Refusal
from campaigns.importing.report import first_refusals
from campaigns.models import Audience, ImportJob, ImportStatus, OnExisting
from users.admin_theme import ModelAdmin, RelatedFieldListFilter
from users.models import User

REFUSALS_SHOWN = 20
STATUS_COLOURS = {
    ImportStatus.QUEUED: "blue",
    ImportStatus.RUNNING: "violet",
    ImportStatus.COMPLETED: "green",
    ImportStatus.FAILED: "red",
}


class ImportForm(forms.Form):
    """A file and where it goes."""

    file = forms.FileField(
        help_text="CSV or Excel (.csv .tsv .txt .xlsx .xlsm), the first line naming the columns.",
        widget=forms.FileInput(attrs={"accept": ".csv,.tsv,.txt,.xlsx,.xlsm"}),
    )
    audience = forms.ModelChoiceField(
        Audience.objects.all(), required=False, label="Into audience", empty_label="a new one, named below"
    )
    new_audience = forms.CharField(required=False, max_length=200, label="New audience")
    on_existing = forms.ChoiceField(
        label="An address that the audience has already",
        choices=OnExisting.choices,
        initial=OnExisting.UPDATE,
    )
    email_column = forms.CharField(
        required=False, label="Column of the address", help_text="These three are guessed when left empty."
    )
    name_column = forms.CharField(required=False, label="Column of the name")
    timezone_column = forms.CharField(required=False, label="Column of the time zone")
    dry_run = forms.BooleanField(
        required=False, label="Dry run", help_text="Check the file and report; change nothing."
    )

    def clean(self) -> dict[str, Any]:
        """Ask for exactly one of the two ways to name the audience."""
        cleaned = super().clean() or self.cleaned_data
        chosen, new = cleaned.get("audience"), cleaned.get("new_audience", "").strip()
        if "audience" in self.errors:
            return cleaned
        if chosen and new:
            self.add_error("new_audience", "Choose an audience or name a new one, not both.")
        elif not chosen and not new:
            self.add_error("audience", "Choose an audience, or name a new one.")
        elif new:
            self._check_new(new)
        return cleaned

    @property
    def mapping(self) -> dict[str, str]:
        """The columns that were named."""
        columns = {field: self.cleaned_data[f"{field}_column"] for field in ("email", "name", "timezone")}
        return {field: header for field, header in columns.items() if header}

    def _check_new(self, name: str) -> None:
        if self.cleaned_data.get("dry_run"):
            self.add_error("new_audience", "A dry run changes nothing, so it needs an audience that exists.")
            return
        try:
            Audience(name=name).full_clean()
        except ValidationError as error:
            self.add_error("new_audience", " ".join(error.messages))


def begin(form: ImportForm, *, created_by: User) -> ImportJob:
    """Store the file, and the audience if it is new, and queue the import.

    Raises ImportRefused, and has then stored nothing.
    """
    chosen = form.cleaned_data
    file = chosen["file"]
    with transaction.atomic():
        audience = chosen["audience"] or Audience.objects.create(name=chosen["new_audience"].strip())
        job = jobs.create_job(
            audience,
            file,
            file.name,
            mapping=form.mapping,
            on_existing=chosen["on_existing"],
            dry_run=chosen["dry_run"],
            created_by=created_by,
        )
        transaction.on_commit(lambda: tasks.hint(tasks.import_recipients, job.pk))
    return job


@require_http_methods(["GET", "HEAD", "POST"])
def import_page(request: HttpRequest) -> HttpResponse:
    """The form; a POST queues the import and goes on to its page."""
    if not request.user.has_perm("campaigns.add_importjob"):
        raise PermissionDenied
    if request.method == "POST":
        form = ImportForm(request.POST, request.FILES)
        _leave_out_what_is_not_permitted(form, request)
        if form.is_valid():
            try:
                job = begin(form, created_by=request.user)  # type: ignore[arg-type]  # the permission implies a user
            except ImportRefused as refused:
                form.add_error(_FORM_FIELDS[refused.field], refused.message)
            else:
                return HttpResponseRedirect(reverse("admin:import_progress", args=[job.pk]))
    else:
        form = ImportForm(initial={"audience": request.GET.get("audience")})
        _leave_out_what_is_not_permitted(form, request)
    return _page(request, "admin/campaigns/imports/form.html", {"title": "Import recipients", "form": form})


@require_GET
def import_progress(request: HttpRequest, job_id: int) -> HttpResponse:
    """One import: how far it is, then what came of it."""
    job = _job(request, job_id)
    return _page(
        request,
        "admin/campaigns/imports/progress.html",
        {"title": f"Import of {job.original_name}", **_state(job)},
    )


@require_GET
def import_live(request: HttpRequest, job_id: int) -> HttpResponse:
    """The part of that page which changes."""
    return HttpResponse(render_to_string("admin/campaigns/imports/state.html", _state(_job(request, job_id))))


@require_GET
def import_errors(request: HttpRequest, job_id: int) -> FileResponse:
    """Every refused row with its line, the reason and its cells, as a CSV file."""
    job = _job(request, job_id)
    if not job.errors_file:
        raise Http404
    return FileResponse(
        job.errors_file.open("rb"), as_attachment=True, filename=f"import-{job.pk}-errors.csv"
    )


def import_urls() -> list[URLPattern]:
    """The pages of this module, for mounting at the root of the admin."""
    wrap = admin.site.admin_view
    return [
        path("import-recipients/", wrap(import_page), name="import_recipients"),
        path("import-recipients/<int:job_id>/", wrap(import_progress), name="import_progress"),
        path("import-recipients/<int:job_id>/live/", wrap(import_live), name="import_live"),
        path("import-recipients/<int:job_id>/errors.csv", wrap(import_errors), name="import_errors"),
    ]


# the theme's hook for pages that belong to no model
admin.site.extra_urls = import_urls  # type: ignore[attr-defined]  # the theme ships no types

_FORM_FIELDS = {"file": "file", "mapping": "email_column"}


@admin.register(ImportJob)
class ImportJobAdmin(ReadOnly, ModelAdmin[ImportJob]):
    """Every import that was asked for."""

    list_display = (
        "page", "audience", "state",
        "read", "created", "updated", "unchanged", "duplicate", "refused", "created_at",
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
            '<span class="mailer-label mailer-{}">{}</span>', _colour(job), job.get_status_display()
        )
        return format_html('{} <span class="mailer-sub">dry run</span>', label) if job.dry_run else label

    @admin.display(description="refused rows")
    def errors(self, job: ImportJob) -> SafeString | str:
        """The errors file, if there is one."""
        if not job.errors_file:
            return "none"
        url = reverse("admin:import_errors", args=[job.pk])
        return format_html('<a class="mailer-link" href="{}">errors.csv</a>', url)


def _leave_out_what_is_not_permitted(form: ImportForm, request: HttpRequest) -> None:
    if not request.user.has_perm("campaigns.add_audience"):
        form.fields["new_audience"].disabled = True
        form.fields["new_audience"].help_text = "You may not create audiences."


def _job(request: HttpRequest, job_id: int) -> ImportJob:
    if not (
        request.user.has_perm("campaigns.view_importjob") or request.user.has_perm("campaigns.add_importjob")
    ):
        raise PermissionDenied
    return get_object_or_404(ImportJob.objects.select_related("audience"), pk=job_id)


def _state(job: ImportJob) -> dict[str, Any]:
    return {
        "job": job,
        "colour": _colour(job),
        "running": job.status in jobs.OPEN,
        "refusals": _first_refusals(job),
        "refusals_left_out": max(0, job.duplicate + job.refused - REFUSALS_SHOWN),
    }


def _first_refusals(job: ImportJob) -> list[Refusal]:
    if job.status in jobs.OPEN or not job.errors_file:
        return []
    with job.errors_file.open("rb") as report:
        return first_refusals(report, REFUSALS_SHOWN)


def _colour(job: ImportJob) -> str:
    return STATUS_COLOURS[ImportStatus(job.status)]


def _page(request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    return TemplateResponse(request, template, {**admin.site.each_context(request), **context})
