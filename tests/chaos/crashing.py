"""Sends one batch and dies by kill -9 at a named point.

    python -m tests.chaos.crashing BATCH POINT COUNT

POINT is "before NAME" or "after NAME", NAME one of claim, declare, send, record, release; the process
dies when it comes there for the COUNT-th time. Exits 0 when it never does.

With CRASH_POSTGRES set, one process of PostgreSQL is killed just before, as by the kernel when memory runs
out: PostgreSQL then ends all its processes and forgets what it had not written to its log on disk.
"""

import functools
import os
import signal
import sys
import time
from collections.abc import Callable
from itertools import count
from typing import Any, Final

import django

POINTS: Final = tuple(
    f"{moment} {name}"
    for name in ("claim", "declare", "send", "record", "release")
    for moment in ("before", "after")
)


def main(batch_id: int, point: str, times: int) -> None:
    """Arm the point, then work as a sender does."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mailer_project.settings")
    django.setup()
    from campaigns import delivery, ledger  # Django is ready only now
    from campaigns.providers import configured_line

    line = configured_line()
    moment, _, name = point.partition(" ")
    for owner in line.providers if name == "send" else (ledger,):
        setattr(owner, name, dying(getattr(owner, name), moment, times))
    delivery.send_batch(batch_id, owner="a process that dies", line=line)


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
