"""Real worker processes for the tests, as `manage.py up` and docker-compose start them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import connection

from mailer_project.local.process import spawn

_ROOT = Path(__file__).parent.parent


def environment(**settings: str) -> dict[str, str]:
    """Return an environment whose processes use the tests' database and `settings`."""
    database = connection.settings_dict
    url = f"postgres://{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}"
    return {**os.environ, "DATABASE_URL": f"{url}/{database['NAME']}", **settings}


@contextmanager
def celery(
    *arguments: str, env: dict[str, str], output: Path = Path(os.devnull)
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a Celery program in its own process group and end all of it afterwards; it writes to `output`.

    It ends, too, when these tests are killed, and does not go on looking for their broker.
    """
    with output.open("ab") as log:
        process = spawn(
            [sys.executable, "-m", "celery", "-A", "mailer_project", *arguments],
            cwd=_ROOT,
            env=env,
            death_signal=signal.SIGKILL,
            output=log,
        )
    try:
        yield process
    finally:
        kill(process)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Send kill -9 to the process and to everything it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until(condition: Callable[[], bool], *, seconds: float = 120, what: str = "as expected") -> None:
    """Wait for `condition`; raises AssertionError saying `what` did not happen in time.

    `seconds` is for a machine with far too much to do, where a worker needs half a minute to start: a
    deadline ends a test that would wait for ever, and says nothing of speed.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s: not {what}"
        time.sleep(0.02)  # another process changes what is asked for
