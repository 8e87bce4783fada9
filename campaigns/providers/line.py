"""Which providers this installation uses, in which order: EMAIL_PROVIDERS and what belongs to each."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from redis import Redis

from campaigns import throttle
from campaigns.providers.base import Provider
from campaigns.providers.conversation import DOT_TIMEOUT, SmtpAccount
from campaigns.providers.sendgrid import CONNECT_TIMEOUT, READ_TIMEOUT, SendGrid
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


def _longest_wait() -> float:
    """Return the seconds that one request may take without outlasting the lease of its batch."""
    return float(settings.LEASE_SECONDS - 6)  # a worker gives its lease up five seconds early


def _sendgrid() -> Provider:
    try:
        return SendGrid(
            settings.SENDGRID_API_KEY.strip(),
            _limit("sendgrid"),
            host=settings.SENDGRID_API_HOST,
            read_timeout=min(READ_TIMEOUT, max(_longest_wait() - CONNECT_TIMEOUT, _longest_wait() / 2)),
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
        # one mail waits for three answers and that to its dot, and its batch must still be ours after that
        timeout=min(settings.EMAIL_TIMEOUT, _longest_wait() / 6),
        dot_timeout=min(DOT_TIMEOUT, _longest_wait() / 2),
        mails_per_connection=settings.SMTP_MAILS_PER_CONNECTION,
    )
    return Smtp(
        account,
        _limit("smtp"),
        window=settings.SMTP_DECLARE_WINDOW,
        connections=settings.SMTP_CONNECTIONS,
    )


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
