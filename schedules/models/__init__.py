"""The tables: preferred times and jobs of users, and what came of each moment."""

from schedules.models.schedule import Broadcast, MailsOfDay, RunState, Schedule, ScheduleRun, ScheduleState
from schedules.models.task import Task, TaskRun, TaskRunState, TaskStatus

__all__ = [
    "Broadcast",
    "MailsOfDay",
    "RunState",
    "Schedule",
    "ScheduleRun",
    "ScheduleState",
    "Task",
    "TaskRun",
    "TaskRunState",
    "TaskStatus",
]
