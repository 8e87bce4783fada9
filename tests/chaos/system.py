"""A whole installation on 127.0.0.1, each part a process of its own that can be killed and comes back."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from mailer_project.local import place
from mailer_project.local.postgres import Postgres
from mailer_project.local.process import carrying, end, kept_port, spawn
from mailer_project.local.valkey import Valkey
from tests.chaos.operating import Operator
from tests.chaos.rabbitmq import RabbitMQ
from tests.environment import ENVIRONMENT

NODES = ("sender-1", "sender-2")
PROCESSES = 2  # of each sender node
LEASE_SECONDS = 15
WINDOW, CONNECTIONS = 10, 4  # messages declared at a time on an SMTP connection; connections of a sender
RUN = "MAILER_CHAOS_RUN"  # in the environment of every process of a run, to recognise it by
ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, slots=True)
class Setup:
    """What kind of installation is put to the test."""

    broker: str  # redis, amqp
    provider: str  # smtp, sendgrid, both: SendGrid with SMTP to fall back on
    policy: str  # hold, resend
    rate: int  # mails a second: slow enough for the faults to find the campaign at work

    @property
    def unit(self) -> int:
        """The most mails that one process can have declared at a time."""
        return WINDOW * CONNECTIONS if self.provider == "smtp" else 200

    @property
    def providers(self) -> str:
        """The setting EMAIL_PROVIDERS."""
        return "sendgrid,smtp" if self.provider == "both" else self.provider


@dataclass(slots=True)
class Program:
    """One of our own programs; like a container's, its process is replaced when it ends."""

    name: str
    command: list[str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    asleep: bool = False  # stopped by SIGSTOP

    @property
    def family(self) -> list[psutil.Process]:
        """The main process and its children, those that are alive."""
        try:
            main = psutil.Process(self.process.pid) if self.process else None
            return [main, *main.children(recursive=True)] if main else []
        except psutil.NoSuchProcess:
            return []

    def start(self, environment: dict[str, str]) -> None:
        """Start the program; one that an earlier start left is forgotten."""
        with self.log.open("ab") as log:
            self.process = spawn(
                self.command, cwd=ROOT, env=environment, output=log, death_signal=signal.SIGKILL
            )
        self.asleep = False

    @property
    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None


@dataclass(slots=True)
class System:
    """Services and programs. As a context manager everything runs inside, and nothing is left after."""

    setup: Setup
    directory: Path
    postgres: Postgres = field(init=False)
    valkey: Valkey = field(init=False)
    rabbitmq: RabbitMQ | None = field(init=False, default=None)
    operator: Operator = field(init=False)
    withdrawn: dict[str, str] = field(init=False, default_factory=dict)
    """Addresses that an operator took out of the running campaign, with the status that this excuses."""
    ports: dict[str, int] = field(init=False, default_factory=dict)
    programs: dict[str, Program] = field(init=False, default_factory=dict)
    environment: dict[str, str] = field(init=False, default_factory=dict)
    _stack: ExitStack = field(init=False, default_factory=ExitStack)

    def __enter__(self) -> "System":
        try:
            self._start_services()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _start_services(self) -> None:
        self.postgres = self._stack.enter_context(Postgres(self.directory))
        self.valkey = self._stack.enter_context(Valkey(self.directory))
        if self.setup.broker == "amqp":
            self.rabbitmq = self._stack.enter_context(RabbitMQ(self.directory))
        self.ports = {
            name: kept_port(self.directory / f"{name}.port") for name in ("smtp", "http", "control", "web")
        }
        (self.directory / "static").mkdir()
        self.environment = os.environ | ENVIRONMENT | self._settings()
        self._stack.callback(self._end_programs)

    def _settings(self) -> dict[str, str]:
        broker = self.rabbitmq.url if self.rabbitmq else self.valkey.url
        return {
            RUN: str(self.directory),
            "LOCAL_DIR": str(self.directory),
            "STATIC_ROOT": str(self.directory / "static"),
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.valkey.url,
            "CELERY_BROKER_URL": broker,
            "EMAIL_PROVIDERS": self.setup.providers,
            "EMAIL_PORT": str(self.ports["smtp"]),
            "EMAIL_TIMEOUT": "10",
            "SENDGRID_API_KEY": "SG.chaos",
            "SENDGRID_API_HOST": f"http://127.0.0.1:{self.ports['http']}",
            "SMTP_RATE_LIMIT_PER_SEC": str(self.setup.rate),
            "SENDGRID_RATE_LIMIT_PER_SEC": str(self.setup.rate),
            "SMTP_DECLARE_WINDOW": str(WINDOW),
            "SMTP_CONNECTIONS": str(CONNECTIONS),
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "UNCONFIRMED_POLICY": self.setup.policy,
            "RETRY_BASE_SECONDS": "1",
            "RETRY_MAX_ATTEMPTS": "50",  # no mail may fail of the faults alone: each must be accounted for
            "PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges",
            "PYTHONUNBUFFERED": "1",
        }

    # --- Programs -------------------------------------------------------------------------------

    @property
    def accounts(self) -> Path:
        """The log of what the provider accepted."""
        return self.directory / "accepted"

    @property
    def control(self) -> tuple[str, int]:
        """Where the provider takes orders."""
        return "127.0.0.1", self.ports["control"]

    @property
    def web(self) -> str:
        """Where the API answers."""
        return f"http://127.0.0.1:{self.ports['web']}"

    def start_programs(self) -> None:
        """Start the provider, then everything that `manage.py up` starts."""
        for name, command in self._commands():
            program = Program(name, command, self.directory / f"{name}.log")
            self.programs[name] = program
            program.start(self.environment)

    def _commands(self) -> Iterator[tuple[str, list[str]]]:
        ports = [f"--{name}={self.ports[name]}" for name in ("smtp", "http", "control")]
        accounting = [sys.executable, "-m", "tests.chaos.accounting", f"--log={self.accounts}", *ports]
        yield "provider", accounting
        bind = f"--bind=127.0.0.1:{self.ports['web']}"
        yield (
            "web",
            [
                sys.executable,
                "-m",
                "gunicorn",
                "mailer_project.wsgi",
                bind,
                "--threads=2",
                "--no-control-socket",
            ],
        )
        celery = [sys.executable, "-m", "celery", "--quiet", "--app=mailer_project"]
        yield "beat", [*celery, "beat", "--pidfile="]
        worker = [*celery, "worker", "--without-gossip", "--without-mingle"]
        yield "scheduler", [*worker, "-Q", "scheduler,imports,transactional", "-c", "1", "-n", "scheduler@%h"]
        for name in NODES:
            yield name, [*worker, "-Q", "senders", "-c", str(PROCESSES), "-n", f"{name}@%h"]

    def look_after(self) -> None:
        """Start again what has ended, as a container's restart policy does."""
        for program in self.programs.values():
            if program.ended:
                program.start(self.environment)

    def _end_programs(self) -> None:
        # by their environment, not by their parents: a killed node leaves children
        end(carrying(RUN, str(self.directory)), signal.SIGKILL, 10)

    # --- Faults ---------------------------------------------------------------------------------

    def backends(self) -> list[psutil.Process]:
        """PostgreSQL's processes, without the one that starts the others."""
        main = self.postgres.process
        return psutil.Process(main.pid).children() if main and main.poll() is None else []

    def send_signal(self, name: str, how: signal.Signals, *, to: str = "main", index: int = 0) -> bool:
        """Signal a program's main process, one of its children, or all of them; False if there is none."""
        family = self.programs[name].family
        chosen = {"main": family[:1], "child": family[1:][index : index + 1], "all": family}[to]
        for process in chosen:
            try:
                process.send_signal(how)
            except psutil.NoSuchProcess:
                continue
        return bool(chosen)

    def kill_service(self, name: str, *, down: float, lose_data: bool = False) -> None:
        """Kill a service with -9, and start it after `down` seconds, with or without its data."""
        server = {"postgres": self.postgres, "valkey": self.valkey, "rabbitmq": self.rabbitmq}[name]
        assert server is not None
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        time.sleep(down)  # the outage
        if lose_data:
            server.end_leftover()
            place.empty(server.data)
        server.start()
