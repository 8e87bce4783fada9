"""The tables of django-celery-beat and django-celery-results in our admin's look.

Beat's table holds the few jobs of the system, such as the minute tick; users' schedules are rows of our own.
"""

from typing import Any

from django.contrib import admin
from django_celery_beat import admin as beat
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)
from django_celery_results import admin as results
from django_celery_results.models import GroupResult, TaskResult

from users.admin_theme import AdminTextInputWidget, ModelAdmin, Select


class TaskSelect(Select, beat.TaskSelectWidget):  # type: ignore[misc]  # the package ships no types
    """The registered tasks, in the theme's select."""


class PeriodicTaskForm(beat.PeriodicTaskForm):  # type: ignore[misc]  # the package ships no types
    """The package's form with the theme's widgets for the two fields that it declares itself."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = AdminTextInputWidget()
        self.fields["regtask"].widget = TaskSelect()


def _in_our_look(model: Any, package_admin: Any, **attributes: Any) -> None:
    admin.site.unregister(model)
    admin.site.register(model, type(package_admin.__name__, (package_admin, ModelAdmin), attributes))


_in_our_look(PeriodicTask, beat.PeriodicTaskAdmin, form=PeriodicTaskForm)
_in_our_look(IntervalSchedule, beat.IntervalScheduleAdmin, inlines=[])
_in_our_look(CrontabSchedule, beat.CrontabScheduleAdmin, inlines=[])
_in_our_look(SolarSchedule, beat.SolarScheduleAdmin, inlines=[])
_in_our_look(ClockedSchedule, beat.ClockedScheduleAdmin, inlines=[])
_in_our_look(TaskResult, results.TaskResultAdmin)
_in_our_look(GroupResult, results.GroupResultAdmin)
