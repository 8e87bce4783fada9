"""Users' jobs, and each run of them."""

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from campaigns.admin.fields import Checked, LineField
from campaigns.admin.large import Large
from campaigns.admin.readonly import ReadOnly
from schedules import assigning, tasks, words
from schedules.admin import recurring
from schedules.admin.operated import Operated
from schedules.admin.recurring import RecurringForm
from schedules.admin.schedules import SHOWN, label, there
from schedules.assigning import NotNow
from schedules.kinds import KINDS, PayloadRefused
from schedules.models import Task, TaskRun, TaskRunState, TaskStatus
from users.admin import GoesWhole
from users.admin_theme import ModelAdmin, ModelForm, Select


class TaskForm(RecurringForm, ModelForm[Task]):
    """Whose, what, when; kind, user and file are those it was made with."""

    kind = forms.ChoiceField(
        choices=[(kind.name, f"{kind.name}: {kind.summary}") for kind in KINDS.values()], widget=Select()
    )
    when_kind = forms.ChoiceField(
        label="When", choices=[(recurring.NOW, "at once"), *recurring.KINDS], widget=Select()
    )

    class Meta:
        model = Task
        fields = ("user", "title", "description", "kind", "payload", "file", "retries", "grace_seconds")
        field_classes = {"title": LineField}

    def clean(self) -> dict[str, Any] | None:
        """Hold the payload to its kind."""
        cleaned = super().clean() or self.cleaned_data
        user = cleaned.get("user") or getattr(self.instance, "user", None)
        kind = cleaned.get("kind") or self.instance.kind
        if self.errors or user is None:
            return cleaned
        if self.instance.pk and (refusal := self._not_now()):
            self.add_error(None, refusal)
        file = cleaned.get("file")
        name = getattr(file, "name", "") if file else self.instance.file_name
        try:
            assigning.check(kind, cleaned.get("payload") or {}, user, name or "")
        except PayloadRefused as refused:
            for field, texts in refused.problems.items():
                known = field if field in ("kind", "file") and field in self.fields else "payload"
                said = texts if known == field else [f"{field}: {text}" for text in texts]
                self.add_error(known, said)
        return cleaned

    def _not_now(self) -> str:
        """Say what the state of a stored task does not allow; '' when it allows what the form asks."""
        if self.instance.status == TaskStatus.CANCELLED:
            return "The task was cancelled; make a new one."
        open_runs = self.instance.runs.filter(state__in=(TaskRunState.QUEUED, TaskRunState.RUNNING))
        if self.is_planned_anew and self.when is None and open_runs.exists():
            return "A run of the task is queued or running."
        return ""


