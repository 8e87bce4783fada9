"""What `manage.py up` brings up, in which order, and with which settings."""

import fcntl
import http.client
import json
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from celery import Celery
from kombu.exceptions import OperationalError

from mailer_project.local import environment, place
from mailer_project.local.postgres import Postgres
from mailer_project.local.process import LocalServiceError, carrying, end, is_free, kept_port
from mailer_project.local.supervisor import Program, StopRequested, Supervisor
from mailer_project.local.valkey import Valkey

BASE_DIR = Path(__file__).resolve().parent.parent.parent
DEMO_DIRECTORY = "demo"  # in LOCAL_DIR
LOCK = "lock"
RUN = "MAILER_LOCAL_RUN"  # in the environment of everything a stack starts, to recognise it by
ADMIN = "admin@localhost.localdomain"
READY_WITHIN = 120.0  # seconds
DEMO_WITHIN = 300.0
WORKERS = ("scheduler", "imports", "transactional", "senders")
STOP_ORDER = (("demo", "prepare"), ("web",), ("beat", "flower"), WORKERS, ("mailbox",))
QUIET_AS_ROOT = {"PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges"}
PROVIDER_NAMES = ("EMAIL_PROVIDERS", "EMAIL_HOST", "SENDGRID_API_KEY")


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    directory: Path  # absolute
    port: int | None = None  # None: the first free one from 8000
    demo: bool = False
    isolated: bool = False  # the demo alone, on services of its own, whatever the environment says


