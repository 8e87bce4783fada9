"""The admin's pages of what happens when."""

from schedules.admin import beat, broadcasts, schedules, tasks

__all__ = ["beat", "broadcasts", "schedules", "tasks"]
