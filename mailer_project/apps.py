from django.apps import AppConfig


class MailerProjectConfig(AppConfig):
    """Installed so that `manage.py up` is found; it has no models."""

    name = "mailer_project"