class Stack:
    """One run of everything, from services to summary."""

    def __init__(self, options: Options, given: dict[str, str], write: Callable[[str], None], tty: bool):
        self.options = options
        self.directory = options.directory
        self.given = given
        self.values: dict[str, str] = {}
        self.old = environment.read(self.directory / environment.FILE)
        self.supervisor = Supervisor(given, write, tty)

    def run(self) -> int:
        """Bring everything up, stay until asked to stop, take it down; returns the exit status."""
        place.make_directory(self.directory)
        with only_one(self.directory):
            self.supervisor.listen_for_signals()
            try:
                return self._run()
            except StopRequested:
                return 1 if self.options.isolated else 0
            finally:
                self._stop()

    def _run(self) -> int:
        self._end_leftovers()
        if self.options.isolated:
            self._start_afresh()
        self._note_run()
        self._start_services()
        self._write_environment()
        password = self._prepare()
        for program in self._programs():
            self.supervisor.start(program)
        self._wait_until_ready()
        self._show_summary(password)
        if self.options.demo:
            status = self._demo()
            if self.options.isolated:
                return status
        self.supervisor.wait_for(lambda: False)
        return 0

    # --- Services and settings ------------------------------------------------------------------

    def _own(self, *names: str) -> bool:
        """Whether what these variables describe is ours to provide: nobody has set one of them."""
        return self.options.isolated or not any(self.given.get(name) for name in names)

    def _end_leftovers(self) -> None:
        note = self.directory / "run"
        if note.exists():
            leftovers = carrying(RUN, note.read_text().strip())
            if leftovers:
                self.supervisor.say(f"Ending {len(leftovers)} processes that an earlier run left")
            end(leftovers, signal.SIGKILL, 10)

    def _start_afresh(self) -> None:
        for server in (Postgres(self.directory), Valkey(self.directory)):
            server.end_leftover()
        place.empty(self.directory, keep={LOCK})
        self.old = {}

    def _note_run(self) -> None:
        self.run_id = secrets.token_hex(16)
        environment.write_private(self.directory / "run", f"{self.run_id}\n")

    def _start_services(self) -> None:
        if self._own("DATABASE_URL", "DB_NAME"):
            postgres = Postgres(self.directory)
            self.supervisor.look_after(postgres.start())
            self.values["DATABASE_URL"] = postgres.url
            self.supervisor.say(f"PostgreSQL answers on 127.0.0.1:{postgres.port}, data in {postgres.data}")
        if self._own("REDIS_URL"):
            valkey = Valkey(self.directory)
            self.supervisor.look_after(valkey.start())
            self.values["REDIS_URL"] = valkey.url
            self.supervisor.say(f"Valkey answers on 127.0.0.1:{valkey.port}, data in {valkey.data}")

    def _write_environment(self) -> None:
        self.port = self._web_port()
        self.flower_port = kept_port(self.directory / "flower-port")
        self.values |= {
            "SECRET_KEY": self.old.get("SECRET_KEY") or secrets.token_urlsafe(48),
            "PUBLIC_URL": f"http://127.0.0.1:{self.port}",
            "STATIC_ROOT": str(self.directory / "static"),
            "MEDIA_ROOT": str(self.directory / "media"),
            "FLOWER_URL": f"http://127.0.0.1:{self.flower_port}/flower/",
            "FLOWER_USER": "admin",
            "FLOWER_PASSWORD": self.old.get("FLOWER_PASSWORD") or secrets.token_urlsafe(12),
        }
        if self._own(*PROVIDER_NAMES):
            self.values |= self._mailbox_values()
        if self.options.isolated:
            self.values |= {
                "CELERY_BROKER_URL": self.values["REDIS_URL"],
                "CELERY_RESULT_BACKEND": "django-db",
                "ALLOWED_HOSTS": "127.0.0.1",
            }
        else:
            self.values = {name: value for name, value in self.values.items() if not self.given.get(name)}
        environment.write(self.directory / environment.FILE, self.values)
        self.environment = self.given | self.values
        self.environment |= {"LOCAL_DIR": str(self.directory), "PYTHONUNBUFFERED": "1", RUN: self.run_id}
        self.supervisor.environment = self.environment

    def _mailbox_values(self) -> dict[str, str]:
        self.mail_port = kept_port(self.directory / "mailbox-port")
        return {
            "EMAIL_PROVIDERS": "smtp",
            "EMAIL_HOST": "127.0.0.1",
            "EMAIL_PORT": str(self.mail_port),
            "EMAIL_HOST_USER": "",
            "EMAIL_HOST_PASSWORD": "",
            "EMAIL_USE_TLS": "false",
            "SMTP_RATE_LIMIT_PER_SEC": "0",
            "SMTP_DAILY_LIMIT": "0",
            "DEFAULT_FROM_EMAIL": "mailer@localhost.localdomain",
            "SENDGRID_API_KEY": "",
        }

    def _web_port(self) -> int:
        if self.options.isolated and self.options.port is None:
            return kept_port(self.directory / "web-port")
        if self.options.port is None:
            return next(port for port in range(8000, 9000) if is_free(port))
        if not is_free(self.options.port):
            raise LocalServiceError(f"Port {self.options.port} is taken; choose another one with --port.")
        return self.options.port

    @property
    def has_mailbox(self) -> bool:
        return "EMAIL_PORT" in self.values and self.values.get("EMAIL_PROVIDERS") == "smtp"

    # --- Programs -------------------------------------------------------------------------------

    def _prepare(self) -> str | None:
        """Migrate and so on; returns the new administrator's password, None if there was one already."""
        password = secrets.token_urlsafe(12)
        program = Program(
            "prepare",
            manage("prepare_local", "--admin", ADMIN, "--report", str(self.directory / "prepared.json")),
            environment={"LOCAL_ADMIN_PASSWORD": password},
            once=True,
        )
        status = self.supervisor.run(program)
        if status != 0:
            raise LocalServiceError(f"The preparation failed (exit status {status}), see above.")
        report = json.loads((self.directory / "prepared.json").read_text())
        return password if report["admin_created"] else None

    def _programs(self) -> Iterator[Program]:
        if self.has_mailbox:
            yield Program("mailbox", self._mailbox_command())
        yield Program("web", self._web_command(), patience=30)
        yield Program("beat", celery("beat", "--pidfile="))
        for name in ("scheduler", "imports"):
            yield self._worker(name, 1)
        yield self._worker("transactional", 2)  # a server that is slow to answer one mail holds up no other
        # One node with four processes rather than four nodes: they share the memory of what was imported and
        # start once. A killed process is replaced by its node, a killed node by the supervisor.
        yield self._worker("senders", 4)
        login = f"{self.environment['FLOWER_USER']}:{self.environment['FLOWER_PASSWORD']}"
        yield Program("flower", self._flower_command(), environment={"FLOWER_BASIC_AUTH": login})

    def _worker(self, queue: str, processes: int) -> Program:
        # killed with us at once: its database and broker leave in the same moment, so a warm end could not
        # record anything; the ledger is made for that
        options = f"-Q {queue} -c {processes} -n {queue}@%h --task-events --without-gossip --without-mingle"
        command = celery("worker", *options.split())
        return Program(queue, command, QUIET_AS_ROOT, death_signal=signal.SIGKILL, patience=90)

    def _web_command(self) -> list[str]:
        options = ["--workers=2", "--worker-class=gthread", "--threads=4", "--no-control-socket"]
        bind = f"--bind=127.0.0.1:{self.port}"
        return [sys.executable, "-m", "gunicorn", "mailer_project.wsgi", bind, *options]

    def _flower_command(self) -> list[str]:
        address = ["--address=127.0.0.1", f"--port={self.flower_port}", "--url-prefix=flower"]
        return celery("flower", *address, "--logging=error")  # it warns of workers that are still starting

    def _mailbox_command(self) -> list[str]:
        options = [f"--directory={self.mail_directory}", f"--port={self.mail_port}"]
        return [sys.executable, "-m", "mailer_project.local.mailbox", *options]

    @property
    def mail_directory(self) -> Path:
        return self.directory / "mailbox"

    def _wait_until_ready(self) -> None:
        self.supervisor.say("Waiting until the web and the workers answer")
        if not self.supervisor.wait_for(self._web_answers, READY_WITHIN):
            raise LocalServiceError("The web server is not ready after two minutes; the lines above say why.")
        if not self.supervisor.wait_for(self._workers_answer, READY_WITHIN):
            raise LocalServiceError("The workers are not ready after two minutes; the lines above say why.")

    def _web_answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            host = urlsplit(self.environment["PUBLIC_URL"]).netloc
            connection.request("GET", "/health/ready", headers={"Host": host})
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _workers_answer(self) -> bool:
        broker = self.environment.get("CELERY_BROKER_URL") or self.environment["REDIS_URL"]
        with Celery("up", broker=broker, set_as_current=False) as app, suppress(OperationalError, OSError):
            answers = app.control.ping(timeout=1.0) or []
            names = {node.partition("@")[0] for answer in answers for node in answer}
            return names.issuperset(WORKERS)
        return False

    # --- Demo, summary, end ---------------------------------------------------------------------

    def _demo(self) -> int:
        if not self.has_mailbox:
            raise LocalServiceError("The demo sends to the local mailbox only, and a provider is configured.")
        options = ["--mailbox", str(self.mail_directory), "--timeout", str(int(DEMO_WITHIN))]
        child = self.supervisor.start(Program("demo", manage("run_demo", *options), once=True))
        if not self.supervisor.wait_for(lambda: child.exit_status is not None, DEMO_WITHIN + 15):
            self.supervisor.say("The demo has not ended in time")
            return 1
        return child.exit_status or 0

    def _show_summary(self, password: str | None) -> None:
        values, url = self.environment, self.environment["PUBLIC_URL"]
        login = f"{ADMIN} / {password}   (shown only now)" if password else "as before"
        lines = [
            "",
            "Ready.",
            f"  Admin     {url}/admin/",
            f"  Login     {login}",
            f"            forgotten: {_python()} manage.py changepassword {ADMIN}",
            f"  API docs  {url}/api/docs/",
            f"  Flower    http://127.0.0.1:{self.flower_port}/flower/   "
            f"{values['FLOWER_USER']} / {values['FLOWER_PASSWORD']}",
            f"  Mail      {self.mail_directory}/new   (nothing leaves this machine)"
            if self.has_mailbox
            else f"  Mail      goes out through {values.get('EMAIL_PROVIDERS', 'sendgrid,smtp')}",
            "  Stop      Ctrl-C",
            "",
        ]
        for line in lines:
            self.supervisor.say(line)

    def _stop(self) -> None:
        self.supervisor.say("Stopping")
        for names in STOP_ORDER:
            self.supervisor.stop(names)
        self.supervisor.stop_servers()


def manage(*arguments: str) -> list[str]:
    """The command line of a management command."""
    return [sys.executable, str(BASE_DIR / "manage.py"), *arguments]


def celery(*arguments: str) -> list[str]:
    """The command line of a Celery program."""
    return [sys.executable, "-m", "celery", "--quiet", "--app=mailer_project", *arguments]


def _python() -> str:
    python = Path(sys.executable)
    return str(python.relative_to(BASE_DIR)) if python.is_relative_to(BASE_DIR) else str(python)


@contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Hold the directory's lock; LocalServiceError if another `manage.py up` holds it."""
    with (directory / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalServiceError(
                f"Another `manage.py up` is using {directory}; stop it, or set LOCAL_DIR."
            ) from None
        yield
