"""The peers as contestants: their environment, their database and broker, their processes."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from django.conf import settings
from django.db import connection
from psycopg import sql

from tests.bench import newsletter
from tests.bench.sizes import PROCESSES
from tests.bench.timing import Timing, watch
from tests.sinks import Sink
from tests.workers import kill

ROOT = Path(__file__).resolve().parent.parent.parent
DATABASE = "peers"
PACKAGES = ("Django", "celery", "django-post-office", "django-mailer", "django-import-export", "sendgrid")


@dataclass(slots=True)
class Peers:
    """The peers, ready to send to `sink`."""

    python: str
    sink: Sink
    env: dict[str, str]
    used: int = field(default=0)  # recipients that have been written to

    def send(self, name: str, recipients: int) -> Timing:
        """Let one contestant send so many mails; it has done so when the sink has them all."""
        first = 1 + self.used % 1_000
        self.used += recipients
        process = subprocess.Popen(
            [self.python, "-m", "tests.bench.peers.run", name, str(first), str(first + recipients - 1)],
            cwd=ROOT,
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{name} did not get ready")
        begin = process.stdin
        timing = watch(
            self.sink,
            lambda: (begin.write("go\n"), begin.flush()),
            lambda accepted: accepted >= recipients and process.poll() is not None,
        )
        if process.wait() != 0 or timing.accepted != recipients:
            raise RuntimeError(f"{name} ended with {process.returncode}, {timing.accepted} accepted")
        return timing


@contextmanager
def peers(python: str, sink: Sink, recipients: int) -> Iterator[Peers]:
    """Prepare a database for the peers, with as many recipients to draw on, and run their Celery workers."""
    _create_database()
    with tempfile.TemporaryDirectory() as place:
        for name, source in (
            ("newsletter.html", newsletter.html()),
            ("newsletter.txt", newsletter.TEXT),
            ("subject.txt", newsletter.SUBJECT),
        ):
            (Path(place) / name).write_text(source)
        env = _environment(sink.port, place)
        subprocess.run(
            [python, "-m", "tests.bench.peers.run", "prepare", "0", "0"], cwd=ROOT, env=env, check=True
        )
        _write_recipients(recipients + 1_000)
        with ExitStack() as stack:
            for queue, reuse in (("celery", ""), ("kept", "10000")):
                worker = _start_worker(python, queue, {**env, "BENCH_DB_REUSE_MAX": reuse})
                stack.callback(kill, worker)
            yield Peers(python, sink, env)


def _start_worker(python: str, queue: str, env: dict[str, str]) -> "subprocess.Popen[bytes]":
    options = ["-c", str(PROCESSES), "-Q", queue, "-n", f"{queue}@%h"]
    return subprocess.Popen(
        [python, "-m", "celery", "-A", "tests.bench.peers.app", "worker", *options],
        cwd=ROOT,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def versions(python: str) -> dict[str, str]:
    """Return the versions of the peers in that environment."""
    program = (
        "import importlib.metadata, json, sys;"
        "print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))"
    )
    done = subprocess.run([python, "-c", program, *PACKAGES], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def _environment(port: int, place: str) -> dict[str, str]:
    database = connection.settings_dict
    known = {key: database[key] for key in ("ENGINE", "USER", "PASSWORD", "HOST", "PORT")}
    broker = settings.REDIS_URL.rpartition("/")[0] + "/1"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CELERY_")}
    return {
        **inherited,  # without what Celery would read itself
        "DJANGO_SETTINGS_MODULE": "tests.bench.peers.settings",
        "PYTHONPATH": str(ROOT),
        "TMPDIR": place,  # where post_office keeps its lock
        "BENCH_DATABASE": json.dumps({**known, "NAME": DATABASE}),
        "BENCH_BROKER": broker,
        "BENCH_PLACE": place,
        "BENCH_SMTP_PORT": str(port),
        "BENCH_HTTP_PORT": str(port),
    }


def _create_database() -> None:
    with connection.cursor() as cursor:
        for order in ("DROP DATABASE IF EXISTS {} WITH (FORCE)", "CREATE DATABASE {}"):
            cursor.execute(sql.SQL(order).format(sql.Identifier(DATABASE)))


def _write_recipients(count: int) -> None:
    known = connection.settings_dict
    with psycopg.connect(
        host=known["HOST"],
        port=known["PORT"],
        user=known["USER"],
        password=known["PASSWORD"],
        dbname=DATABASE,
    ) as there:
        there.execute("CREATE TABLE bench_recipient (id bigint PRIMARY KEY, fields jsonb NOT NULL)")
        with there.cursor().copy("COPY bench_recipient FROM STDIN") as copy:
            for number in range(1, count + 1):
                copy.write_row((number, json.dumps(newsletter.fields(number))))
        there.execute("ANALYZE bench_recipient")
