"""Wiring: settings, the Celery app, URLs, health, and the local stack."""

from mailer_project.celery import app as celery_app

__all__ = ["celery_app"]
