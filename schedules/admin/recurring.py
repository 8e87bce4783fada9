"""A recurrence in a form, member by member."""

import re
from typing import Any

from django import forms
from django.utils import timezone

from schedules import reading
from schedules.recurrence import Kind, Recurrence
from users.admin import timezone_choices
from users.admin_theme import AdminTextInputWidget, Select

PREFIX = "when_"
NOW = "now"
NAMES = (
    *("when_kind", "when_timezone", "when_times", "when_weekdays", "when_month_days", "when_months"),
    *(
        "when_every",
        "when_cron",
        "when_interval_seconds",
        "when_at",
        "when_start",
        "when_until",
        "when_count",
    ),
)
_LISTS = ("times", "weekdays", "month_days", "months")
_NUMBERS = ("every", "count", "interval_seconds", "month_days", "months")
KINDS = [(str(kind), str(kind)) for kind in Kind]


def _text(label: str, help_text: str) -> forms.CharField:
    return forms.CharField(label=label, help_text=help_text, required=False, widget=AdminTextInputWidget())


class RecurringForm(forms.ModelForm):  # type: ignore[type-arg]  # its heirs say of what
    """A form whose row has a recurrence; `when` is what stands in it, once it is clean and has changed."""

    when: Recurrence | None = None

    when_kind = forms.ChoiceField(label="When", choices=KINDS, widget=Select())
    when_timezone = forms.ChoiceField(
        label="Time zone",
        choices=lambda: [("", "the user's own"), *timezone_choices()],
        required=False,
        widget=Select(),
    )
    when_times = _text("Times", "Daily to yearly: 09:00, 18:30")
    when_weekdays = _text("Weekdays", "Weekly: monday, friday")
    when_month_days = _text("Days of the month", "Monthly and yearly: 1, 15, last")
    when_months = _text("Months", "Yearly: 1, 7")
    when_every = _text("Every", "2 for every second day, week, month or year")
    when_cron = _text("Cron", "minute hour day month weekday, such as 0 9 * * MON-FRI")
    when_interval_seconds = _text("Interval in seconds", "60 and up")
    when_at = _text("At", "Once: 2026-05-31T09:00")
    when_start = _text("From", "Nothing happens before it: 2026-05-31T09:00")
    when_until = _text("Until", "Nothing happens after it: 2026-12-31T23:59")
    when_count = _text("How often", "So many times, then no more")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        stored = getattr(self.instance, "recurrence", None) or ({"kind": NOW} if self.instance.pk else {})
        for name in NAMES:
            value = stored.get(name.removeprefix(PREFIX))
            if name in self.fields and value not in (None, []):
                self.initial.setdefault(
                    name, ", ".join(map(str, value)) if isinstance(value, list) else value
                )

    @property
    def is_planned_anew(self) -> bool:
        """Whether something of the recurrence was changed, or the row is new."""
        return self.instance.pk is None or any(name.startswith(PREFIX) for name in self.changed_data)

    def clean(self) -> dict[str, Any] | None:
        """Read the recurrence; what is wrong with it is said at its field."""
        cleaned = super().clean() or self.cleaned_data
        if self.is_planned_anew and cleaned.get("when_kind") not in (None, NOW):
            owner = cleaned.get("user") or getattr(self.instance, "user", None)
            zone = owner.timezone if owner else "UTC"
            try:
                self.when = reading.read(_given(cleaned), now=timezone.now(), default_timezone=zone)
            except reading.RecurrenceRefused as refused:
                for field, texts in refused.problems.items():
                    name = f"{PREFIX}{field}"
                    self.add_error(name if name in self.fields else None, texts)
        return cleaned


def _given(cleaned: dict[str, Any]) -> dict[str, Any]:
    typed = {name.removeprefix(PREFIX): cleaned[name] for name in NAMES if cleaned.get(name)}
    return {name: _value(name, text) for name, text in typed.items()}


def _value(name: str, text: str) -> Any:
    """Make of a text what the API would be sent; what is no number stays a text, to be refused by name."""
    if name in _LISTS:
        parts = re.findall(r"[^\s,;]+", text)
        return [_number(part) for part in parts] if name in _NUMBERS else parts
    return _number(text) if name in _NUMBERS else text.strip()


def _number(text: str) -> int | str:
    return int(text) if text.strip().isascii() and text.strip().isdigit() and len(text) < 12 else text.strip()
