"""The broker as a publisher sees it: Redis or RabbitMQ, asked with little patience.

A message is only a hint, so a broker that is away or hangs must cost seconds, not more: a person may be
waiting for the answer. The consumers' own connections, which Celery keeps, are more patient.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import local
from typing import cast

from celery import current_app
from kombu import Connection
from kombu.exceptions import ChannelError, OperationalError

logger = logging.getLogger(__name__)

PATIENCE = 2  # seconds for each answer of the broker
QUICK_PATIENCE = 0.25  # the same for those who cannot wait at all
REST = 10.0  # seconds for which these do not ask it again after it was away
_NO_QUEUE = "404"


class BrokerAway(Exception):
    """The broker cannot be reached, hangs, or refuses; what it was to be told is found by the next tick."""


class _Kept(local):
    """A thread's connection for what must be quick, and for which process and broker it was made."""

    connection: Connection | None = None
    made_for: tuple[int, str] | None = None


_kept = _Kept()
_rest_until = 0.0  # on the monotonic clock, for all threads


def quickly(use: Callable[[Connection], object]) -> None:
    """Call `use` with a connection that is kept; raises BrokerAway at once while the broker is known away.

    An old connection may have died unnoticed, so it is tried a second time with a new one.
    """
    global _rest_until
    if time.monotonic() < _rest_until:
        raise BrokerAway("it was away a moment ago")
    is_new = _kept.connection is None or _kept.made_for != _here()
    try:
        _use_kept(use)
    except BrokerAway:
        if not is_new:
            quickly(use)
            return
        _rest_until = time.monotonic() + REST
        logger.warning("the broker is away and is left alone for %s seconds; ticks make up for that", REST)
        raise


def _use_kept(use: Callable[[Connection], object]) -> None:
    if _kept.connection is None or _kept.made_for != _here():
        _kept.connection, _kept.made_for = _impatient(QUICK_PATIENCE), _here()
    connection = _kept.connection
    try:
        connection.ensure_connection(max_retries=0)
        use(connection)
    except BaseException as error:
        _kept.connection = None
        connection.collect()
        if isinstance(error, _away(connection)):
            raise BrokerAway(repr(error)) from error
        raise


def _here() -> tuple[int, str]:
    """Return what a connection is good for: a process after a fork must not use its parent's."""
    return os.getpid(), str(current_app.conf.broker_url)


@contextmanager
def connected() -> Iterator[Connection]:
    """Give a connection of its own, for one purpose; raises BrokerAway within seconds, from inside too."""
    connection = _impatient(PATIENCE)
    try:
        connection.ensure_connection(max_retries=0)
        yield connection
    except _away(connection) as error:
        connection.collect()  # no farewell, which a broker that hangs would not answer either
        raise BrokerAway(repr(error)) from error
    except BaseException:
        connection.collect()
        raise
    connection.release()


def messages_in(queue: str) -> int | None:
    """Return how many messages wait in the queue, or None when the broker does not answer.

    Messages that a worker has taken and not acknowledged are not counted, on either broker.
    """
    try:
        with connected() as connection:
            return _waiting_in(queue, connection)
    except BrokerAway as error:
        logger.warning("how many messages the broker holds is not known: %s", error)
        return None


def _waiting_in(queue: str, connection: Connection) -> int:
    try:
        declared = connection.default_channel.queue_declare(queue, passive=True)  # type: ignore[attr-defined]  # kombu's stubs lack it
    except ChannelError as error:
        if str(error.reply_code) != _NO_QUEUE:
            raise
        return 0  # RabbitMQ lost it, or nobody has used it yet; in Redis an empty queue does not exist
    return int(declared.message_count)


def _impatient(patience: float) -> Connection:
    """Return a connection, not made yet, that waits for each answer for so many seconds at most."""
    return current_app.connection_for_write(transport_options=_impatience(patience), connect_timeout=patience)


def _impatience(patience: float) -> dict[str, float]:
    """Return the transport options that bound the wait for each answer; their names differ."""
    on_redis = str(current_app.conf.broker_url).startswith("redis")
    names = ("socket_timeout", "socket_connect_timeout") if on_redis else ("read_timeout", "write_timeout")
    return dict.fromkeys(names, patience)


def _away(connection: Connection) -> tuple[type[Exception], ...]:
    """Return what is raised when the broker is away or refuses, before and after the connection stands."""
    return (
        OperationalError,
        *cast("tuple[type[Exception], ...]", connection.connection_errors),
        *cast("tuple[type[Exception], ...]", connection.recoverable_connection_errors),
        *cast("tuple[type[Exception], ...]", connection.channel_errors),
    )
