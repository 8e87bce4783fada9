"""The tests' own Celery application on a broker of the test's choice, set up by the project's settings."""

import runpy
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery import Celery, current_app
from kombu import Connection
from redis import Redis

_SETTINGS = Path(__file__).parent.parent / "mailer_project" / "settings.py"


@contextmanager
def using_broker(url: str) -> Iterator[Celery]:
    """Make Celery's current application one whose settings were read with this CELERY_BROKER_URL."""
    before = current_app._get_current_object()  # type: ignore[attr-defined]  # Celery's stubs hide that it is a proxy
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CELERY_BROKER_URL", url)  # Celery looks there, too, whenever it connects
        app = Celery("tests", set_as_current=False)
        app.config_from_object(
            {name: value for name, value in runpy.run_path(str(_SETTINGS)).items() if name.isupper()},
            namespace="CELERY",
        )
        app.set_current()
        try:
            yield app
        finally:
            before.set_current()
            app.close()


@contextmanager
def deaf_server() -> Iterator[socket.socket]:
    """Listen on a port of 127.0.0.1: connections are taken, and never a word is said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def port_of(server: socket.socket) -> int:
    """Return where it listens."""
    return int(server.getsockname()[1])


def callers(server: socket.socket) -> int:
    """Return how many connections to a deaf server were made since it was last asked; it hangs up on them."""
    count = 0
    while True:
        try:
            connection, _ = server.accept()
        except BlockingIOError:
            return count
        connection.close()
        count += 1


def forget_queue(url: str, name: str) -> None:
    """Take the queue away from the broker with what it holds; harmless when there is none."""
    if url.startswith("redis"):
        with Redis.from_url(url) as redis:
            redis.delete(name)
    else:
        with Connection(url) as connection, connection.channel() as channel:
            channel.queue_delete(name)  # type: ignore[attr-defined]  # kombu's stubs lack it
