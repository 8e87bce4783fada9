"""The life of an embedded server: clean up, prepare, start, wait until it answers, stop."""

import fcntl
import os
import secrets
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, Self

from mailer_project.local import place
from mailer_project.local.process import (
    LocalServiceError,
    end,
    kept_port,
    living_in,
    server_account,
    spawn,
)

START_ATTEMPTS = 3


class Server(ABC):
    """One server with its data in `directory`/`name`, listening on 127.0.0.1 with a generated password.

    Port and password are kept beside the data, so that `url` is the same after a restart unless somebody
    else has taken the port. Not for threads; a second process that starts it in the same directory gets a
    LocalServiceError.
    """

    name: str  # of its directory, and for people
    program: str  # the process's name
    stop_signal: signal.Signals
    patience = 30.0  # seconds for a start with crash recovery, and for an orderly stop

    def __init__(self, directory: Path) -> None:
        self.account = server_account()
        self.home = place.server_home(directory, self.name, self.account)
        self.data = self.home / "data"
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """What clients connect to, password included."""

    @abstractmethod
    def prepare(self) -> None:
        """Make the data directory ready for `command`; called before every start."""

    @abstractmethod
    def command(self) -> list[str | Path]:
        """The server's command line."""

    def environment(self) -> dict[str, str]:
        """What the server's process sees of the environment."""
        return {"PATH": os.environ.get("PATH", ""), "TZ": "UTC", "LC_ALL": "C"}

    @abstractmethod
    def answers(self) -> bool:
        """Whether a client can log in now."""

    @property
    def running(self) -> bool:
        """Whether the process we started is alive."""
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> Path:
        """The file with the server's own output."""
        return self.home / "log"

    @property
    def password(self) -> str:
        """The generated password, made at the first call."""
        return self.kept_secret("password")

    def log_tail(self) -> str:
        """The last lines of the server's own output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])

    def kept_secret(self, name: str) -> str:
        """A random word kept in the file `name`, which only we and the server may read."""
        file = self.home / name
        if not file.exists():
            self.write(file, secrets.token_urlsafe(24))
        return file.read_text()

    def write(self, file: Path, text: str) -> None:
        """Write a file that belongs to the server's account and that nobody else may read."""
        partial = file.with_name(file.name + ".partial")
        partial.touch(mode=0o600)
        partial.write_text(text)
        if self.account is not None:
            os.chown(partial, self.account.uid, self.account.gid)
        partial.rename(file)

    def make_data_directory(self) -> None:
        """Create the data directory for the server's account."""
        self.data.mkdir(mode=0o700, exist_ok=True)
        if self.account is not None:
            os.chown(self.data, self.account.uid, self.account.gid)

    def start(self) -> Self:
        """Start the server and wait until it answers; one that an earlier launcher left is ended first.

        Harmless when it runs. Raises LocalServiceError, with the end of the server's log.
        """
        if self.running:
            return self
        self._take_lock()
        try:
            self.end_leftover()
            self.prepare()
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop in the orderly way, and by force when its patience ends; harmless when it does not run."""
        self._end_process()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def end_leftover(self) -> None:
        """Stop a server on our data that an earlier launcher has left running."""
        end(living_in(self.data, self.program), self.stop_signal, self.patience)

    def _start(self) -> None:
        for _ in range(START_ATTEMPTS):
            self.port = kept_port(self.home / "port")
            self._spawn()
            if self._wait_until_it_answers():
                return
            self._end_process()
            time.sleep(0.5)  # the port was taken meanwhile, or a killed server's last processes still end
        raise LocalServiceError(f"{self.name} does not start. Its log, {self.log}, ends:\n{self.log_tail()}")

    def _end_process(self) -> None:
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(self.stop_signal)
        try:
            process.wait(self.patience)
        except subprocess.TimeoutExpired:
            end(living_in(self.data, self.program), signal.SIGKILL, self.patience)
            process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        lock = (self.home / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise LocalServiceError(f"{self.name} in {self.home} is in use by another process.") from None
        self._lock = lock

    def _spawn(self) -> None:
        with self.log.open("ab") as log:
            self.process = spawn(
                self.command(),
                account=self.account,
                death_signal=self.stop_signal,
                cwd=self.data,
                env=self.environment(),
                output=log,
            )

    def _wait_until_it_answers(self) -> bool:
        deadline = time.monotonic() + self.patience
        while self.running and time.monotonic() < deadline:
            if self.answers():
                return True
            time.sleep(0.02)  # a server says that it is ready by answering
        return False
