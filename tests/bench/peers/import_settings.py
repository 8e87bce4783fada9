"""Settings of the project in which django-import-export imports; see `imports`."""

import json
import os

SECRET_KEY = "only-for-the-bench"
USE_TZ = True
DATABASES = {"default": json.loads(os.environ["BENCH_DATABASE"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "import_export",
    "tests.bench.peers.people",
]
LOGGING_CONFIG = None
