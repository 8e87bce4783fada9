"""The pages of an import: file, columns, and the one that follows it to the end."""

from typing import Any, NamedTuple

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from campaigns import audiences, tasks
from campaigns.admin.import_forms import CheckForm, FileForm
from campaigns.importing import jobs, waiting
from campaigns.importing.mapping import FIELDS
from campaigns.importing.preview import Preview, preview
from campaigns.importing.refusals import ImportRefused, Reading, Refusal
from campaigns.importing.report import first_refusals
from campaigns.models import Audience, ImportJob, ImportStatus

REFUSALS_SHOWN = 20
MOST_WAITING = 10  # files in the session of one person
SESSION = "waiting_imports"
COLOURS = {
    ImportStatus.QUEUED: "blue",
    ImportStatus.RUNNING: "violet",
    ImportStatus.COMPLETED: "green",
    ImportStatus.FAILED: "red",
    ImportStatus.CANCELLED: "yellow",
}


class Waiting(NamedTuple):
    """A file between the first step and the second, as the session keeps it."""

    key: str
    name: str
    audience_id: int
    """0 for a new one."""
    new_audience: str

    @property
    def audience_name(self) -> str:
        """What the audience is called; "" for one that was deleted meanwhile."""
        names = Audience.objects.filter(pk=self.audience_id).values_list("name", flat=True)
        return self.new_audience or next(iter(names), "")


@require_http_methods(["GET", "HEAD", "POST"])
def import_page(request: HttpRequest) -> HttpResponse:
    """Step 1, the file; a POST keeps it and goes on to its columns."""
    _require_permission(request)
    if request.method == "POST":
        form = FileForm(request.POST, request.FILES)
        _leave_out_what_is_not_permitted(form, request)
        if form.is_valid() and _is_readable(form):
            return HttpResponseRedirect(reverse("admin:import_check", args=[_keep(request, form)]))
    else:
        form = FileForm(initial={"audience": request.GET.get("audience")})
        _leave_out_what_is_not_permitted(form, request)
    context = {"title": "Import recipients", "form": form, "step": 1}
    return _page(request, "admin/campaigns/imports/form.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def import_check(request: HttpRequest, key: str) -> HttpResponse:
    """Step 2, the columns and the first rows; a POST queues the import, or shows them anew."""
    _require_permission(request)
    kept = _kept(request, key)
    if kept is None:
        messages.error(request, "That file waits no longer; choose it again.")
        return HttpResponseRedirect(reverse("admin:import_recipients"))
    look = _look(request, kept)
    problem = look.problem
    if request.method == "POST" and "again" not in request.POST and not problem and look.form.is_valid():
        try:
            job = _begin(request, kept, look.form)
        except ImportRefused as refused:
            problem = refused.message
        else:
            return HttpResponseRedirect(reverse("admin:import_progress", args=[job.pk]))
    context = {"title": "Import recipients", "kept": kept, "form": look.form, "seen": look.seen, "step": 2}
    return _page(request, "admin/campaigns/imports/check.html", {**context, "problem": problem})


@require_GET
def import_progress(request: HttpRequest, job_id: int) -> HttpResponse:
    """Step 3: how far it is, then what came of it."""
    job = _job(request, job_id)
    context = {"title": f"Import of {job.original_name}", "step": 3, **_state(request, job)}
    return _page(request, "admin/campaigns/imports/progress.html", context)


@require_GET
def import_live(request: HttpRequest, job_id: int) -> HttpResponse:
    """The part of that page which changes."""
    state = _state(request, _job(request, job_id))
    return HttpResponse(render_to_string("admin/campaigns/imports/state.html", state, request))


@require_POST
def import_cancel(request: HttpRequest, job_id: int) -> HttpResponse:
    """End an import where it is."""
    _require_permission(request)
    try:
        jobs.cancel(_job(request, job_id).pk, now=timezone.now())
    except jobs.ImportEnded as ended:
        messages.warning(request, str(ended))
    return HttpResponseRedirect(reverse("admin:import_progress", args=[job_id]))


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
        path("import-recipients/check/<str:key>/", wrap(import_check), name="import_check"),
        path("import-recipients/<int:job_id>/", wrap(import_progress), name="import_progress"),
        path("import-recipients/<int:job_id>/live/", wrap(import_live), name="import_live"),
        path("import-recipients/<int:job_id>/cancel/", wrap(import_cancel), name="import_cancel"),
        path("import-recipients/<int:job_id>/errors.csv", wrap(import_errors), name="import_errors"),
    ]


# the theme's hook for pages that belong to no model
admin.site.extra_urls = import_urls  # type: ignore[attr-defined]  # the theme ships no types


def _require_permission(request: HttpRequest) -> None:
    if not request.user.has_perm("campaigns.add_importjob"):
        raise PermissionDenied


def _leave_out_what_is_not_permitted(form: FileForm, request: HttpRequest) -> None:
    if not request.user.has_perm("campaigns.add_audience"):
        form.fields["new_audience"].disabled = True
        form.fields["new_audience"].help_text = "You may not create audiences."


def _is_readable(form: FileForm) -> bool:
    """Whether the next step could show anything; else the form says why not."""
    file = form.cleaned_data["file"]
    try:
        preview(file.name, file, size=file.size, mapping={})
    except ImportRefused as refused:
        if refused.field == "file":
            form.add_error("file", refused.message)
            return False
    return True


