"""What follows from a failure: whose fault it is, and when to try again. Pure rules, no I/O."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum

MAX_DELAY = timedelta(hours=1)
DEFAULT_PAUSE = 10.0  # seconds, where a provider that wants a pause does not say how long
MIN_PAUSE, MAX_PAUSE = 1.0, 3600.0


class Consequence(Enum):
    """What the sender should do about an answer."""

    RECIPIENT_BAD = "recipient bad"
    """This address will never take mail: the delivery fails."""
    MESSAGE_BAD = "message bad"
    """This mail will never be taken as it is: the delivery fails, or a shared request is split."""
    TRY_LATER = "try later"
    """This mail was refused for now: the delivery is deferred."""
    PROVIDER_UNAVAILABLE = "provider unavailable"
    """Nothing can be sent this way at present: another provider, or the same one later."""
    SLOW_DOWN = "slow down"
    """The provider wants a pause: the same provider later."""
    UNKNOWN = "unknown"
    """It may have been accepted: the delivery is unconfirmed and is not sent again blindly."""


class Stage(Enum):
    """How far an SMTP conversation had come when the answer arrived (RFC 5321 §3.3)."""

    CONNECT = "connecting"
    MAIL = "MAIL FROM"
    RCPT = "RCPT TO"
    DATA = "DATA"
    DOT = "end of data"


# in words only where they speak of the sender: a recipient's domain may have limits of its own
_SENDER_LIMIT = re.compile(
    r"\b5\.4\.5\b|\b4\.7\.28\b|\btoo many login attempts\b"
    r"|\b(your|daily|hourly|user|account)\b[^.;]*\bsending (limit|quota)\b",
    re.IGNORECASE,
)


def smtp_reply(stage: Stage, code: int, text: str) -> Consequence:
    """Judge an SMTP reply (RFC 5321 §4.2, RFC 3463).

    421 announces the end of the connection at whatever stage it comes. Gmail answers an exhausted account
    with 550 5.4.5, one that mails too fast with 421 4.7.28 and one that logs in too often with 454 4.7.0:
    none is a fault of the recipient, and all pass.
    """
    if _SENDER_LIMIT.search(text):
        return Consequence.SLOW_DOWN
    if code == 421 or stage in (Stage.CONNECT, Stage.MAIL):
        return Consequence.PROVIDER_UNAVAILABLE
    if 400 <= code < 500:
        return Consequence.TRY_LATER
    if not 500 <= code < 600:
        return Consequence.UNKNOWN if stage is Stage.DOT else Consequence.PROVIDER_UNAVAILABLE
    return Consequence.RECIPIENT_BAD if stage is Stage.RCPT else Consequence.MESSAGE_BAD


def sendgrid_answer(status: int) -> Consequence | None:
    """Judge the HTTP status of a Mail Send request; None means accepted.

    500 and 503 are SendGrid's own refusals. 502, 504 and the other answers of gateways may come after the
    request was passed on; so may 408.
    """
    if 200 <= status < 300:
        return None
    if status == 429:
        return Consequence.SLOW_DOWN
    if status in (400, 413):
        return Consequence.MESSAGE_BAD
    if status == 408 or (status > 500 and status != 503):
        return Consequence.UNKNOWN
    return Consequence.PROVIDER_UNAVAILABLE


def asked_pause(retry_after: str, reset: str, *, now: datetime) -> float:
    """Return the seconds that a provider wants to be left alone, from the headers of its answer.

    `retry_after` is Retry-After, seconds or an HTTP date (RFC 9110 §10.2.3); else `reset`,
    X-RateLimit-Reset, seconds since 1970. Empty or unreadable values do not count; without either one it
    is DEFAULT_PAUSE. Never less than MIN_PAUSE nor more than MAX_PAUSE.
    """
    asked = _seconds(retry_after)
    if asked is None:
        asked = _until(retry_after, now)
    if asked is None and (moment := _seconds(reset)) is not None:
        asked = moment - now.timestamp()
    return DEFAULT_PAUSE if asked is None else min(max(asked, MIN_PAUSE), MAX_PAUSE)


def _seconds(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[0-9]{1,15}", text.strip()) else None


def _until(text: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    # a date without a zone means UTC
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()


def retry_delay(
    attempts: int, *, maximum: int, base: timedelta, jitter: Callable[[], float]
) -> timedelta | None:
    """Return how long a mail that was refused `attempts` times waits for the next try, or None to give up.

    The delay is base, 4 base, 16 base ... up to an hour, times a factor of 0.5 to 1.5 drawn by
    `jitter`, which returns a number from 0 to 1.
    """
    return None if attempts >= maximum else backoff(attempts, base=base, jitter=jitter)


def backoff(failures: int, *, base: timedelta, jitter: Callable[[], float]) -> timedelta:
    """Return the pause after the `failures`-th failure in a row, counted from 1."""
    grown: timedelta = base * 4 ** min(max(failures - 1, 0), 10)
    return min(MAX_DELAY, grown) * (0.5 + jitter())