@admin.register(Task)
class TaskAdmin(GoesWhole, Checked, Large, Operated, ModelAdmin[Task]):
    """What users have done."""

    form = TaskForm
    list_display = ("name", "user", "kind", "status_label", "next_run", "updated_at")
    list_filter = ("status", "kind")
    list_select_related = ("user",)
    search_fields = ("title", "user__email")
    autocomplete_fields = ("user",)
    change_form_outer_before_template = "admin/schedules/panel.html"
    fieldsets = (
        (None, {"fields": ("user", "title", "description", "kind", "payload", "file", "retries")}),
        ("When", {"fields": (*recurring.NAMES, "grace_seconds")}),
    )
    refusals = (NotNow,)
    deeds = {
        "run": lambda pk: _run(pk),
        "pause": lambda pk: _did(assigning.pause(pk, now=timezone.now()), "Paused."),
        "resume": lambda pk: _resume(pk),
        "cancel": lambda pk: _did(assigning.cancel(pk, now=timezone.now()), "Cancelled."),
    }

    def get_readonly_fields(self, request: HttpRequest, obj: Task | None = None) -> tuple[str, ...]:
        """What a task was made with stays."""
        return ("user", "kind", "file") if obj else ()

    @admin.display(description="task")
    def name(self, task: Task) -> SafeString:
        """The title, and when in a sentence."""
        return format_html(
            '<span class="mailer-title">{}</span><span class="mailer-sub">{}</span>',
            task.title,
            _sentence(task),
        )

    @admin.display(description="next run", ordering="next_run_at")
    def next_run(self, task: Task) -> str:
        """The next moment, as the clocks there show it."""
        return there(task.next_run_at, task)

    @admin.display(description="status", ordering="status")
    def status_label(self, task: Task) -> SafeString:
        """The status as a coloured label."""
        return label("paused" if task.paused_at else task.status)

    def save_model(
        self, request: HttpRequest, obj: Task, form: "forms.ModelForm[Task]", change: bool
    ) -> None:
        """Store it and tell a worker of what is to run at once."""
        assert isinstance(form, TaskForm)  # noqa: S101  # for the types: it is this admin's form
        now, cleaned = timezone.now(), form.cleaned_data
        own = {name: cleaned[name] for name in OWN if name in cleaned}
        if change:
            planned = {"when": form.when} if form.is_planned_anew else {}
            saved = assigning.edit(obj.pk, {**own, **planned}, now=now)
        else:
            fields = {**own, "kind": cleaned["kind"]}
            saved = assigning.create(
                cleaned["user"], fields, when=form.when, file=cleaned.get("file"), now=now
            )
            obj.pk = saved.pk
        _look_at(saved.pk)

    def panel(self, row: Task) -> dict[str, Any]:
        """Return the status, the next moments and the last runs."""
        now, stored = timezone.now(), row.recurrence
        return {
            "state": label("paused" if row.paused_at else row.status),
            "sentence": _sentence(row),
            "note": row.pause_note or row.last_error,
            "moments": words.upcoming_of(stored, now=now, at_most=SHOWN)
            if stored and row.next_run_at
            else [],
            "runs": [(run.scheduled_for, label(run.state), _came_to(run)) for run in row.runs.all()[:SHOWN]],
        }

    def offered(self, row: Task) -> dict[str, str]:
        """Return what the task's state allows."""
        if row.status == TaskStatus.CANCELLED:
            return {}
        found = {"run": "Run now"}
        if row.paused_at:
            found["resume"] = "Resume"
        elif row.next_run_at:
            found["pause"] = "Pause"
        is_open = row.runs.filter(state__in=(TaskRunState.QUEUED, TaskRunState.RUNNING)).exists()
        return found | ({"cancel": "Cancel task"} if is_open or row.next_run_at or row.paused_at else {})


OWN = ("title", "description", "payload", "retries", "grace_seconds")


def _run(task_id: int) -> str:
    assigning.run(task_id, now=timezone.now())
    _look_at(task_id)
    return "It runs now."


def _resume(task_id: int) -> str:
    assigning.resume(task_id, now=timezone.now())
    _look_at(task_id)
    return "It runs again from its next moment."


def _look_at(task_id: int) -> None:
    # robust: what fails here is what the tick does again
    transaction.on_commit(partial(tasks.look_at_task, task_id), robust=True)


def _did(row: object, words_of_it: str) -> str:
    return words_of_it


def _sentence(task: Task) -> str:
    return words.sentence_of(task.recurrence, now=timezone.now()) if task.recurrence else "At once"


def _came_to(run: TaskRun) -> str:
    if run.error:
        return run.error
    figures = run.result or {}
    return ", ".join(f"{name} {value}" for name, value in figures.items() if isinstance(value, (int, str)))


@admin.register(TaskRun)
class TaskRunAdmin(ReadOnly, Large, ModelAdmin[TaskRun]):
    """Each run of each task."""

    list_display = ("task", "scheduled_for", "state_label", "attempts", "late", "error")
    list_filter = ("state",)
    list_select_related = ("task",)
    search_fields = ("task__title", "task__user__email")
    exclude = ("result_file", "lease_token")

    @admin.display(description="state", ordering="state")
    def state_label(self, run: TaskRun) -> SafeString:
        """The state as a coloured label."""
        return label(run.state)

    @admin.display(description="late")
    def late(self, run: TaskRun) -> str:
        """How late it began."""
        return "-" if run.late_seconds is None else f"{run.late_seconds:,.0f} s"
