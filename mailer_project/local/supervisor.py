"""Keeps programs running, shows what they say, and stops them in order."""

import itertools
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from mailer_project.local.process import LocalServiceError, spawn
from mailer_project.local.server import Server

FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0  # seconds before a dead program is started again
CALM = 30.0  # after so many seconds of running, the next death is a first one again
TICK = 0.2
COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


class StopRequested(Exception):
    """Ctrl-C or SIGTERM arrived while the supervisor was waiting for something."""


@dataclass(frozen=True)
class Program:
    """What to run and how to end it."""

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)  # added to everybody's
    death_signal: signal.Signals = signal.SIGTERM  # from the kernel, when the supervisor is killed
    patience: float = 15.0  # seconds between SIGTERM and SIGKILL
    once: bool = False  # ends by itself, and is not started again


class BackOff:
    """When to try again: at once-ish, then doubling, until a calm run."""

    def __init__(self) -> None:
        self.failures = 0
        self.at: float | None = None

    def failed(self, now: float, ran_for: float) -> float:
        """Note a failure after `ran_for` seconds; returns the delay in seconds."""
        self.failures = 1 if ran_for >= CALM else self.failures + 1
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (self.failures - 1))
        self.at = now + delay
        return delay

    def due(self, now: float) -> bool:
        """Whether the delay is over."""
        return self.at is not None and now >= self.at


class Child:
    """A program's present process."""

    def __init__(self, program: Program, colour: int) -> None:
        self.program = program
        self.colour = colour
        self.back_off = BackOff()
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.exit_status: int | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill_group(self) -> None:
        """SIGKILL for the process and everything in its session, such as pool processes it left behind."""
        if self.process is not None:
            with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
                os.killpg(self.process.pid, signal.SIGKILL)


class Supervisor:
    """Runs programs and looks after servers; single-threaded, driven by `wait_for`.

    `write` takes one line of text to show. Every wait raises StopRequested when a signal asks to stop.
    """

    def __init__(self, environment: Mapping[str, str], write: Callable[[str], None], coloured: bool) -> None:
        self.environment = dict(environment)
        self.children: dict[str, Child] = {}
        self.servers: dict[str, tuple[Server, BackOff]] = {}
        self.stop_requests = 0
        self._write: Callable[[str], None] | None = write
        self._coloured = coloured
        self._colours = itertools.cycle(COLOURS)
        self._selector = selectors.DefaultSelector()

    def listen_for_signals(self) -> None:
        """Count Ctrl-C, SIGTERM and SIGHUP as requests to stop; the second one hurries."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note_request)

    def _note_request(self, number: int, frame: object) -> None:
        self.stop_requests += 1

    def say(self, line: str, name: str = "up", colour: int = 1) -> None:
        """Show one line; once nobody reads them any more, stop."""
        prefix = f"{name:<13}|"
        if self._coloured:
            prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
        if self._write is None:
            return
        try:
            self._write(f"{prefix} {line}")
        except BrokenPipeError:
            self._write = None
            self.stop_requests += 1

    def start(self, program: Program) -> Child:
        """Start a program and keep it running."""
        child = self.children[program.name] = Child(program, next(self._colours))
        self._spawn(child)
        return child

    def run(self, program: Program) -> int:
        """Run a program that ends by itself; returns its exit status."""
        child = self.start(program)
        self.wait_for(lambda: child.exit_status is not None)
        return child.exit_status or 0

    def look_after(self, server: Server) -> None:
        """Start this running server again when it dies."""
        self.servers[server.name] = (server, BackOff())

    def wait_for(self, condition: Callable[[], bool], seconds: float = float("inf")) -> bool:
        """Keep everything running until the condition is true or the time is over; returns which.

        The condition is looked at every fifth of a second.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() >= deadline:
                return False
            self._tick()
        return True

    def _tick(self) -> None:
        end = time.monotonic() + TICK
        while (rest := end - time.monotonic()) > 0:
            self._show_output(rest)
        if self.stop_requests:
            raise StopRequested
        self._restart_the_dead()

    def stop(self, names: Iterable[str]) -> None:
        """SIGTERM to these children, SIGKILL to what is left after their patience or a second request."""
        children = [self.children[name] for name in names if name in self.children]
        for child in children:
            if child.process is not None and child.alive:
                child.process.terminate()
        started = time.monotonic()
        while any(child.alive for child in children):
            self._show_output(TICK)
            for child in children:
                late = time.monotonic() - started > child.program.patience
                if child.alive and (late or self.stop_requests >= 2):
                    self.say(f"{child.program.name} has not stopped; killing it")
                    child.kill_group()
        for child in children:
            child.kill_group()
            del self.children[child.program.name]
        self._show_output(0)

    def stop_servers(self) -> None:
        """Stop the servers, the last one first."""
        while self.servers:
            name, (server, _) = self.servers.popitem()
            server.stop()
            self.say(f"{name} has stopped")

    def _spawn(self, child: Child) -> None:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        try:
            child.process = spawn(
                child.program.command,
                death_signal=child.program.death_signal,
                env=self.environment | dict(child.program.environment),
                output=writing,
            )
        finally:
            os.close(writing)
        child.back_off.at = None
        child.started_at = time.monotonic()
        self._selector.register(reading, selectors.EVENT_READ, Output(child))

    def _show_output(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            output: Output = key.data
            chunk = os.read(key.fd, 65_536)
            for line in filter(None, output.lines(chunk)):
                self.say(line, output.child.program.name, output.child.colour)
            if not chunk:
                self._selector.unregister(key.fd)
                os.close(key.fd)

    def _restart_the_dead(self) -> None:
        now = time.monotonic()
        for child in self.children.values():
            if not child.alive and child.exit_status is None:
                self._revive(child, now)
        for name, (server, back_off) in self.servers.items():
            if not server.running:
                self._revive_server(name, server, back_off, now)

    def _revive(self, child: Child, now: float) -> None:
        if child.process is None:
            return
        if child.program.once:
            child.exit_status = child.process.returncode
        elif child.back_off.at is None:
            child.kill_group()
            delay = child.back_off.failed(now, now - child.started_at)
            self.say(f"{child.program.name} ended ({ending(child.process.returncode)}); again in {delay:g} s")
        elif child.back_off.due(now):
            self._spawn(child)

    def _revive_server(self, name: str, server: Server, back_off: BackOff, now: float) -> None:
        if back_off.at is not None and not back_off.due(now):
            return
        self.say(f"{name} ended; starting it again")
        url = server.url
        try:
            server.start()
        except LocalServiceError as error:
            self.say(f"{error} Again in {back_off.failed(now, 0):g} s.")
            return
        back_off.at = None
        moved = "" if server.url == url else "; its port was taken: stop and start the whole stack"
        self.say(f"{name} answers again{moved}")


class Output:
    """A pipe's text, cut into lines."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.rest = b""

    def lines(self, chunk: bytes) -> list[str]:
        """The lines that this chunk completes; an empty chunk ends the last one."""
        *whole, self.rest = (self.rest + chunk).split(b"\n")
        if not chunk and self.rest:
            whole, self.rest = [self.rest], b""
        return [line.decode(errors="replace").rstrip() for line in whole]


def ending(status: int) -> str:
    """What a process's return code means, in words."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
