from django.apps import AppConfig


class SchedulesConfig(AppConfig):
    name = "schedules"

    def ready(self) -> None:
        """Listen for tasks that are deleted."""
        from schedules import deleting  # models can be imported only now

        deleting.connect()
