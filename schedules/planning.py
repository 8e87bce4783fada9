"""What owners do with their schedules: each keeps `next_run_at` right."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction

from campaigns.composing import TemplateRefused
from campaigns.models import Campaign, EmailTemplate
from campaigns.preflight import FIELDS_OF_EVERYBODY, compile_template_of
from schedules import mirrors, reading
from schedules.models import Schedule
from schedules.recurrence import Recurrence
from users.models import User

MOST_VARIABLES = 10_000  # characters of one schedule's, as JSON: each of its campaigns has a copy


class TooManySchedules(Exception):
    """A user has as many schedules as one may have."""

    def __init__(self) -> None:
        most = settings.SCHEDULES_PER_USER
        super().__init__(f"You have {most:,} schedules, as many as one may have; delete or change one.")


def create(user: User, when: Recurrence, fields: Mapping[str, Any], *, now: datetime) -> Schedule:
    """Store a schedule of the user. Raises TooManySchedules; ValidationError as `check` does."""
    with transaction.atomic():
        User.objects.select_for_update().get(id=user.pk)  # two calls at once count one after the other
        if not user.is_staff and Schedule.objects.filter(user=user).count() >= settings.SCHEDULES_PER_USER:
            raise TooManySchedules
        schedule = Schedule(user=user, **fields)
        check(schedule.template, schedule.variables)
        plan(schedule, when, now=now)
        schedule.save(force_insert=True)
    return schedule


def edit(schedule_id: int, when: Recurrence | None, fields: Mapping[str, Any], *, now: datetime) -> Schedule:
    """Change a schedule; with `when` its next moment is counted anew.

    Raises Schedule.DoesNotExist; ValidationError as `check` does.
    """
    with transaction.atomic():
        schedule = Schedule.objects.select_for_update().get(id=schedule_id)
        for name, value in fields.items():
            setattr(schedule, name, value)
        if {"template", "variables"} & fields.keys():
            check(schedule.template, schedule.variables)
        if when is not None:
            plan(schedule, when, now=now)
        schedule.save()
    return schedule


def plan(schedule: Schedule, when: Recurrence, *, now: datetime) -> None:
    """Give a schedule in memory this recurrence and the next moment that follows from it."""
    schedule.recurrence = reading.write(when)
    schedule.next_run_at = None if schedule.paused_at else when.next(after=now)


def pause(schedule_id: int, *, note: str = "", now: datetime) -> Schedule:
    """Let a schedule rest; one that rests already gets the note. What is due within 75 s still runs."""
    with transaction.atomic():
        schedule = Schedule.objects.select_for_update().get(id=schedule_id)
        schedule.paused_at = schedule.paused_at or now
        schedule.pause_note = note
        schedule.next_run_at = None
        schedule.save(update_fields=["paused_at", "pause_note", "next_run_at", "updated_at"])
    return schedule


def resume(schedule_id: int, *, now: datetime) -> Schedule:
    """Let a schedule run again from its next moment on; what passed meanwhile is not made up for."""
    with transaction.atomic():
        schedule = Schedule.objects.select_for_update().get(id=schedule_id)
        if schedule.paused_at:
            schedule.paused_at, schedule.pause_note = None, ""
            schedule.next_run_at = schedule.when.next(after=now)
            schedule.save(update_fields=["paused_at", "pause_note", "next_run_at", "updated_at"])
    return schedule


def check(template: EmailTemplate | None, variables: Mapping[str, Any]) -> None:
    """Raise ValidationError, naming `template` or `variables`, for what no schedule can have."""
    size = len(json.dumps(variables, ensure_ascii=False))
    if size > MOST_VARIABLES:
        most = f"at most {MOST_VARIABLES:,} are allowed"
        raise ValidationError({"variables": f"They have {size:,} characters as JSON; {most}."})
    check_template(template, variables)


def check_template(template: EmailTemplate | None, variables: Mapping[str, Any]) -> None:
    """Raise ValidationError naming `template` unless it can be written for any user with these variables."""
    if template is None:
        return
    campaign = Campaign(template=template, audience=mirrors.audience(), variables=dict(variables))
    try:
        message = compile_template_of(campaign)
    except TemplateRefused as refusal:
        raise ValidationError({"template": f"{template.name!r}: {refusal}"}) from refusal
    if unknown := sorted(message.variables - FIELDS_OF_EVERYBODY - variables.keys()):
        raise ValidationError(
            {"variables": f"{template.name!r} names {', '.join(unknown)}; give them, as in "
             f'{{"{unknown[0]}": "..."}}.'}
        )  # fmt: skip
