"""The admin's pages of what happens when."""

from schedules.admin import beat

__all__ = ["beat"]
