"""Sends one batch and dies by kill -9 at a named point.

    python -m tests.chaos.crashing BATCH POINT COUNT

POINT is "before NAME" or "after NAME", NAME one of claim, compose, declare, send, record, release; the
process dies when it comes there for the COUNT-th time. Exits 0 when it never does.

With CRASH_POSTGRES set, one process of PostgreSQL is killed just before, as by the kernel when memory runs
out: PostgreSQL then ends all its processes and forgets what it had not written to its log on disk.

With RECORD_EACH_GROUP set, answers are written before each group, as when it waits for the rate limit.
"""

import functools
import os
import signal
import sys
import time
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import django

if TYPE_CHECKING:
    from campaigns.providers import Line, Provider

POINTS: Final = tuple(
    f"{moment} {name}"
    for name in ("claim", "compose", "declare", "send", "record", "release")
    for moment in ("before", "after")
)


def main(batch_id: int, point: str, times: int) -> None:
    """Arm the point, then work as a sender does."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mailer_project.settings")
    django.setup()
    from campaigns import delivery, ledger, sending  # Django is ready only now
    from campaigns.providers import configured_line

    if os.environ.get("RECORD_EACH_GROUP"):
        sending.LONG_WAIT = -1.0
    line = configured_line()
    arm(line, ledger, point, times)
    delivery.send_batch(batch_id, owner="a process that dies", line=line)


def arm(line: "Line", steps: object, point: str, times: int) -> None:
    """Let this process die at the point: at one of `steps`, or at what a provider of `line` does."""
    moment, _, name = point.partition(" ")
    if name not in ("compose", "send"):
        setattr(steps, name, dying(getattr(steps, name), moment, times))
        return
    for provider in line.providers:
        deadly = (
            dying(provider.compose, moment, times) if name == "compose" else _deadly(provider, moment, times)
        )
        setattr(provider, "compose", deadly)  # noqa: B010  # this process is to die of it


def _deadly(provider: "Provider", moment: str, times: int) -> Callable[..., Any]:
    """Return a `compose` whose departures are deadly."""
    compose = provider.compose
    depart = dying(lambda departure, *args: departure(*args), moment, times)
    return lambda *args: functools.partial(depart, compose(*args))


def dying(function: Callable[..., Any], moment: str, times: int) -> Callable[..., Any]:
    """Return `function`, but with the process killed before or after its `times`-th call."""
    calls = count(1)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        is_the_one = next(calls) == times
        if is_the_one and moment == "before":
            die()
        result = function(*args, **kwargs)
        if is_the_one:
            die()
        return result

    return wrapper


def die() -> None:
    """End as by kill -9, and PostgreSQL before that if asked."""
    if os.environ.get("CRASH_POSTGRES"):
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            os.kill(cursor.fetchone()[0], signal.SIGKILL)
        time.sleep(1)  # PostgreSQL notices, ends all its processes and forgets
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
