"""What has come of the runs of schedules, in counts of one instant."""

from dataclasses import dataclass

from django.db.models import Count, Q

from schedules.models import RunState, ScheduleRun

_PENDING = Q(state=RunState.DUE) | Q(delivery__status__in=["pending", "deferred"])
_LOST = Q(state=RunState.SENDING, delivery=None)  # its campaign was deleted


@dataclass(frozen=True, slots=True)
class Outcomes:
    """total = pending + sent + failed + suppressed + unconfirmed + cancelled + missed."""

    total: int
    pending: int
    sent: int
    failed: int
    suppressed: int
    unconfirmed: int
    cancelled: int
    missed: int


def of(user_id: int | None = None) -> Outcomes:
    """Count the runs of one user, or of everybody."""
    runs = ScheduleRun.objects.order_by()
    if user_id is not None:
        runs = runs.filter(schedule__user_id=user_id)
    counts = runs.aggregate(
        total=Count("id"),
        pending=Count("id", filter=_PENDING),
        sent=Count("id", filter=Q(delivery__status="sent")),
        failed=Count("id", filter=Q(state=RunState.FAILED) | Q(delivery__status="failed")),
        suppressed=Count("id", filter=Q(delivery__status="suppressed")),
        unconfirmed=Count("id", filter=Q(delivery__status="unconfirmed")),
        cancelled=Count("id", filter=Q(delivery__status="cancelled") | _LOST),
        missed=Count("id", filter=Q(state=RunState.MISSED)),
    )
    return Outcomes(**counts)


def of_run(run: ScheduleRun) -> str:
    """Return what became of one run, in the words of `Outcomes`; it has its delivery loaded."""
    if run.state == RunState.SENDING:
        status = run.delivery.status if run.delivery else "cancelled"
        return "pending" if status in ("pending", "deferred") else status
    return "pending" if run.state == RunState.DUE else run.state
