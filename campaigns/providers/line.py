"""Which providers this installation uses, in which order: EMAIL_PROVIDERS and what belongs to each."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from redis import Redis

from campaigns import throttle
from campaigns.providers.base import Provider
from campaigns.providers.conversation import SmtpAccount
from campaigns.providers.sendgrid import SendGrid
from campaigns.providers.smtp import Smtp
from campaigns.throttle import Limit


@dataclass(frozen=True, slots=True)
class Line:
    """The providers in the order in which they are tried, and the Redis that keeps their limits."""

    providers: tuple[Provider, ...]
    redis: Redis


def configured_limits() -> tuple[Limit, ...]:
    """Return the limit of each provider of EMAIL_PROVIDERS that is known, in that order."""
    return tuple(_limit(name) for name in settings.EMAIL_PROVIDERS if name in _PROVIDERS)


def _limit(name: str) -> Limit:
    if name == "smtp":
        return Limit(name, settings.SMTP_RATE_LIMIT_PER_SEC, settings.SMTP_DAILY_LIMIT)
    return Limit(name, settings.SENDGRID_RATE_LIMIT_PER_SEC)


def _sendgrid() -> Provider:
    try:
        return SendGrid(
            settings.SENDGRID_API_KEY.strip(),
            _limit("sendgrid"),
            host=settings.SENDGRID_API_HOST,
            from_email=settings.SENDGRID_FROM_EMAIL,
        )
    except ValueError as error:
        raise ImproperlyConfigured(f"SENDGRID_API_KEY: {error}.") from error


def _smtp() -> Provider:
    account = SmtpAccount(
        host=settings.EMAIL_HOST,
        port=settings.EMAIL_PORT,
        user=settings.EMAIL_HOST_USER,
        password=settings.EMAIL_HOST_PASSWORD,
        use_tls=settings.EMAIL_USE_TLS,
        timeout=settings.EMAIL_TIMEOUT,
        mails_per_connection=settings.SMTP_MAILS_PER_CONNECTION,
    )
    return Smtp(account, _limit("smtp"), window=settings.SMTP_DECLARE_WINDOW)


_PROVIDERS: dict[str, Callable[[], Provider]] = {"sendgrid": _sendgrid, "smtp": _smtp}


@cache
def configured_line() -> Line:
    """Return this process's line, made once. Raises ImproperlyConfigured for a name that is unknown."""
    for name in settings.EMAIL_PROVIDERS:
        if name not in _PROVIDERS:
            known = ", ".join(_PROVIDERS)
            raise ImproperlyConfigured(f"EMAIL_PROVIDERS names {name!r}; there are: {known}.")
    providers = tuple(_PROVIDERS[name]() for name in settings.EMAIL_PROVIDERS)
    return Line(providers, throttle.connect(settings.REDIS_URL))
