"""Settings of the peers' project. The bench sets BENCH_DATABASE and BENCH_PLACE, and the ports."""

import json
import os

SECRET_KEY = "only-for-the-bench"
USE_TZ = True
DATABASES = {"default": {**json.loads(os.environ["BENCH_DATABASE"]), "CONN_MAX_AGE": None}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "mailer", "post_office"]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [os.environ["BENCH_PLACE"]],
        "APP_DIRS": True,
    },
]

EMAIL_HOST = "127.0.0.1"
EMAIL_PORT = int(os.environ.get("BENCH_SMTP_PORT", "1"))
SENDGRID_HOST = f"http://127.0.0.1:{os.environ.get('BENCH_HTTP_PORT', '1')}"

# https://pypi.org/project/django-post-office/
POST_OFFICE = {"BACKENDS": {"default": "django.core.mail.backends.smtp.EmailBackend"}}
# https://github.com/pinax/django-mailer/blob/master/docs/usage.rst
MAILER_EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
MAILER_LOCK_PATH = os.path.join(os.environ["BENCH_PLACE"], "send_mail")  # it wants a str

LOGGING_CONFIG = None
