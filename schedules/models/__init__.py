"""The tables: preferred times of users and what came of each moment."""

from schedules.models.schedule import Broadcast, RunState, Schedule, ScheduleRun, ScheduleState

__all__ = ["Broadcast", "RunState", "Schedule", "ScheduleRun", "ScheduleState"]
