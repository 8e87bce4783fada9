"""Every setting, read from the environment.

Order of precedence: the process's environment, `.env`, then `.local/env`, which `manage.py up` writes
for the services it starts. `.env.example` lists and explains each name.
"""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from celery.schedules import crontab
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from django.urls import reverse_lazy
from kombu import Exchange, Queue

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
LOCAL_DIR = Path(env.str("LOCAL_DIR", default=str(BASE_DIR / ".local")))
for env_file in (BASE_DIR / ".env", LOCAL_DIR / "env"):
    if env_file.exists():
        env.read_env(env_file)


def number(name: str, default: int, *, least: int, most: int | None = None) -> int:
    """Read a whole number. Raises ImproperlyConfigured naming the setting and what it may be."""
    text = env.str(name, default="") or str(default)
    span = f"at least {least}" if most is None else f"{least} to {most}"
    try:
        value = int(text)
    except ValueError:
        raise ImproperlyConfigured(f"{name} is {text!r}; it must be a whole number, {span}.") from None
    if value < least or (most is not None and value > most):
        raise ImproperlyConfigured(f"{name} is {value}; it must be {span}.")
    return value


# --- Site ---------------------------------------------------------------------------------------

DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default="")
PUBLIC_URL = env.str("PUBLIC_URL", default="http://127.0.0.1:8000").rstrip("/")
_HOST = re.sub("[^a-z0-9]", "", urlsplit(PUBLIC_URL).hostname or "")
FEEDBACK_ID = env.str("FEEDBACK_ID", default="") or _HOST[:15].ljust(5, "0")
if not re.fullmatch("[A-Za-z0-9]{5,15}", FEEDBACK_ID):
    raise ImproperlyConfigured("FEEDBACK_ID takes 5 to 15 letters and digits.")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost"])
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PUBLIC_URL.startswith("https://")
X_FRAME_OPTIONS = "SAMEORIGIN"  # the template preview is a sandboxed frame on our own pages

ROOT_URLCONF = "mailer_project.urls"
WSGI_APPLICATION = "mailer_project.wsgi.application"
ASGI_APPLICATION = "mailer_project.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "mailer_project",
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "django_celery_results",
    "users",
    "schedules",
    "campaigns",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "mailer_project.outage.DatabaseAwayMiddleware",
]

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = env.str("TIME_ZONE", default="Asia/Kolkata")
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = env.str("STATIC_ROOT", default=str(BASE_DIR / "staticfiles"))
MEDIA_ROOT = env.str("MEDIA_ROOT", default=str(BASE_DIR / "media"))  # uploaded imports and their reports
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}

# --- People -------------------------------------------------------------------------------------

AUTH_USER_MODEL = "users.User"
REGISTRATION_OPEN = env.bool("REGISTRATION_OPEN", default=True)
PASSWORD_RESET_TIMEOUT = 24 * 3600  # seconds
LOGIN_URL = reverse_lazy("admin:login")
LOGIN_REDIRECT_URL = reverse_lazy("admin:index")
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# --- PostgreSQL, Redis --------------------------------------------------------------------------


def _database() -> dict[str, Any]:
    """DATABASE_URL, or DB_NAME and its companions; empty when neither is set (Django then says so).

    Connections are kept from task to task and from request to request: logging in and preparing
    statements anew cost a quarter of a batch. One that has died meanwhile is replaced.
    """
    kept: dict[str, Any] = {"CONN_MAX_AGE": number("CONN_MAX_AGE", 600, least=0), "CONN_HEALTH_CHECKS": True}
    if env.str("DATABASE_URL", default=""):
        database = env.db("DATABASE_URL")
        return {**kept, **database, "OPTIONS": {"connect_timeout": 5, **database.get("OPTIONS", {})}}
    if not env.str("DB_NAME", default=""):
        return {}
    return {
        **kept,
        "ENGINE": "django.db.backends.postgresql",
        "NAME": env.str("DB_NAME"),
        "USER": env.str("DB_USER", default="mailer"),
        "PASSWORD": env.str("DB_PASSWORD", default=""),
        "HOST": env.str("DB_HOST", default="127.0.0.1"),
        "PORT": env.str("DB_PORT", default="5432"),
        "OPTIONS": {"connect_timeout": 5},
    }


DATABASES = {"default": _database()}
REDIS_URL = env.str("REDIS_URL", default="redis://127.0.0.1:6379/0")
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "mailer",
        "OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 1},
    }
}

# --- Celery -------------------------------------------------------------------------------------
# PostgreSQL holds the truth; a message only says "look at batch 17". Losing or doubling one costs time.

CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default=REDIS_URL)
CELERY_RESULT_BACKEND = env.str("CELERY_RESULT_BACKEND", default="django-db")
CELERY_RESULT_EXTENDED = True
CELERY_TIMEZONE = "UTC"
_ON_RABBITMQ = CELERY_BROKER_URL.startswith("amqp")


def _queue(name: str) -> Queue:
    """A list in Redis; on RabbitMQ a quorum queue, whose messages are on disk before they are confirmed."""
    if not _ON_RABBITMQ:
        return Queue(name, Exchange(name), routing_key=name)
    # Celery lets RabbitMQ count down to a quorum queue only behind a topic exchange
    exchange = Exchange(name, type="topic")
    return Queue(name, exchange, routing_key=name, queue_arguments={"x-queue-type": "quorum"})


CELERY_TASK_QUEUES = [_queue(name) for name in ("scheduler", "senders", "transactional", "imports")]
CELERY_TASK_DEFAULT_QUEUE = "scheduler"
CELERY_TASK_ROUTES = {
    "campaigns.tasks.send_batch": {"queue": "senders"},
    "campaigns.tasks.send_test": {"queue": "transactional"},
    "campaigns.tasks.send_outbound": {"queue": "transactional"},
    "campaigns.tasks.import_recipients": {"queue": "imports"},
    "schedules.tasks.run_task": {"queue": "transactional"},
    "schedules.tasks.run_heavy_task": {"queue": "imports"},
}
CELERY_WORKER_PREFETCH_MULTIPLIER = number("CELERY_WORKER_PREFETCH_MULTIPLIER", 1, least=0)
CELERY_WORKER_SEND_TASK_EVENTS = False  # where Flower runs, workers are started with --task-events
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False  # a batch in hand is finished
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_CHANNEL_ERROR_RETRY = True  # RabbitMQ lost a queue, or still holds a dead connection's: go on
CELERY_BROKER_HEARTBEAT = 30  # seconds, RabbitMQ only; either side gives the other up after two
CELERY_BROKER_NATIVE_DELAYED_DELIVERY_QUEUE_TYPE = "classic"  # 28 queues for a test mail's retry; light ones
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = (
    {"confirm_publish": True, "read_timeout": 30, "write_timeout": 30}
    if _ON_RABBITMQ
    else {
        "visibility_timeout": 600,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }
)
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2}
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_SCHEDULE = {
    "check scheduled campaigns": {
        "task": "campaigns.tasks.check_scheduled_campaigns",
        "schedule": crontab(minute="*"),
        "options": {"expires": 55},  # a tick that nobody took in time is replaced by the next one
    },
    "check schedules": {
        "task": "schedules.tasks.check_schedules",
        "schedule": crontab(minute="*"),
        "options": {"expires": 55},
    },
}

# --- Campaigns ----------------------------------------------------------------------------------

CAMPAIGN_BATCH_SIZE = number("CAMPAIGN_BATCH_SIZE", 200, least=1, most=1000)  # as one SendGrid request takes
CAMPAIGN_WINDOW = number("CAMPAIGN_WINDOW", 32, least=1)  # batches of one campaign in the queue at a time
LEASE_SECONDS = number("LEASE_SECONDS", 180, least=10)
UNCONFIRMED_POLICY = env.str("UNCONFIRMED_POLICY", default="hold")  # or "resend"
SMTP_DECLARE_WINDOW = number("SMTP_DECLARE_WINDOW", 10, least=1, most=1000)
RETRY_MAX_ATTEMPTS = number("RETRY_MAX_ATTEMPTS", 3, least=1)
RETRY_BASE_SECONDS = number("RETRY_BASE_SECONDS", 60, least=1)

ATTACHMENTS_MAX = env.int("ATTACHMENTS_MAX", default=10)
ATTACHMENT_MAX_BYTES = env.int("ATTACHMENT_MAX_BYTES", default=5 * 1024 * 1024)
ATTACHMENTS_MAX_TOTAL_BYTES = env.int("ATTACHMENTS_MAX_TOTAL_BYTES", default=10 * 1024 * 1024)

# --- Schedules ----------------------------------------------------------------------------------

SCHEDULES_PER_USER = number("SCHEDULES_PER_USER", 100, least=1)  # operators may have more
TASKS_PER_USER = number("TASKS_PER_USER", 100, least=1)  # the same
TASK_RETRY_SECONDS = number("TASK_RETRY_SECONDS", 20, least=1)  # the first pause; it grows with each try
# of those who are no operators; 0: to themselves only, as anybody may register
TASK_MAIL_RECIPIENTS = number("TASK_MAIL_RECIPIENTS", 0, least=0, most=100)
TASK_MAILS_PER_DAY = number(
    "TASK_MAILS_PER_DAY", 100, least=0
)  # of one of them, with what tells them of tasks
SCHEDULE_MAILS_PER_DAY = number("SCHEDULE_MAILS_PER_DAY", 100, least=0)  # of one of them, beside those

