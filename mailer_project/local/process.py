"""Processes this project starts: as whom they run, how they end with us, how leftovers are recognised."""

import ctypes
import os
import pwd
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

PORTS = range(20_000, 30_000)  # below the ephemeral ones: no outgoing connection sits on a kept port
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class LocalServiceError(Exception):
    """A part of the local stack cannot do its work; the message says which and what helps."""


@dataclass(frozen=True)
class Account:
    """An unprivileged user and group by number."""

    uid: int
    gid: int


def server_account() -> Account | None:
    """Whom to run servers as: `nobody` if we are root, whom PostgreSQL refuses; else None, for ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise LocalServiceError(
            "This system has no user `nobody` to run PostgreSQL as; start as an ordinary user."
        ) from None
    return Account(nobody.pw_uid, nobody.pw_gid)


def spawn(
    command: Sequence[str | Path],
    *,
    account: Account | None = None,
    death_signal: signal.Signals | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    output: IO[bytes] | int | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own, so that Ctrl-C reaches only us.

    `death_signal` is what the kernel sends it when we die without stopping it (Linux only). Call from the
    main thread: the kernel takes the end of the calling thread for our death.
    """
    return subprocess.Popen(  # noqa: S603 - our own programs, no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        cwd=cwd,
        env=env,
        start_new_session=True,
        preexec_fn=_tie_to_parent(death_signal),
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        extra_groups=None if account is None else [],
    )


def _tie_to_parent(death_signal: signal.Signals | None) -> Callable[[], None] | None:
    libc, parent = _libc, os.getpid()
    if libc is None or death_signal is None:
        return None

    def tie() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return tie


def may(account: Account | None, test: str, path: Path) -> bool:
    """Whether the account passes test(1)'s file test (`-x`, `-r`, `-w`) on the path, parents included."""
    if account is None:
        return os.access(path, {"-x": os.X_OK, "-r": os.R_OK, "-w": os.W_OK}[test])
    tried = subprocess.run(  # noqa: S603 - as in spawn
        ["/bin/sh", "-c", 'test "$0" "$1"', test, str(path)],
        check=False,
        cwd="/",
        user=account.uid,
        group=account.gid,
        extra_groups=[],
    )
    return tried.returncode == 0


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT do not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def kept_port(file: Path) -> int:
    """The port noted in `file` if it is still free, otherwise a new one, which is noted there."""
    if file.exists() and is_free(port := int(file.read_text())):
        return port
    port = next(port for port in random.sample(PORTS, 1000) if is_free(port))
    file.write_text(f"{port}\n")
    return port


def living_in(directory: Path, name: str) -> list[psutil.Process]:
    """Processes called `name` whose working directory is `directory`; no other process is there by chance."""
    return [process for process in psutil.process_iter(["name"]) if _lives(process, directory, name)]


def _lives(process: psutil.Process, directory: Path, name: str) -> bool:
    try:
        return process.name() == name and Path(process.cwd()) == directory
    except (psutil.Error, OSError):  # gone, or somebody else's
        return False


def carrying(variable: str, value: str) -> list[psutil.Process]:
    """Processes, ourselves excepted, that were started with this environment variable."""
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid() and _environment(process).get(variable) == value
    ]


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def end(processes: Iterable[psutil.Process], how: signal.Signals, patience: float) -> None:
    """Ask with `how` those whose parent is not among them, wait `patience` seconds, then SIGKILL the rest."""
    processes = list(processes)
    members = {process.pid for process in processes}
    for process in processes:
        if _parent(process) not in members:
            _send(process, how)
            _send(process, signal.SIGCONT)  # a stopped process would take the signal only when continued
    for process in _still_there(processes, patience):
        _send(process, signal.SIGKILL)
    _still_there(processes, patience)


def gone(process: psutil.Process) -> bool:
    """Whether the process has ended; one that only waits for its parent to notice has."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _still_there(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    deadline = time.monotonic() + seconds
    while processes := [process for process in processes if not gone(process)]:
        if time.monotonic() >= deadline:
            break
        time.sleep(0.02)  # processes that are not our children cannot be waited for
    return processes


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None


def _send(process: psutil.Process, how: signal.Signals) -> None:
    try:
        process.send_signal(how)  # psutil refuses when the pid has been given to another process
    except psutil.NoSuchProcess:
        return
