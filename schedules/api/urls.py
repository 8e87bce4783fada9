"""The addresses of what users plan."""

from rest_framework.routers import SimpleRouter

from schedules.api.schedules import ScheduleView

router = SimpleRouter()
router.register("schedules", ScheduleView)

urlpatterns = router.urls
