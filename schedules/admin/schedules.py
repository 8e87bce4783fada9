"""Preferred times of users, and what came of them."""

from datetime import datetime
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from campaigns.admin.fields import Checked, LineField
from campaigns.admin.large import Large
from campaigns.admin.readonly import ReadOnly
from campaigns.admin.times import in_zone
from schedules import outcomes, planning, tasks, words
from schedules.admin import recurring
from schedules.admin.operated import Operated
from schedules.admin.recurring import RecurringForm
from schedules.models import Schedule, ScheduleRun, ScheduleState, Task
from users.admin import GoesWhole
from users.admin_theme import ModelAdmin, ModelForm

SHOWN = 10  # moments, and runs, on the page of a schedule
COLOURS = {
    "active": "green", "completed": "green", "sent": "green",
    "paused": "yellow", "missed": "yellow", "skipped": "yellow",
    "suppressed": "yellow", "unconfirmed": "yellow",
    "failed": "red", "running": "violet",
}  # fmt: skip


def label(word: str) -> SafeString:
    """Return a state as a coloured label."""
    return format_html('<span class="mailer-label mailer-{}">{}</span>', COLOURS.get(word, "grey"), word)


def there(moment: datetime | None, row: "Schedule | Task") -> str:
    """Return a moment in the zone of a row's recurrence."""
    return in_zone(moment, (row.recurrence or {}).get("timezone", "UTC")) if moment else "-"


class ScheduleForm(RecurringForm, ModelForm[Schedule]):
    """Whose, what, when."""

    class Meta:
        model = Schedule
        fields = ("user", "name", "template", "variables", "grace_seconds")
        field_classes = {"name": LineField}

    def clean(self) -> dict[str, Any] | None:
        """Hold the template to what the API asks, too."""
        cleaned = super().clean() or self.cleaned_data
        if "variables" not in cleaned:
            return cleaned
        try:
            planning.check(cleaned.get("template"), cleaned.get("variables") or {})
        except ValidationError as problem:
            self.add_error(None, problem)
        return cleaned


@admin.register(Schedule)
class ScheduleAdmin(GoesWhole, Checked, Large, Operated, ModelAdmin[Schedule]):
    """When users want mail."""

    form = ScheduleForm
    list_display = ("title", "user", "template", "state_label", "next_run", "last_run")
    list_filter = (("paused_at", admin.EmptyFieldListFilter), ("next_run_at", admin.EmptyFieldListFilter))
    list_select_related = ("user", "template")
    search_fields = ("name", "user__email")
    autocomplete_fields = ("user", "template")
    change_form_outer_before_template = "admin/schedules/panel.html"
    fieldsets = (
        (None, {"fields": ("user", "name", "template", "variables", "grace_seconds")}),
        ("When", {"fields": recurring.NAMES}),
    )
    deeds = {
        "pause": lambda pk: _did(planning.pause(pk, now=timezone.now()), "Paused."),
        "resume": lambda pk: _did(
            _look_at(planning.resume(pk, now=timezone.now())), "It runs again from its next moment."
        ),
    }

    @admin.display(description="schedule")
    def title(self, schedule: Schedule) -> SafeString:
        """The name, and when in a sentence."""
        return format_html(
            '<span class="mailer-title">{}</span><span class="mailer-sub">{}</span>',
            str(schedule),
            words.sentence_of(schedule.recurrence, now=timezone.now()),
        )

    @admin.display(description="next run", ordering="next_run_at")
    def next_run(self, schedule: Schedule) -> str:
        """The next moment, as the clocks there show it."""
        return there(schedule.next_run_at, schedule)

    @admin.display(description="last run", ordering="last_run_for")
    def last_run(self, schedule: Schedule) -> str:
        """The moment of the last run, the same way."""
        return there(schedule.last_run_for, schedule)

    @admin.display(description="state")
    def state_label(self, schedule: Schedule) -> SafeString:
        """Active, paused or finished."""
        return label(str(schedule.state))

    def save_model(
        self, request: HttpRequest, obj: Schedule, form: "forms.ModelForm[Schedule]", change: bool
    ) -> None:
        """Plan its next moment and store it."""
        if isinstance(form, ScheduleForm) and form.when is not None:
            planning.plan(obj, form.when, now=timezone.now())
        obj.save()
        _look_at(obj)

    def panel(self, row: Schedule) -> dict[str, Any]:
        """Return the sentence, the next moments and the last runs."""
        now = timezone.now()
        runs = row.runs.select_related("delivery")[:SHOWN]
        return {
            "state": label(str(row.state)),
            "sentence": words.sentence_of(row.recurrence, now=now),
            "note": row.pause_note,
            "moments": words.upcoming_of(row.recurrence, now=now, at_most=SHOWN) if row.next_run_at else [],
            "runs": [(run.scheduled_for, label(outcomes.of_run(run)), run.reason) for run in runs],
        }

    def offered(self, row: Schedule) -> dict[str, str]:
        """Pause what runs, resume what rests."""
        if row.state == ScheduleState.PAUSED:
            return {"resume": "Resume"}
        return {"pause": "Pause"} if row.state == ScheduleState.ACTIVE else {}


def _look_at(schedule: Schedule) -> Schedule:
    # robust: what fails here is what the tick does again
    transaction.on_commit(partial(tasks.look_at_schedules, schedule), robust=True)
    return schedule


def _did(row: object, words_of_it: str) -> str:
    return words_of_it


@admin.register(ScheduleRun)
class ScheduleRunAdmin(ReadOnly, Large, ModelAdmin[ScheduleRun]):
    """Each moment and what became of it."""

    list_display = ("schedule", "scheduled_for", "outcome", "reason", "delivery")
    list_filter = ("state",)
    list_select_related = ("schedule", "delivery")
    search_fields = ("schedule__user__email",)

    @admin.display(description="outcome")
    def outcome(self, run: ScheduleRun) -> SafeString:
        """What became of it in a word."""
        return label(outcomes.of_run(run))
