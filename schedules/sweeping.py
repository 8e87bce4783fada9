"""From schedules whose moment has come to deliveries in a ledger.

    plan       write one run for each schedule that is due, and its next moment, in one transaction
    hand over  put the runs of one template into one campaign, each mail held until its moment

Between the two, or half-way, a process may die: the next sweep finds the runs that are not handed over.
Several may sweep at once. What is due before the next tick is taken along, so that its mail leaves to the
second.
"""

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet

from campaigns import dispatch
from campaigns.models import Campaign, EmailTemplate, Timing
from campaigns.preflight import CampaignNotReady
from schedules import allowance, mirrors
from schedules.models import RunState, Schedule, ScheduleRun
from schedules.recurrence import Turn, take_turn

logger = logging.getLogger(__name__)

CHUNK = 1000  # schedules planned in one transaction
HANDED_AT_ONCE = 10_000  # runs put into campaigns in one transaction
AHEAD = timedelta(seconds=75)  # from one tick to the next, and some: one that comes late costs nothing


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did: the runs that it wrote, and the campaigns that it started."""

    run_ids: list[int] = field(default_factory=list)
    campaign_ids: list[int] = field(default_factory=list)


def sweep(*, now: datetime, ahead: timedelta = AHEAD, user_id: int | None = None) -> Swept:
    """Run what is due until `now` + `ahead`, of everybody or of one user."""
    swept = Swept()
    more = True
    while more:
        planned = 0
        while more and planned < HANDED_AT_ONCE:
            taken, run_ids = _plan(now, now + ahead, user_id)
            swept.run_ids.extend(run_ids)
            planned += taken
            more = taken == CHUNK
        swept.campaign_ids.extend(hand_over(now=now, user_id=user_id))
    return swept


@dataclass(frozen=True, slots=True)
class _Due:
    """One schedule whose moment has come."""

    id: int
    sends: bool
    next_run_at: datetime
    turn: Turn


def _plan(now: datetime, horizon: datetime, user_id: int | None) -> tuple[int, list[int]]:
    """Write the runs of up to CHUNK schedules that are due; return how many were taken, and the runs."""
    with transaction.atomic():
        due = list(_take(horizon, user_id))
        turns = [turn for schedule in due if (turn := _turn(schedule, now))]
        run_ids = _write_runs(turns, now)
        _advance(turns)
    return len(due), run_ids


def _take(horizon: datetime, user_id: int | None) -> "QuerySet[Schedule]":
    rows = Schedule.objects.filter(next_run_at__lte=horizon).order_by("next_run_at").select_related("user")
    if user_id is not None:
        rows = rows.filter(user_id=user_id)
    return rows.select_for_update(of=("self",), skip_locked=True)[:CHUNK]


def _turn(schedule: Schedule, now: datetime) -> _Due | None:
    """Decide about one schedule; one that cannot be read is paused, and keeps no other from running."""
    assert schedule.next_run_at is not None  # noqa: S101  # for the types: it was selected by it
    try:
        grace = timedelta(seconds=schedule.grace_seconds)
        turn = take_turn(schedule.when, schedule.next_run_at, now=now, grace=grace)
    except Exception as error:
        logger.exception("schedule %s cannot be read", schedule.pk)
        Schedule.objects.filter(id=schedule.pk).update(
            next_run_at=None, paused_at=now, pause_note=f"It cannot be read: {error!r}"[:500]
        )
        return None
    sends = schedule.template_id is not None and schedule.user.is_active
    return _Due(schedule.pk, sends, schedule.next_run_at, turn)


def _write_runs(turns: Sequence[_Due], now: datetime) -> list[int]:
    """Write a run for each schedule that sends something, and return those that were not there yet."""
    sending = [each for each in turns if each.sends]
    if not sending:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO schedules_schedulerun (schedule_id, scheduled_for, state, reason, created_at)
            SELECT given.*, %s FROM unnest(%s::bigint[], %s::timestamptz[], %s::text[], %s::text[]) AS given
            ON CONFLICT (schedule_id, scheduled_for) DO NOTHING
            RETURNING id
            """,
            [
                now,
                [each.id for each in sending],
                [each.turn.scheduled_for for each in sending],
                [RunState.MISSED.value if each.turn.missed else RunState.DUE.value for each in sending],
                [_why_missed(each.turn, now) for each in sending],
            ],
        )
        return sorted(row[0] for row in cursor.fetchall())


def _why_missed(turn: Turn, now: datetime) -> str:
    late = int((now - turn.scheduled_for).total_seconds()) // 60
    return f"It was {late:,} minutes late when the scheduler ran again." if turn.missed else ""


