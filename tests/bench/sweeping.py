"""The tick over many schedules: what is due becomes runs and one campaign; nothing due is seen at once."""

import time
from datetime import UTC, datetime, timedelta

from django.db import connection

from campaigns.models import DeliveryLog, EmailTemplate
from schedules import sweeping
from schedules.models import ScheduleRun
from tests.bench import ours
from tests.bench.arithmetic import Figures
from tests.bench.report import Table
from tests.bench.sizes import Sizes

NOW = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
ASKED_DUE, ASKED_NONE = 5.0, 0.05  # seconds

_USERS = """
INSERT INTO users_user (password, is_superuser, email, name, timezone, is_staff, is_active, created_at,
                        notify_completed, notify_failed)
SELECT '', false, 'sweep' || n || '@example.com', 'Reader ' || n, 'Asia/Kolkata', false, true, now(),
       true, true
  FROM generate_series(1, %s) AS n
"""
# a tenth of the year's minutes, so that they lie as scattered as people's mornings do
_SCHEDULES = """
INSERT INTO schedules_schedule (user_id, name, template_id, variables, recurrence, grace_seconds, next_run_at,
                                pause_note, created_at, updated_at)
SELECT id, '', %s, '{}', '{"kind": "daily", "timezone": "Asia/Kolkata", "times": ["14:30"], "every": 1,
                           "start": "2026-05-01T00:00:00Z", "until": null, "count": null, "ends_at": null}',
       43200, %s::timestamptz + (id %% 50000) * interval '1 minute', '', now(), now()
  FROM users_user WHERE email LIKE 'sweep%%'
"""


def measure(sizes: Sizes) -> Table:
    """Return the table; users and schedules are written straight into their tables, and gone afterwards."""
    _fill(sizes.schedules)
    due = Figures(tuple(_seconds_of_due(sizes.due) for _ in range(sizes.rounds)))
    none = Figures(tuple(_seconds_of_none() for _ in range(max(sizes.rounds, 5))))
    _empty()
    table = Table(
        f"The tick over {sizes.schedules:,} schedules: runs, next moments and the ledger of their campaign",
        ("due", "seconds", "least to most", "asked"),
    )
    for count, figures, asked in ((sizes.due, due, ASKED_DUE), (0, none, ASKED_NONE)):
        low, high = figures.span
        row = (f"{count:,}", f"{figures.median:.4f}", f"{low:.4f} to {high:.4f}", f"{asked:g}")
        table.rows.append(row)
    return table


def _fill(schedules: int) -> None:
    template = EmailTemplate.objects.create(
        name="Sweep", subject="Good morning, {{ name }}", text="It is time."
    )
    with connection.cursor() as cursor:
        cursor.execute(_USERS, [schedules])
        cursor.execute(_SCHEDULES, [template.pk, NOW + timedelta(days=1)])
        cursor.execute("ANALYZE users_user, schedules_schedule")


def _empty() -> None:
    ours.forget_ledger()
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE schedules_schedulerun, schedules_schedule, schedules_mailsofday")
        cursor.execute("DELETE FROM campaigns_recipient WHERE user_id IS NOT NULL")
        cursor.execute("DELETE FROM users_user WHERE email LIKE 'sweep%%'")


def _seconds_of_due(count: int) -> float:
    """Make so many due, chosen across the table, and sweep."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE schedules_schedulerun")
        cursor.execute(
            """
            UPDATE schedules_schedule SET next_run_at = %s
             WHERE id IN (SELECT id FROM schedules_schedule ORDER BY random() LIMIT %s)
            """,
            [NOW, count],
        )
    before = DeliveryLog.objects.count()
    since = time.monotonic()
    swept = sweeping.sweep(now=NOW)
    seconds = time.monotonic() - since
    if ScheduleRun.objects.count() != count or DeliveryLog.objects.count() - before != count:
        raise ours.NotAllSent(f"{ScheduleRun.objects.count():,} of {count:,} were swept")
    if len(swept.campaign_ids) != 1:
        raise ours.NotAllSent(f"{len(swept.campaign_ids)} campaigns were made of one template")
    return seconds


def _seconds_of_none() -> float:
    since = time.monotonic()
    sweeping.sweep(now=NOW)
    return time.monotonic() - since
