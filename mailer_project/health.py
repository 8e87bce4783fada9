"""Whether this process lives, and whether it can reach what it needs; for load balancers and supervisors."""

import logging
from collections.abc import Callable
from http import HTTPStatus

import redis
from django.conf import settings
from django.db import connections
from django.http import HttpRequest, HttpResponse, JsonResponse
from kombu import Connection

from campaigns import vitals

TIMEOUT = 2  # seconds for each part
logger = logging.getLogger(__name__)


def live(request: HttpRequest) -> HttpResponse:
    """200 as long as this process can answer; touches nothing else."""
    return JsonResponse({"status": "ok"})


def ready(request: HttpRequest) -> HttpResponse:
    """200 if database, Redis and broker answer, otherwise 503; JSON names each part's state.

    `last_tick` is when the minute tick last ran (RFC 3339), or null if that is unknown. A late one makes
    nothing unready: this process can do its work.
    """
    parts = {name: _state(name, check) for name, check in CHECKS.items()}
    fine = all(state == "ok" for state in parts.values())
    status = HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE
    tick_at = vitals.look().tick_at if parts["redis"] == "ok" else None
    last_tick = tick_at.isoformat(timespec="seconds").replace("+00:00", "Z") if tick_at else None
    document = {"status": "ok" if fine else "unavailable", **parts, "last_tick": last_tick}
    return JsonResponse(document, status=status)


def _state(name: str, check: Callable[[], None]) -> str:
    try:
        check()
    except Exception as error:  # whatever goes wrong is the answer
        logger.warning("Not ready: %s: %s", name, error)
        return f"unreachable ({type(error).__name__})"  # the message would tell addresses to strangers
    return "ok"


def _database() -> None:
    """Connect anew: an open connection says nothing about the next one, and its time limit is not ours."""
    connection = connections["default"].copy()
    connection.settings_dict = {
        **connection.settings_dict,
        "OPTIONS": {**connection.settings_dict.get("OPTIONS", {}), "connect_timeout": TIMEOUT, "pool": False},
    }
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connection.close()


def _redis() -> None:
    with redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=TIMEOUT, socket_timeout=TIMEOUT
    ) as client:
        client.ping()


def _broker() -> None:
    url = settings.CELERY_BROKER_URL
    names = ("socket_connect", "socket") if url.startswith("redis") else ("read", "write")
    limits = {f"{name}_timeout": TIMEOUT for name in names}
    with Connection(url, connect_timeout=TIMEOUT, transport_options=limits) as connection:
        connection.ensure_connection(max_retries=1, timeout=TIMEOUT)
        connection.channel()  # the Redis transport connects, and logs in, only now


CHECKS: dict[str, Callable[[], None]] = {"database": _database, "redis": _redis, "broker": _broker}