# --- Imports ------------------------------------------------------------------------------------

IMPORT_MAX_BYTES = number("IMPORT_MAX_BYTES", 100 * 1024 * 1024, least=1)
IMPORT_MAX_EXPANDED_BYTES = number("IMPORT_MAX_EXPANDED_BYTES", 1024 * 1024 * 1024, least=1)
IMPORT_MAX_RATIO = number("IMPORT_MAX_RATIO", 100, least=1)
IMPORT_MAX_COLUMNS = number("IMPORT_MAX_COLUMNS", 100, least=1)
IMPORT_MAX_CELL = number("IMPORT_MAX_CELL", 10_000, least=1)  # characters

# --- Single mails -------------------------------------------------------------------------------

EMAIL_BACKEND = env.str("EMAIL_BACKEND", default="campaigns.mail.QueuedEmailBackend")
SEND_EMAIL_MAX_RECIPIENTS = number("SEND_EMAIL_MAX_RECIPIENTS", 100, least=1, most=1000)

# --- Providers ----------------------------------------------------------------------------------

EMAIL_PROVIDERS = env.list("EMAIL_PROVIDERS", default=["sendgrid", "smtp"])
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="")

SENDGRID_API_KEY = env.str("SENDGRID_API_KEY", default="")
SENDGRID_API_HOST = env.str("SENDGRID_API_HOST", default="https://api.sendgrid.com").rstrip("/")
SENDGRID_FROM_EMAIL = env.str("SENDGRID_FROM_EMAIL", default="")
SENDGRID_RATE_LIMIT_PER_SEC = number("SENDGRID_RATE_LIMIT_PER_SEC", 600, least=0)

EMAIL_HOST = env.str("EMAIL_HOST", default="smtp.gmail.com")
EMAIL_PORT = number("EMAIL_PORT", 587, least=1, most=65_535)
EMAIL_HOST_USER = env.str("EMAIL_HOST_USER", default="")
EMAIL_HOST_PASSWORD = env.str("EMAIL_HOST_PASSWORD", default="")
EMAIL_USE_TLS = env.bool("EMAIL_USE_TLS", default=True)
EMAIL_TIMEOUT = number("EMAIL_TIMEOUT", 30, least=1)
SMTP_CONNECTIONS = number("SMTP_CONNECTIONS", 4, least=1, most=50)
SMTP_MAILS_PER_CONNECTION = number("SMTP_MAILS_PER_CONNECTION", 100, least=1)
SMTP_RATE_LIMIT_PER_SEC = number("SMTP_RATE_LIMIT_PER_SEC", 20, least=0)
SMTP_DAILY_LIMIT = number("SMTP_DAILY_LIMIT", 2000, least=0)

# --- Admin --------------------------------------------------------------------------------------


def _page(title: str, icon: str, name: str, permission: str) -> dict[str, Any]:
    """One line of the sidebar, for those who have the permission."""
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{name}"),
        "permission": lambda request: request.user.has_perm(permission),
    }


def _list(title: str, icon: str, app: str, model: str) -> dict[str, Any]:
    return _page(title, icon, f"{app}_{model}_changelist", f"{app}.view_{model}")


