"""The Celery application `mailer_project`; its settings are the CELERY_* names in settings.py."""

import os
import sys

from celery import Celery
from celery.signals import task_prerun
from django.db import close_old_connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mailer_project.settings")

app = Celery("mailer_project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.steps["consumer"].add("mailer_project.declaring:DeclareQueues")  # by name: only workers load it

# Celery closes a worker's database connections after every task, whatever CONN_MAX_AGE says, unless it is
# told to count tasks. Django's rule holds instead: what is old or has died is replaced before a task begins.
app.conf["CELERY_DB_REUSE_MAX"] = sys.maxsize


@task_prerun.connect
def _look_at_connections(**_: object) -> None:
    close_old_connections()
