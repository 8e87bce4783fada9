"""The addresses of what users plan."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from schedules.api.schedules import ScheduleView
from schedules.api.tasks import TaskView

router = SimpleRouter()
router.register("schedules", ScheduleView)
router.register("tasks", TaskView)

RUN = "tasks/<int:pk>/runs/<int:run_id>/"

urlpatterns = [
    path(RUN, TaskView.as_view({"get": "run_of"})),
    path(f"{RUN}file/", TaskView.as_view({"get": "run_file"})),
    *router.urls,
]
