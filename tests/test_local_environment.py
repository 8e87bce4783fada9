"""Who says what a setting is: the environment, `.env`, or the running stack."""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from mailer_project.local import environment
from mailer_project.local.process import LocalServiceError
from mailer_project.local.stack import only_one

READERS = ("mailer_project/settings.py", "mailer_project/local/stack.py", "docker-compose.yml")
NOT_READ_YET = {"SENDGRID_WEBHOOK_PUBLIC_KEY"}
ROOT: Path = settings.BASE_DIR


def listed() -> list[str]:
    """The names in .env.example, in its order."""
    return re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)


class TestEnvironmentFile:
    def test_is_read_back_as_it_was_written(self, tmp_path: Path) -> None:
        values = {"DATABASE_URL": "postgresql://a:b-_c@127.0.0.1:1/d", "EMPTY": "", "MEDIA_ROOT": "/a b/c"}
        environment.write(tmp_path / "env", values)
        assert environment.read(tmp_path / "env") == values

    def test_is_for_its_owner_only_from_the_first_byte(self, tmp_path: Path) -> None:
        (tmp_path / "env").touch(mode=0o644)
        environment.write(tmp_path / "env", {"SECRET_KEY": "x"})
        assert (tmp_path / "env").stat().st_mode & 0o777 == 0o600

    def test_is_empty_when_there_is_none(self, tmp_path: Path) -> None:
        assert environment.read(tmp_path / "env") == {}


class TestGiven:
    def test_leaves_out_what_an_earlier_run_has_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        environment.write(
            tmp_path / "env", {"DATABASE_URL": "postgresql://ours", "REDIS_URL": "redis://ours"}
        )
        monkeypatch.setenv("DATABASE_URL", "postgresql://ours")  # as settings.py sets it from the file
        monkeypatch.setenv("REDIS_URL", "redis://theirs")
        given = environment.given(tmp_path)
        assert "DATABASE_URL" not in given
        assert given["REDIS_URL"] == "redis://theirs"


class TestExample:
    def test_lists_every_setting_once(self) -> None:
        source = (ROOT / "mailer_project" / "settings.py").read_text()
        names = set(re.findall(r'env(?:\.\w+)?\(\s*"([A-Z_]+)"', source))
        assert names - set(listed()) == set()
        assert len(listed()) == len(set(listed()))

    def test_lists_nothing_that_nobody_reads(self) -> None:
        read = "".join((ROOT / reader).read_text() for reader in READERS)
        assert {name for name in listed() if name not in read} == NOT_READ_YET

    def test_sets_nothing_by_itself(self) -> None:
        assert environment.read(ROOT / ".env.example") == {}

    def test_explains_each_name(self) -> None:
        lines = (ROOT / ".env.example").read_text().splitlines()
        unexplained = [
            line
            for before, line in itertools.pairwise(lines)
            if re.match(r"#?[A-Z_]+=", line) and not before.startswith("# ")
        ]
        assert unexplained == []


class TestOnlyOne:
    def test_refuses_a_second_stack_in_the_same_directory(self, tmp_path: Path) -> None:
        refusal = r"Another `manage\.py up` is using .*; stop it, or set LOCAL_DIR\."
        with only_one(tmp_path), pytest.raises(LocalServiceError, match=refusal), only_one(tmp_path):
            pass

    def test_lets_the_next_one_in(self, tmp_path: Path) -> None:
        for _ in range(2):
            with only_one(tmp_path):
                pass


class TestUp:
    def test_needs_no_setting_to_begin_with(self, tmp_path: Path) -> None:
        command = [sys.executable, str(ROOT / "manage.py"), "up", "--exit"]
        environment = {"PATH": os.environ["PATH"], "LOCAL_DIR": str(tmp_path), "SECRET_KEY": ""}
        refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (refused.returncode, refused.stderr) == (1, "CommandError: --exit needs --demo.\n")
