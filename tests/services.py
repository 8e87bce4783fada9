"""Real servers for the tests: a pytest plugin, loaded before Django reads its settings.

Starts PostgreSQL and Valkey in a fresh directory and stops them at the end, each of pytest-xdist's workers
its own. DATABASE_URL and REDIS_URL of the environment are used instead where they are set.
"""

import atexit
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

from mailer_project.local import place
from mailer_project.local.postgres import start_postgres
from mailer_project.local.valkey import start_valkey
from tests.environment import ENVIRONMENT


def _given() -> set[str]:
    """Return which servers are given; a worker inherits those of its controller, which are not."""
    set_before = [name for name in ("DATABASE_URL", "REDIS_URL") if os.environ.get(name)]
    return set(os.environ.setdefault("TESTS_ARE_GIVEN", " ".join(set_before)).split())


def _start(stack: ExitStack) -> None:
    directory = Path(tempfile.mkdtemp(prefix="mailer-tests-"))
    directory.chmod(0o755)  # the servers' account must get through when the tests run as root
    stack.callback(place.remove, directory)
    given = _given()
    os.environ.update(ENVIRONMENT, LOCAL_DIR=str(directory), MEDIA_ROOT=str(directory / "media"))
    (directory / "static").mkdir()  # WhiteNoise warns when it is missing
    os.environ["STATIC_ROOT"] = str(directory / "static")
    if "DATABASE_URL" not in given:
        postgres = start_postgres(directory)
        stack.callback(postgres.stop)
        os.environ["DATABASE_URL"] = postgres.url
    if "REDIS_URL" not in given:
        valkey = start_valkey(directory)
        stack.callback(valkey.stop)
        os.environ["REDIS_URL"] = valkey.url
    os.environ["CELERY_BROKER_URL"] = os.environ["REDIS_URL"]


_stack = ExitStack()
atexit.register(_stack.close)  # and not a hook of pytest's, which is not called when Django cannot be set up
_start(_stack)