def _advance(turns: Sequence[_Due]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE schedules_schedule AS schedule
               SET next_run_at = given.next_at, last_run_for = given.scheduled_for
              FROM unnest(%s::bigint[], %s::timestamptz[], %s::timestamptz[])
                       AS given (id, scheduled_for, next_at)
             WHERE schedule.id = given.id
            """,
            [
                [each.id for each in turns],
                [each.turn.scheduled_for for each in turns],
                [each.turn.next_at for each in turns],
            ],
        )


def hand_over(*, now: datetime, user_id: int | None = None) -> list[int]:
    """Put the runs that are due into campaigns and return those.

    One campaign for each template with the same variables; a user who has several moments at once gets the
    second in a second campaign, for a campaign writes to nobody twice.
    """
    campaign_ids: list[int] = []
    taken = HANDED_AT_ONCE
    while taken == HANDED_AT_ONCE:
        taken, started = _hand_over(now, user_id)
        campaign_ids.extend(started)
    return campaign_ids


def _hand_over(now: datetime, user_id: int | None) -> tuple[int, list[int]]:
    """Put up to HANDED_AT_ONCE runs into campaigns; return how many were taken, and the campaigns."""
    with transaction.atomic():
        runs = _due_runs(user_id)
        recipients = mirrors.recipients_of({run.schedule.user_id for run in runs}) if runs else {}
        _refuse([run.pk for run in runs if run.schedule.user_id not in recipients], "The user is gone.")
        allowed = _allowed([run for run in runs if run.schedule.user_id in recipients], now)
        started = [_start(batch, recipients, now) for batch in _in_campaigns(allowed)]
    return len(runs), [campaign_id for campaign_id in started if campaign_id is not None]


def _allowed(runs: Sequence[ScheduleRun], now: datetime) -> list[ScheduleRun]:
    """Return the runs that their users have room for today; the others fail, and say why."""
    asked = Counter(run.schedule.user_id for run in runs)
    too_many = allowance.count(asked, now=now) if asked else {}
    if not too_many:
        return list(runs)
    over = {
        run.pk
        for user_id, most in too_many.items()
        for run in [each for each in runs if each.schedule.user_id == user_id][-most:]
    }
    most = settings.SCHEDULE_MAILS_PER_DAY
    _refuse(sorted(over), f"Your schedules have sent {most:,} mails today (UTC), as many as they may.")
    return [run for run in runs if run.pk not in over]


def _due_runs(user_id: int | None) -> list[ScheduleRun]:
    runs = ScheduleRun.objects.filter(state=RunState.DUE).order_by("id").select_related("schedule")
    if user_id is not None:
        runs = runs.filter(schedule__user_id=user_id)
    return list(runs.select_for_update(of=("self",), skip_locked=True)[:HANDED_AT_ONCE])


def _in_campaigns(runs: Iterable[ScheduleRun]) -> list[list[ScheduleRun]]:
    """Part the runs so that each part has one template, one set of variables, and each user once."""
    parts: dict[tuple[int | None, str, int], list[ScheduleRun]] = defaultdict(list)
    seen: dict[tuple[int | None, str, int], int] = defaultdict(int)
    for run in runs:
        says = (run.schedule.template_id, json.dumps(run.schedule.variables, sort_keys=True))
        nth = seen[*says, run.schedule.user_id]
        seen[*says, run.schedule.user_id] += 1
        parts[*says, nth].append(run)
    return list(parts.values())


def _start(runs: Sequence[ScheduleRun], recipients: dict[int, int], now: datetime) -> int | None:
    """Start one campaign for these runs and return its id; without one they fail, and say why."""
    schedule = runs[0].schedule
    template = schedule.template
    if template is None:
        _refuse([run.pk for run in runs], "The schedule has no template any more.")
        return None
    moments = [
        (recipients[run.schedule.user_id], run.scheduled_for if run.scheduled_for > now else None)
        for run in runs
    ]
    try:
        with transaction.atomic():
            campaign = _campaign(template, schedule, runs, now)
            dispatch.start_with_moments(campaign, moments, now=now)
    except CampaignNotReady as problem:
        _refuse([run.pk for run in runs], str(problem))
        return None
    _link(campaign, runs, recipients)
    return campaign.pk


def _campaign(
    template: EmailTemplate, schedule: Schedule, runs: Sequence[ScheduleRun], now: datetime
) -> Campaign:
    moment = min(run.scheduled_for for run in runs)
    return Campaign.objects.create(
        name=f"{template.name[:150]}, scheduled for {moment:%Y-%m-%d %H:%M} UTC",
        audience=mirrors.audience(),
        template=template,
        variables=schedule.variables,
        timing=Timing.GIVEN,
        timezone="UTC",
    )


def _link(campaign: Campaign, runs: Sequence[ScheduleRun], recipients: dict[int, int]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE schedules_schedulerun AS run SET state = 'sending', delivery_id = delivery.id
              FROM unnest(%s::bigint[], %s::bigint[]) AS given (run_id, recipient_id)
              JOIN campaigns_deliverylog AS delivery ON delivery.recipient_id = given.recipient_id
             WHERE run.id = given.run_id AND delivery.campaign_id = %s
            """,
            [
                [run.pk for run in runs],
                [recipients[run.schedule.user_id] for run in runs],
                campaign.pk,
            ],
        )


def _refuse(run_ids: Sequence[int], reason: str) -> None:
    ScheduleRun.objects.filter(id__in=run_ids).update(state=RunState.FAILED, reason=reason)
