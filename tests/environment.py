"""The settings of everything that is tested, so that a developer's `.env` has no say: it comes second."""

ENVIRONMENT = {
    "SECRET_KEY": "only-for-the-tests-and-at-least-fifty-characters-long",
    "DEBUG": "false",
    "TIME_ZONE": "Asia/Kolkata",
    "PUBLIC_URL": "http://127.0.0.1:8000",
    "ALLOWED_HOSTS": "127.0.0.1,localhost,testserver",
    "CELERY_RESULT_BACKEND": "django-db",
    "EMAIL_PROVIDERS": "smtp",
    "EMAIL_HOST": "127.0.0.1",
    "EMAIL_PORT": "1",  # nobody listens there; a test that sends brings its own server
    "EMAIL_HOST_USER": "",
    "EMAIL_HOST_PASSWORD": "",
    "EMAIL_USE_TLS": "false",
    "SMTP_RATE_LIMIT_PER_SEC": "0",
    "SMTP_DAILY_LIMIT": "0",
    "DEFAULT_FROM_EMAIL": "sender@example.com",
    "SENDGRID_API_KEY": "",
    "SENDGRID_API_HOST": "http://127.0.0.1:1",
    "SENDGRID_FROM_EMAIL": "",
    "SENDGRID_WEBHOOK_PUBLIC_KEY": "",
}
