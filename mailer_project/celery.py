"""The Celery application `mailer_project`; its settings are the CELERY_* names in settings.py."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mailer_project.settings")

app = Celery("mailer_project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.steps["consumer"].add("mailer_project.declaring:DeclareQueues")  # by name: only workers load it
