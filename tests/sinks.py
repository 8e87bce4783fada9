"""Servers not written by us that take every mail and count them: Postfix's smtp-sink, nginx answering 202."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

_TAIL = 256  # bytes; several of smtp-sink's lines of counters
_NGINX = """
daemon off;
worker_processes 1;
pid {place}/pid;
events {{ worker_connections 512; }}
http {{
    log_format tick "";
    access_log {place}/accepted tick;
    keepalive_requests 100000000;
    client_max_body_size 32m;
    client_body_buffer_size 4m;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location = /v3/mail/send {{ return 202; }}
    }}
}}
"""


class MissingProgram(Exception):
    """A program of the system that is needed here is not installed; the message says how to get it."""


class Sink(Protocol):
    """A server that says how much it has accepted since it was started."""

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""

    @property
    def accepted(self) -> int:
        """How many messages, or requests, it has accepted."""


@dataclass(frozen=True, slots=True)
class SmtpSink:
    """smtp-sink, and the file that it writes its counters to."""

    port: int
    counters: Path

    @property
    def accepted(self) -> int:
        with self.counters.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = file.read().split(b"\r")  # "sess=1 quit=0 mesg=17", padded, again and again
        return int(lines[-2].split(b"mesg=")[1]) if len(lines) > 1 else 0


@dataclass(frozen=True, slots=True)
class Nginx:
    """nginx answering 202, and its log of one byte for each request."""

    port: int
    log: Path

    @property
    def accepted(self) -> int:
        return self.log.stat().st_size


@contextmanager
def smtp_sink() -> Iterator[SmtpSink]:
    """Run smtp-sink, which takes everything and keeps nothing."""
    port = free_port()
    user = ["-u", "postfix"] if os.geteuid() == 0 else []
    command = [_program("smtp-sink", "postfix"), "-c", *user, f"127.0.0.1:{port}", "1000"]
    with tempfile.TemporaryDirectory() as place:
        counters = Path(place) / "counters"
        # its warnings of connections that were idle for 100 s say nothing here
        with counters.open("ab") as output, _running(command, port, stdout=output, stderr=subprocess.DEVNULL):
            yield SmtpSink(port, counters)


@contextmanager
def nginx() -> Iterator[Nginx]:
    """Run nginx with one worker process, which answers 202 to SendGrid's path."""
    port, program = free_port(), _program("nginx", "nginx")
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)  # as root its worker is another user
        configuration = Path(place) / "nginx.conf"
        configuration.write_text(_NGINX.format(place=place, port=port))
        command = [program, "-c", str(configuration), "-e", f"{place}/errors"]
        with _running(command, port):
            yield Nginx(port, Path(place) / "accepted")


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int) -> None:
    """Wait until somebody listens there."""
    for _ in range(2400):
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)  # another process is starting
    raise TimeoutError(f"nobody listens on port {port}")


def _program(name: str, package: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise MissingProgram(f"{name} is not installed; on Debian: apt-get install {package}")
    return found


@contextmanager
def _running(
    command: list[str], port: int, *, stdout: IO[bytes] | None = None, stderr: int | None = None
) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=stdout, stderr=stderr)
    try:
        wait_for_port(port)
        yield
    finally:
        process.terminate()
        process.wait()
