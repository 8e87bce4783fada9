"""What an operator's buttons do: from a posted form to one call of `campaigns.actions`, or words."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from django import forms
from django.core.exceptions import ValidationError

from campaigns import actions, lifecycle, trial
from campaigns.actions import CampaignEnded, QueueAway
from campaigns.admin.times import from_zone, in_zone
from campaigns.lifecycle import TransitionRefused
from campaigns.models import Campaign, CampaignStatus
from campaigns.preflight import CampaignNotReady
from campaigns.values import YEARS
from users.admin import timezone_choices

F = TypeVar("F", bound=forms.Form)


class ActionRefused(Exception):
    """What was asked for is not done; `reasons` are sentences, each naming its field if it has one."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__(" ".join(reasons))
        self.reasons = reasons


class ScheduleForm(forms.Form):
    """A start time as the clocks show it in a zone."""

    start_at = forms.CharField(
        label="Start at", widget=forms.DateTimeInput(attrs={"type": "datetime-local", "required": True})
    )
    timezone = forms.ChoiceField(label="Time zone", choices=timezone_choices)

    def clean_start_at(self) -> datetime:
        """Return the naive local time."""
        text = self.cleaned_data["start_at"]
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise ValidationError(f"{text!r} is not a time like 2026-12-01T14:00.") from error
        if moment.tzinfo is not None:
            raise ValidationError(f"{text!r} has an offset; the time zone is chosen beside it.")
        if moment.year not in YEARS:
            raise ValidationError(f"{text!r}: give a year from {YEARS[0]} to {YEARS[-1]}.")
        return moment

    @property
    def moment(self) -> datetime:
        """The instant meant."""
        return from_zone(self.cleaned_data["start_at"], self.cleaned_data["timezone"])


class SendTestForm(forms.Form):
    """One to ten addresses, one a line or with commas between."""

    emails = forms.CharField(
        label="Addresses",
        help_text=f"1 to {trial.MAX_ADDRESSES}, one a line or with commas between.",
        widget=forms.Textarea(attrs={"rows": 3, "required": True}),
    )

    @property
    def addresses(self) -> list[str]:
        """The addresses, each once."""
        return list(dict.fromkeys(re.findall(r"[^\s,;]+", self.cleaned_data["emails"])))


@dataclass(frozen=True, slots=True)
class Button:
    """One thing to do with a campaign; `question` is asked before, `form` filled in."""

    action: str
    label: str
    perform: Callable[[Campaign, Mapping[str, Any], datetime], str]
    kind: str = "plain"
    question: str = ""
    form: type[forms.Form] | None = None

    def allowed(self, status: str) -> bool:
        """Whether a campaign in this status can be asked."""
        if self.action in lifecycle.TRANSITIONS:
            return lifecycle.allows(self.action, status)
        return actions.may_send_test(status)


def perform(action: str, campaign: Campaign, data: Mapping[str, Any], *, now: datetime) -> str:
    """Do it and return the sentence that says so. Raises ActionRefused, and has then changed nothing."""
    button = BUTTONS[action]
    try:
        return button.perform(campaign, data, now)
    except (TransitionRefused, CampaignEnded, QueueAway) as refused:
        raise ActionRefused([str(refused)]) from refused
    except CampaignNotReady as not_ready:
        raise ActionRefused(in_words(not_ready.problems)) from not_ready
    except ValidationError as error:
        raise ActionRefused(in_words(error.message_dict)) from error


def in_words(problems: Mapping[str, list[str]]) -> list[str]:
    """Each problem as a sentence with its field before it."""
    return [f"{field_label(field)}: {text}" for field, texts in problems.items() for text in texts]


def field_label(name: str) -> str:
    """How the pages call a field."""
    return _LABELS.get(name, name.replace("_", " ").capitalize())


def _schedule(campaign: Campaign, data: Mapping[str, Any], now: datetime) -> str:
    # the state first: whoever asks too late should read that, and not of a slip in the form
    if not lifecycle.allows("schedule", campaign.status):
        raise TransitionRefused("schedule", campaign.status, CampaignStatus.SCHEDULED)
    form = _valid(ScheduleForm(data))
    zone = form.cleaned_data["timezone"]
    actions.schedule(campaign.pk, now=now, scheduled_at=form.moment, timezone=zone)
    return f"Scheduled for {in_zone(form.moment, zone)}."


def _unschedule(campaign: Campaign, data: Mapping[str, Any], now: datetime) -> str:
    actions.unschedule(campaign.pk, now=now)
    return "The start time is taken back; the campaign is a draft again."


def _start(campaign: Campaign, data: Mapping[str, Any], now: datetime) -> str:
    actions.start(campaign.pk, now=now)
    return "Started."


def _pause(campaign: Campaign, data: Mapping[str, Any], now: datetime) -> str:
    actions.pause(campaign.pk, now=now)
    return "Paused. What was on its way already may still arrive."


def _resume(campaign: Campaign, data: Mapping[str, Any], now: datetime) -> str:
    actions.resume(campaign.pk, now=now)
    return "Resumed."


def _cancel(campaign: Campaign, data: Mapping[str, Any], now: datetime) -> str:
    actions.cancel(campaign.pk, now=now)
    return "Cancelled. What was sent stays sent."


def _send_test(campaign: Campaign, data: Mapping[str, Any], now: datetime) -> str:
    if not actions.may_send_test(campaign.status):
        raise CampaignEnded(campaign.status)
    addresses = _valid(SendTestForm(data)).addresses
    actions.send_test(campaign.pk, addresses)
    return f"A test mail is on its way to {', '.join(addresses)}."


def _valid(form: F) -> F:
    if not form.is_valid():
        raise ValidationError(form.errors.as_data())
    return form


_LABELS = {
    "scheduled_at": "Start at",
    "start_at": "Start at",
    "timezone": "Time zone",
    "from_email": "Sender address",
    "emails": "Addresses",
}

BUTTONS = {
    button.action: button
    for button in (
        Button("start", "Start now", _start, "main", "Start sending to the whole audience now?"),
        Button("resume", "Resume", _resume, "main"),
        Button("pause", "Pause", _pause),
        Button("schedule", "Schedule…", _schedule, form=ScheduleForm),
        Button("unschedule", "Unschedule", _unschedule),
        Button("send-test", "Send a test…", _send_test, form=SendTestForm),
        Button(
            "cancel",
            "Cancel campaign",
            _cancel,
            "danger",
            "Stop this campaign for good? It cannot be started again; what was sent stays sent.",
        ),
    )
}
