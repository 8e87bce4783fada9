"""A task that writes a report as CSV."""

from collections.abc import Mapping
from typing import Any

from django.db import connection

from campaigns.models import Campaign
from schedules.kinds.base import Kind, PayloadRefused, TaskFailed, Work, WorkResult, only
from users.models import User

_DELIVERIES = """
SELECT email, status, attempts, provider, provider_message_id, reason, sent_at, message_id
  FROM campaigns_deliverylog WHERE campaign_id = %s ORDER BY id
"""
_RUNS = """
SELECT schedule.id AS schedule, schedule.name, run.scheduled_for, run.state, delivery.status AS mail,
       delivery.sent_at, run.reason
  FROM schedules_schedulerun AS run
  JOIN schedules_schedule AS schedule ON schedule.id = run.schedule_id
  LEFT JOIN campaigns_deliverylog AS delivery ON delivery.id = run.delivery_id
 WHERE schedule.user_id = %s ORDER BY run.scheduled_for
"""


def _check(payload: Mapping[str, Any], user: User, file_name: str) -> dict[str, Any]:
    """Read {"report": "runs"}, of one's own schedules, or {"report": "deliveries", "campaign": 3}."""
    only(payload, "report", "campaign")
    if file_name:
        raise PayloadRefused({"file": ["This kind takes no file."]})
    match payload.get("report"):
        case "runs":
            return {"report": "runs"}
        case "deliveries":
            if not (user.is_staff and user.has_perm("campaigns.view_deliverylog")):
                raise PayloadRefused(
                    {"report": ["This needs an operator's account that may see deliveries."]}
                )
            campaign = payload.get("campaign")
            if not isinstance(campaign, int) or not Campaign.objects.filter(id=campaign).exists():
                raise PayloadRefused({"campaign": ["Give the id of a campaign."]})
            return {"report": "deliveries", "campaign": campaign}
    raise PayloadRefused({"report": ["Give one of runs, deliveries."]})


def _run(work: Work) -> WorkResult:
    given = work.payload
    if given["report"] == "deliveries":
        if not Campaign.objects.filter(id=given["campaign"]).exists():
            raise TaskFailed("The campaign is gone.")
        return _written(work, _DELIVERIES, given["campaign"])
    return _written(work, _RUNS, work.user.pk)


def _written(work: Work, query: str, argument: int) -> WorkResult:
    """Let PostgreSQL write the CSV; flat in memory, whatever its length."""
    file = work.folder / "report.csv"
    with connection.cursor() as cursor, file.open("wb") as target:
        with cursor.copy(f"COPY ({query}) TO STDOUT WITH (FORMAT csv, HEADER)", [argument]) as copy:
            for block in copy:
                target.write(block)
        rows = int(cursor.rowcount)
    work.still_ours()
    return WorkResult({"rows": rows}, file)


EXPORT_REPORT = Kind(
    "export_report",
    "Writes a CSV: the runs of your schedules, or the deliveries of a campaign (operators).",
    _check,
    _run,
    heavy=True,
)