UNFOLD = {
    "SITE_TITLE": "Mailer",
    "SITE_HEADER": "Mailer",
    "SITE_SYMBOL": "outgoing_mail",
    "SITE_URL": None,
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("campaigns/icon.svg")}
    ],
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "campaigns.admin.dashboard.context",
    "STYLES": [lambda request: static("campaigns/admin.css")],
    "SCRIPTS": [lambda request: static("campaigns/admin.js")],
    "SIDEBAR": {
        "navigation": [
            {
                "items": [
                    {"title": "Overview", "icon": "dashboard", "link": reverse_lazy("admin:index")},
                ],
            },
            {
                "title": "Campaigns",
                "items": [
                    _list("Campaigns", "campaign", "campaigns", "campaign"),
                    _list("Templates", "drafts", "campaigns", "emailtemplate"),
                ],
            },
            {
                "title": "Audiences",
                "items": [
                    _list("Audiences", "groups", "campaigns", "audience"),
                    _list("Recipients", "person", "campaigns", "recipient"),
                    _page("Import recipients", "upload_file", "import_recipients", "campaigns.add_importjob"),
                    _list("Imports", "history", "campaigns", "importjob"),
                ],
            },
            {
                "title": "Deliveries",
                "items": [
                    _list("Delivery log", "mark_email_read", "campaigns", "deliverylog"),
                    _list("Batches", "stacks", "campaigns", "batch"),
                    _list("Single mails", "outgoing_mail", "campaigns", "outboundemail"),
                    _list("Suppressions", "block", "campaigns", "suppression"),
                ],
            },
            {
                "title": "Schedules and tasks",
                "items": [
                    _list("Schedules", "event_repeat", "schedules", "schedule"),
                    _list("Schedule runs", "event_available", "schedules", "schedulerun"),
                    _list("Broadcasts", "cell_tower", "schedules", "broadcast"),
                    _list("Tasks", "task_alt", "schedules", "task"),
                    _list("Task runs", "rule", "schedules", "taskrun"),
                ],
            },
            {
                "title": "System",
                "items": [
                    _list("Users", "badge", "users", "user"),
                    _list("Groups", "shield_person", "auth", "group"),
                    _list("Periodic tasks", "schedule", "django_celery_beat", "periodictask"),
                    _list("Task results", "checklist", "django_celery_results", "taskresult"),
                ],
            },
        ],
    },
}

FLOWER_URL = env.str("FLOWER_URL", default="")  # where the admin's link to Flower leads

# --- REST API -----------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        # first, so that an anonymous call is answered 401 with WWW-Authenticate and not 403
        "rest_framework_simplejwt.authentication.JWTAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAdminUser"],
    "DEFAULT_PARSER_CLASSES": ["mailer_project.rest.BoundedJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PAGINATION_CLASS": "mailer_project.rest.Pages",
    "DEFAULT_THROTTLE_CLASSES": ["mailer_project.rest.Throttle"],
    "DEFAULT_THROTTLE_RATES": {  # for each address
        "token": env.str("LOGIN_RATE", default="10/min"),
        "register": env.str("REGISTER_RATE", default="20/hour"),
        "reset": env.str("RESET_RATE", default="20/hour"),
    },
    # how many proxies of ours stand before us: what X-Forwarded-For says beyond them is the client's own word
    "NUM_PROXIES": number("TRUSTED_PROXIES", 0, least=0),
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "mailer_project.problems.handle",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=30),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=7),
    "ROTATE_REFRESH_TOKENS": True,  # each is good for one use: users.models.EndedToken
    "CHECK_REVOKE_TOKEN": True,  # a new password ends every token given before
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Mailer",
    "DESCRIPTION": "Campaigns to audiences: nothing lost, nothing silently sent twice. "
    "Times are UTC (RFC 3339); errors are application/problem+json (RFC 9457). "
    "A body that names an unknown field is refused; read-only fields in it are ignored.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "COMPONENT_SPLIT_REQUEST": True,
    "PREPROCESSING_HOOKS": ["mailer_project.openapi.one_version"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "mailer_project.openapi.with_problems",
    ],
    "ENUM_NAME_OVERRIDES": {
        "CampaignStatus": "campaigns.models.CampaignStatus",
        "DeliveryStatus": "campaigns.models.DeliveryStatus",
        "ImportStatus": "campaigns.models.ImportStatus",
        "TaskKind": "schedules.kinds.CHOICES",
        "MailDecision": "campaigns.outbound.Verb",
        "Decision": "campaigns.models.Decision",
    },
    # the pages work without the Internet; the favicon's default is on a CDN
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}

# --- Logging ------------------------------------------------------------------------------------

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "filters": {"no trace of refusals": {"()": "mailer_project.logs.NoTraceOfRefusals"}},
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "filters": ["no trace of refusals"],
        }
    },
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
}

if UNCONFIRMED_POLICY not in ("hold", "resend"):
    raise ImproperlyConfigured(f"UNCONFIRMED_POLICY is {UNCONFIRMED_POLICY!r}; it must be hold or resend.")
if not EMAIL_PROVIDERS or len(set(EMAIL_PROVIDERS)) < len(EMAIL_PROVIDERS):
    raise ImproperlyConfigured(
        f"EMAIL_PROVIDERS is {','.join(EMAIL_PROVIDERS)!r}; it must name at least one provider, each once."
    )
for _name in EMAIL_PROVIDERS:
    if _name not in ("sendgrid", "smtp"):
        raise ImproperlyConfigured(f"EMAIL_PROVIDERS names {_name!r}; there are: sendgrid, smtp.")