def _keep(request: HttpRequest, form: FileForm) -> str:
    given = form.cleaned_data
    file = given["file"]
    file.seek(0)
    key = waiting.keep(file.name, file, now=timezone.now())
    audience = given["audience"]
    entry = [file.name, audience.pk if audience else 0, "" if audience else given["new_audience"].strip()]
    entries = {**request.session.get(SESSION, {}), key: entry}
    request.session[SESSION] = dict(list(entries.items())[-MOST_WAITING:])
    return key


def _kept(request: HttpRequest, key: str) -> Waiting | None:
    entry = request.session.get(SESSION, {}).get(key)
    return Waiting(key, *entry) if entry else None


class _Look(NamedTuple):
    """What step 2 shows: the form, what was seen in the file, and what stands against it, in words."""

    form: CheckForm
    seen: Preview | None
    problem: str


def _look(request: HttpRequest, kept: Waiting) -> _Look:
    seen: Preview | None = None
    problem = ""
    try:
        seen = _preview(kept, request.POST)
        problem = seen.problem.message if seen.problem else ""
    except FileNotFoundError:
        problem = "The file is gone; choose it again."
    except ImportRefused as refused:
        problem = refused.message
    is_final = request.method == "POST" and "again" not in request.POST
    form = CheckForm(request.POST) if is_final else CheckForm(initial=_so_far(request.POST))
    form.show(seen)
    return _Look(form, seen, problem)


def _preview(kept: Waiting, posted: QueryDict) -> Preview:
    """The preview that was asked for; where the mapping does not fit a newly chosen sheet, it is guessed."""
    mapping = {field: str(posted[field]) for field in FIELDS if field in posted}
    with waiting.opened(kept.key) as file:

        def read(mapping: dict[str, str]) -> Preview:
            return preview(
                kept.name,
                file,
                size=file.size,
                mapping=mapping,
                sheet=posted.get("sheet", ""),
                encoding=posted.get("encoding", ""),
                warn_about=posted.getlist("warn_about"),
            )

        seen = read(mapping)
        return (
            read(dict[str, str]())
            if seen.problem and seen.problem.field == "mapping" and "again" in posted
            else seen
        )


def _so_far(posted: QueryDict) -> dict[str, Any]:
    """What was chosen in a form that is shown anew."""
    chosen = {name: posted[name] for name in ("encoding", "on_existing") if name in posted}
    return {**chosen, "warn_about": posted.getlist("warn_about"), "dry_run": "dry_run" in posted}


def _begin(request: HttpRequest, kept: Waiting, form: CheckForm) -> ImportJob:
    """Store the file with its import, and the audience if it is new, and queue the import.

    Raises ImportRefused, and has then stored nothing.
    """
    chosen = form.cleaned_data
    with transaction.atomic(), waiting.opened(kept.key) as file:
        job = jobs.create_job(
            _audience(kept, is_rehearsal=chosen["dry_run"]),
            file,
            kept.name,
            mapping={field: chosen[field] for field in FIELDS},
            sheet=chosen.get("sheet", ""),
            encoding=chosen.get("encoding", ""),
            warn_about=chosen["warn_about"],
            on_existing=chosen["on_existing"],
            dry_run=chosen["dry_run"],
            created_by=request.user,  # type: ignore[arg-type]  # the permission implies a user
        )
        transaction.on_commit(lambda: tasks.hint(tasks.import_recipients, job.pk))
    waiting.discard(kept.key)
    return job


def _audience(kept: Waiting, *, is_rehearsal: bool) -> Audience:
    """Where the file goes. Raises ImportRefused."""
    if not kept.new_audience:
        audience = Audience.objects.filter(pk=kept.audience_id).first()
        if audience is None:
            raise ImportRefused("file", "The audience is gone; begin again.")
        return audience
    if is_rehearsal:
        raise ImportRefused("file", "A dry run changes nothing, so it needs an audience that exists.")
    try:
        audience, is_new = audiences.find_or_create(kept.new_audience)
    except ValidationError as error:
        raise ImportRefused("file", " ".join(error.messages)) from error
    if not is_new:
        raise ImportRefused("file", "An audience with this name exists already.")
    return audience


def _job(request: HttpRequest, job_id: int) -> ImportJob:
    if not (
        request.user.has_perm("campaigns.view_importjob") or request.user.has_perm("campaigns.add_importjob")
    ):
        raise PermissionDenied
    return get_object_or_404(ImportJob.objects.select_related("audience"), pk=job_id)


def _state(request: HttpRequest, job: ImportJob) -> dict[str, Any]:
    reported = job.duplicate + job.refused + job.warnings + job.suppressed
    return {
        "share": _share(job),
        "may_cancel": request.user.has_perm("campaigns.add_importjob"),
        "job": job,
        "colour": colour(job),
        "reading": Reading.of_dict(job.reading),
        "running": job.status in jobs.OPEN,
        "refusals": _first_refusals(job),
        "refusals_left_out": max(0, reported - REFUSALS_SHOWN),
    }


def _share(job: ImportJob) -> int | None:
    """How many hundredths of the phase are done; None where nobody knows."""
    whole, done = (job.total, job.read) if job.phase == "reading" else (job.accepted, job.written)
    return min(100, 100 * done // whole) if whole and job.phase else None


def _first_refusals(job: ImportJob) -> list[Refusal]:
    if job.status in jobs.OPEN or not job.errors_file:
        return []
    with job.errors_file.open("rb") as report:
        return first_refusals(report, REFUSALS_SHOWN)


def colour(job: ImportJob) -> str:
    """The colour of an import's status."""
    return COLOURS[ImportStatus(job.status)]


def _page(request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    return TemplateResponse(request, template, {**admin.site.each_context(request), **context})
