"""One throw-away RabbitMQ node from Debian's package, which can be killed, cut off and emptied.

It shares nothing with a node of the system: its own ports, its own epmd (Erlang's directory of nodes), its
own cookie, no configuration from /etc. Everything listens on 127.0.0.1 only.
"""

import shutil
import signal
import subprocess
from pathlib import Path

import amqp

from mailer_project.local.process import LocalServiceError, end, kept_port, living_in, spawn
from mailer_project.local.server import Server

PROGRAMS = Path("/usr/lib/rabbitmq/bin")  # /usr/sbin has wrappers that insist on the account `rabbitmq`
NODE = "mailer@localhost"
USER = "mailer"


def is_installed() -> bool:
    """Whether this machine has Debian's rabbitmq-server."""
    return (PROGRAMS / "rabbitmq-server").exists()


class RabbitMQ(Server):
    """A RabbitMQ node; `start`, `stop` and `url` as with any Server, and what can happen to a broker."""

    name = "rabbitmq"
    program = "beam.smp"  # Erlang's virtual machine
    stop_signal = signal.SIGTERM
    patience = 180.0  # seconds; on a busy machine it needs more than half a minute to start

    def __init__(self, directory: Path) -> None:
        if not is_installed():
            raise LocalServiceError("RabbitMQ is not installed: apt-get install rabbitmq-server (Debian).")
        super().__init__(directory)
        self._epmd: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"amqp://{USER}:{self.password}@127.0.0.1:{self.port}//"

    def kill(self) -> None:
        """End the node by kill -9; `start` starts it again with what had reached the disk.

        A quorum queue that was made in the last second or two does not survive: it stays without a leader
        (rabbitmq-server issue 15725) and takes no message until it is deleted.
        """
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def suspend(self) -> None:
        """Let it hang: connections stand and are even taken, but nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `suspend`."""
        self._signal(signal.SIGCONT)

    def lose_data(self) -> None:
        """Start it again after kill -9 and with an empty disk: no queue, no message, the same user."""
        self.kill()
        for path in self.data.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        self.start()

    def cut_connections(self) -> None:
        """Close every client's connection."""
        self.control("close_all_connections", "cut by a test")

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl and return what it prints; LocalServiceError when it refuses."""
        done = subprocess.run(
            [PROGRAMS / "rabbitmqctl", "--quiet", *arguments],
            check=False,
            cwd=self.data,
            env=self.environment(),
            capture_output=True,
            text=True,
            user=None if self.account is None else self.account.uid,
            group=None if self.account is None else self.account.gid,
        )
        if done.returncode != 0:
            raise LocalServiceError(f"rabbitmqctl {arguments[0]}: {done.stdout}{done.stderr}")
        return done.stdout

    def prepare(self) -> None:
        self.make_data_directory()
        self.distribution_port = kept_port(self.home / "distribution-port")
        if self._epmd is None:
            self._start_epmd()

    def _start_epmd(self) -> None:
        # started by the node itself it would be a daemon that outlives everything
        self.epmd_port = kept_port(self.home / "epmd-port")
        with self.log.open("ab") as log:
            self._epmd = spawn(
                [shutil.which("epmd") or "epmd", "-port", str(self.epmd_port), "-address", "127.0.0.1"],
                account=self.account,
                death_signal=signal.SIGKILL,
                cwd=self.data,
                output=log,
            )

    def command(self) -> list[str | Path]:
        self.write(self.home / "rabbitmq.conf", "".join(f"{line}\n" for line in self._configuration()))
        self.write(self.home / "enabled_plugins", "[].\n")
        return [PROGRAMS / "rabbitmq-server"]

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "LC_ALL": "C.UTF-8",  # rabbitmqctl complains about any other
            "HOME": str(self.home),  # the cookie lies there
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes the node instead of waiting for it
            "RABBITMQ_CONF_ENV_FILE": "/nonexistent",
            "RABBITMQ_CONFIG_FILE": str(self.home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": "/nonexistent",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.home / "enabled_plugins"),
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CTL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": str(self.data),
            "RABBITMQ_LOG_BASE": str(self.home),
            "RABBITMQ_LOGS": "-",
        }

    def answers(self) -> bool:
        host = f"127.0.0.1:{self.port}"
        try:
            with amqp.Connection(host, userid=USER, password=self.password, connect_timeout=3):
                return True
        except (OSError, amqp.AMQPError):
            return False

    def stop(self) -> None:
        self.resume()
        super().stop()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None

    def end_leftover(self) -> None:
        super().end_leftover()
        if self._epmd is None:
            end(living_in(self.data, "epmd"), signal.SIGKILL, 5)

    def _configuration(self) -> list[str]:
        return [
            f"listeners.tcp.default = 127.0.0.1:{self.port}",
            f"default_user = {USER}",
            f"default_pass = {self.password}",
            "disk_free_limit.absolute = 50MB",
            "log.console = true",
            "log.console.level = warning",
        ]

    def _signal(self, which: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(which)


def start_rabbitmq(directory: Path) -> RabbitMQ:
    """Start a node with its data below `directory`; the `url` of the result is for CELERY_BROKER_URL."""
    return RabbitMQ(directory).start()
