"""The launchers of PostgreSQL and Valkey: what survives which death."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from mailer_project.local import place
from mailer_project.local.postgres import Postgres, start_postgres
from mailer_project.local.process import LocalServiceError, end, gone, living_in, may, server_account
from mailer_project.local.server import Server
from mailer_project.local.valkey import Valkey, start_valkey
from tests.workers import wait_until

ROOT = Path(__file__).resolve().parent.parent
LAUNCHER = """
import sys, time
from pathlib import Path
from mailer_project.local.postgres import start_postgres
from mailer_project.local.valkey import start_valkey
directory = Path(sys.argv[1])
postgres, valkey = start_postgres(directory), start_valkey(directory)
print(postgres.process.pid, valkey.process.pid, postgres.url, valkey.url, flush=True)
time.sleep(60)
"""


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory that `nobody` can reach, too, as pytest's own tmp_path is not."""
    directory = Path(tempfile.mkdtemp(prefix="mailer-test-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        place.remove(directory)


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    with open_directory() as directory:
        yield directory


@pytest.fixture
def fresh() -> Iterator[Path]:
    with open_directory() as directory:
        yield directory


def note(url: str, word: str) -> None:
    if url.startswith("redis"):
        with redis.Redis.from_url(url) as client:
            client.rpush("words", word)
        return
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS words (word text)")
        connection.execute("INSERT INTO words VALUES (%s)", [word])


def noted(url: str) -> list[str]:
    if url.startswith("redis"):
        with redis.Redis.from_url(url) as client:
            return [word.decode() for word in client.lrange("words", 0, -1)]
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT word FROM words")]


def pid_of(server: Server) -> int:
    assert server.process is not None
    return server.process.pid


@contextmanager
def launcher(directory: Path) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process], list[str]]]:
    """Another process with both servers; yields it, the servers, and their URLs."""
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(directory)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        first, second, *urls = process.stdout.readline().split()
        try:
            yield process, [psutil.Process(int(first)), psutil.Process(int(second))], urls
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("kind", [Postgres, Valkey])
class TestServer:
    def test_keeps_its_data_and_url_over_stop_and_start(self, kind: type[Server], shared: Path) -> None:
        server = kind(shared).start()
        url = server.url
        note(url, f"stop {kind.name}")
        server.stop()
        assert not server.running
        with kind(shared) as again:
            assert again.url == url
            assert f"stop {kind.name}" in noted(url)

    def test_keeps_its_data_when_it_is_killed(self, kind: type[Server], shared: Path) -> None:
        with kind(shared) as server:
            note(server.url, f"kill {kind.name}")
            os.kill(pid_of(server), signal.SIGKILL)
            wait_until(lambda: not server.running)
            server.start()
            assert f"kill {kind.name}" in noted(server.url)

    def test_moves_when_somebody_else_has_taken_its_port(self, kind: type[Server], shared: Path) -> None:
        with kind(shared) as server:
            port = server.port
        with socket.create_server(("127.0.0.1", port)), kind(shared) as server:
            assert server.port != port

    def test_refuses_a_second_launcher(self, kind: type[Server], shared: Path) -> None:
        with kind(shared) as server, pytest.raises(LocalServiceError, match="in use by another process"):
            kind(shared).start()
        assert not server.running

    def test_demands_the_password(self, kind: type[Server], shared: Path) -> None:
        with kind(shared) as server:
            url = server.url.replace(server.password, "wrong")
            with pytest.raises((psycopg.OperationalError, redis.AuthenticationError)):
                noted(url)

    def test_says_why_it_does_not_start(
        self, kind: type[Server], fresh: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mailer_project.local.server.START_ATTEMPTS", 1)
        with kind(fresh) as server:
            pass
        spoiled = "PG_VERSION" if kind is Postgres else "appendonlydir/appendonly.aof.manifest"
        (server.data / spoiled).write_text("spoiled\n")
        with pytest.raises(LocalServiceError, match=r"does not start\. Its log, .*ends"):
            server.start()
        assert not server.running


class TestLauncherDeath:
    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent has died")
    def test_takes_the_servers_along_and_their_data_survives(self, fresh: Path) -> None:
        with launcher(fresh) as (process, servers, urls):
            for url in urls:
                note(url, "kept")
            process.kill()
            wait_until(lambda: all(map(gone, servers)))
        with start_postgres(fresh) as postgres, start_valkey(fresh) as valkey:
            assert [postgres.url, valkey.url] == urls
            assert [noted(url) for url in urls] == [["kept"], ["kept"]]

    def test_leaves_nothing_behind_that_the_next_start_cannot_end(self, fresh: Path) -> None:
        with launcher(fresh) as (process, servers, urls):
            for url in urls:
                note(url, "kept")
            for server in servers:
                server.suspend()  # so that the news of the launcher's death does not reach it
            process.kill()
            process.wait()
            assert not any(map(gone, servers))
            with start_postgres(fresh) as postgres, start_valkey(fresh) as valkey:
                assert all(map(gone, servers))
                assert [noted(url) for url in (postgres.url, valkey.url)] == [["kept"], ["kept"]]

    def test_never_touches_a_process_that_is_not_the_server(self, fresh: Path) -> None:
        data = fresh / "data"
        data.mkdir()
        sleep = shutil.which("sleep")
        assert sleep is not None
        bystanders = [
            subprocess.Popen([sleep, "60"], cwd=data),  # in the directory, with another name
            subprocess.Popen([sleep, "60"], cwd=fresh),  # with the name, in another directory
        ]
        try:
            assert living_in(data, "postgres") == []
            assert [process.pid for process in living_in(data, "sleep")] == [bystanders[0].pid]
            end(living_in(data, "postgres"), signal.SIGTERM, 1)
            assert [process.poll() for process in bystanders] == [None, None]
        finally:
            for process in bystanders:
                process.kill()
                process.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the servers as somebody else")
class TestAsRoot:
    def test_finds_another_place_when_nobody_cannot_get_through(self, fresh: Path) -> None:
        closed = fresh / "closed"
        closed.mkdir(mode=0o700)
        directory = closed / "local"
        account = server_account()
        home = place.server_home(directory, "postgres", account)
        assert not home.is_relative_to(fresh)
        assert may(account, "-w", home)
        assert place.server_home(directory, "postgres", account) == home
        assert closed.stat().st_mode & 0o777 == 0o700
        place.remove(directory)
        assert not home.parent.exists()

    def test_copies_programs_that_nobody_cannot_reach(self, fresh: Path) -> None:
        closed = fresh / "closed"
        (closed / "wheel").mkdir(parents=True)
        program = closed / "wheel" / "true"
        shutil.copy(shutil.which("true") or "", program)
        closed.chmod(0o700)
        account = server_account()
        home = place.server_home(fresh, "postgres", account)
        usable = place.usable_copy([program.parent], program, home, account, "wheel-1")
        assert usable == home / "wheel-1" / "wheel" / "true"
        assert may(account, "-x", usable)
