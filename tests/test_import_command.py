"""manage.py import_recipients."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from campaigns.importing.locks import NAMESPACE
from campaigns.models import Audience, ImportJob, Recipient
from tests.import_helpers import csv_bytes, database_url, stored, workbook_bytes, xlsx_bytes
from tests.workers import wait_until

pytestmark = pytest.mark.django_db

ROWS = [("ann@example.com", "Ann", "Pune"), ("broken", "Bob", ""), ("ANN@example.com", "Twin", "")]


@pytest.fixture
def people(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_bytes(csv_bytes(ROWS))
    return path


class Terminal(io.StringIO):
    """An output that a person looks at."""

    def isatty(self) -> bool:
        return True


def run(path: Path, *options: str, audience: str = "Customers") -> str:
    """What the command prints to a program."""
    out = io.StringIO()
    call_command("import_recipients", str(path), "--audience", audience, *options, stdout=out)
    return out.getvalue()


def start(path: Path) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "manage.py", "import_recipients", str(path), "--audience", "Customers"],
        env={**os.environ, "DATABASE_URL": database_url()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def seen(path: Path, *options: str) -> list[list[str]]:
    """The lines on a terminal, each as what stood there one after the other."""
    terminal = Terminal()
    call_command("import_recipients", str(path), "--audience", "Customers", *options, stdout=terminal)
    return [[text.strip() for text in line.split("\r")] for line in terminal.getvalue().split("\n")[:-1]]


def last_line(output: str) -> dict[str, Any]:
    """The last JSON line, without the seconds and the import's number."""
    line: dict[str, Any] = json.loads(output.splitlines()[-1])
    return {name: value for name, value in line.items() if name not in ("seconds", "import")}


COUNTERS = {
    "read": 3,
    "created": 1,
    "updated": 0,
    "unchanged": 0,
    "duplicate": 1,
    "refused": 1,
    "warnings": 0,
    "suppressed": 0,
}


class TestImport:
    def test_creates_the_audience_and_prints_what_became_of_the_rows(self, people: Path) -> None:
        bars, *lines = seen(people)
        assert bars[-1].startswith('Imported people.csv into "Customers" in ')
        assert [line[0].split() for line in lines[1:9]] == [
            [name, str(count)] for name, count in COUNTERS.items()
        ]
        assert lines[9:] == [
            ["line 3, email: The address has no @-sign. (refused)"],
            ["line 4, email: The address stands in line 2 already. (duplicate)"],
        ]
        assert stored(Audience.objects.get(name="Customers")) == [
            ("ann@example.com", "Ann", "", {"city": "Pune"})
        ]

    def test_finds_an_audience_whatever_the_case_of_its_name(self, people: Path) -> None:
        audience = Audience.objects.create(name="CUSTOMERS")
        run(people)
        assert Audience.objects.get() == audience
        assert audience.recipients.count() == 1

    def test_shows_a_bar_on_a_terminal(self, people: Path) -> None:
        bars = [bar.partition(" rows")[0] for bar in seen(people)[0] if "]" in bar]
        assert list(dict.fromkeys(bars)) == [
            f"reading [{'#' * 30}] 100% 3",
            f"writing [{' ' * 30}]   0% 0",
            f"writing [{'#' * 30}] 100% 1",
        ]

    @pytest.mark.parametrize("options", [[], ["--json"]])
    def test_prints_json_lines_to_a_program(self, people: Path, options: list[str]) -> None:
        output = run(people, *options)
        first = json.loads(output.splitlines()[0])
        assert first.pop("rate_per_second") > 0
        assert first == {
            "status": "running",
            "phase": "reading",
            "total": 3,
            "eta_seconds": 0,
            **COUNTERS,
            "created": 0,
            "duplicate": 0,
        }
        assert last_line(output) == {
            "status": "completed",
            "audience": "Customers",
            "dry_run": False,
            **COUNTERS,
        }

    def test_takes_a_mapping(self, tmp_path: Path) -> None:
        path = tmp_path / "people.xlsx"
        path.write_bytes(xlsx_bytes([("ann@example.com", "Ann L.")], header=["Contact", "Person"]))
        run(path, "--mapping", "email=Contact,name=Person")
        assert stored(Audience.objects.get()) == [("ann@example.com", "Ann L.", "", {})]

    def test_takes_a_sheet_an_encoding_and_what_to_warn_of(self, tmp_path: Path) -> None:
        book = tmp_path / "p.xlsx"
        book.write_bytes(
            workbook_bytes({"May": [["email"], ["a@example.com"]], "June": [["email"], ["info@b.example"]]})
        )
        counters = last_line(run(book, "--sheet", "June", "--warn-about", "role,disposable"))
        assert (counters["created"], counters["warnings"]) == (1, 1)
        text = tmp_path / "p.csv"
        text.write_bytes("email,name\nivan@example.com,Иван\n".encode("cp1251"))
        run(text, "--encoding", "windows-1251")
        assert Recipient.objects.get(email="ivan@example.com").name == "Иван"
        with pytest.raises(CommandError, match='"weather" is not among role, disposable'):
            run(text, "--warn-about", "weather")

    def test_skips_known_addresses_when_told(self, people: Path) -> None:
        audience = Audience.objects.create(name="Customers")
        audience.recipients.create(email="ann@example.com", name="Known")
        assert last_line(run(people, "--json", "--on-existing", "skip"))["unchanged"] == 1
        assert audience.recipients.get().name == "Known"

    def test_writes_the_lines_left_out(self, people: Path, tmp_path: Path) -> None:
        run(people, "--errors", str(tmp_path / "errors.csv"))
        assert (tmp_path / "errors.csv").read_text("utf-8-sig").splitlines() == [
            "line,verdict,column,reason,email,name,city",
            "3,refused,email,The address has no @-sign.,broken,Bob,",
            "4,duplicate,email,The address stands in line 2 already.,ANN@example.com,Twin,",
        ]


class TestDryRun:
    def test_changes_nothing_but_counts_the_same(self, people: Path) -> None:
        audience = Audience.objects.create(name="Customers")
        assert last_line(run(people, "--json", "--dry-run")) == {
            "status": "completed",
            "audience": "Customers",
            "dry_run": True,
            **COUNTERS,
        }
        assert stored(audience) == []

    def test_shows_first_how_the_file_is_read_and_what_its_columns_become(self, people: Path) -> None:
        document = json.loads(run(people, "--dry-run").splitlines()[0])["preview"]
        assert document["reading"] == {"format": "text", "encoding": "UTF-8", "delimiter": "commas"}
        assert [(found["field"], found["column"]) for found in document["mapping"]] == [
            ("email", "email"),
            ("name", "name"),
            ("timezone", ""),
        ]
        assert [row["verdict"] for row in document["rows"]] == ["accepted", "refused", "duplicate"]

    def test_shows_a_person_the_same_in_words(self, people: Path) -> None:
        lines = [line[-1] for line in seen(people, "--dry-run")]
        assert lines[:8] == [
            "Read as text, UTF-8, columns separated by commas.",
            'email     in column "email", by the column\'s name',
            'name      in column "name", by the column\'s name',
            "timezone  in no column, no column has such a name",
            'attribute {{ city }} in column "city"',
            "line 2: accepted: ann@example.com | Ann | Pune",
            "line 3: refused (The address has no @-sign.): broken | Bob |",
            "line 4: duplicate (The address stands in line 2 already.): ANN@example.com | Twin |",
        ]

    def test_does_not_create_the_audience(self, people: Path, tmp_path: Path) -> None:
        output = run(people, "--json", "--dry-run", "--errors", str(tmp_path / "errors.csv"))
        assert {name: last_line(output)[name] for name in COUNTERS} == COUNTERS
        assert len((tmp_path / "errors.csv").read_text().splitlines()) == 3
        assert not Audience.objects.exists()
        assert not ImportJob.objects.exists()


class TestRefusedFile:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "The file is empty."),
            (b"name\nAnn\n", "No column looks like the e-mail address."),
            (b"email\n", "The file has a header and no other line."),
        ],
    )
    @pytest.mark.parametrize("options", [[], ["--dry-run"]])
    def test_ends_with_a_sentence_and_no_audience(
        self, people: Path, content: bytes, message: str, options: list[str]
    ) -> None:
        people.write_bytes(content)
        with pytest.raises(CommandError, match=f"^{message}") as refused:
            run(people, *options)
        assert refused.value.returncode == 1
        assert not Audience.objects.exists()
        assert not Recipient.objects.exists()

    def test_leaves_a_known_audience_where_it_is(self, people: Path) -> None:
        audience = Audience.objects.create(name="Customers")
        people.write_bytes(b"email\n")
        with pytest.raises(CommandError):
            run(people)
        assert audience.imports.get().problem == "The file has a header and no other line."

    def test_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match=r"nowhere\.csv: No such file or directory\."):
            run(tmp_path / "nowhere.csv")

    def test_is_told_in_json_too(self, people: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(CommandError):
            call_command(
                "import_recipients", str(people), "--audience", "A", "--mapping", "email=Contact", "--json"
            )
        assert json.loads(capsys.readouterr().out) == {
            "status": "failed",
            "field": "mapping",
            "problem": 'email: the file has no column "Contact". Its columns are "email", "name", "city".',
        }

    def test_may_have_a_mapping_that_cannot_be_read(self, people: Path) -> None:
        with pytest.raises(CommandError, match=r'"Contact" is not like email=Contact,name=Person\.'):
            run(people, "--mapping", "Contact")


@pytest.mark.django_db(transaction=True)
class TestWorker:
    def test_that_was_given_the_import_first_is_waited_for(self, people: Path) -> None:
        job_id = ImportJob.objects.create(audience=Audience.objects.create(name="Other")).pk + 1
        with psycopg.connect(database_url(), autocommit=True) as worker:
            worker.execute("SELECT pg_advisory_lock(%s)", [(NAMESPACE << 32) | job_id])
            process = start(people)
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["status"] == "queued"
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0
        assert last_line(output) == {
            "status": "completed",
            "audience": "Customers",
            "dry_run": False,
            **COUNTERS,
        }


@pytest.mark.django_db(transaction=True)
class TestInterrupt:
    def test_cancels_the_import_and_says_what_it_had_done(self, tmp_path: Path) -> None:
        path = tmp_path / "many.csv"
        path.write_bytes(csv_bytes((f"p{number}@example.com", "", "") for number in range(200_000)))
        Audience.objects.create(name="Customers")
        process = start(path)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["phase"] == "reading"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 130
        assert json.loads(output.splitlines()[-1])["status"] == "cancelled"
        assert "Cancelled. Nothing of it is in the audience." in errors
        job = ImportJob.objects.get()
        assert (job.status, job.written) == ("cancelled", 0)


class TestAudience:
    @pytest.mark.parametrize(
        ("name", "problem"),
        [
            ("", "This field cannot be blank."),
            ("  ", "This field cannot be blank."),
            ("x" * 201, "Ensure this value has at most 200 characters (it has 201)."),
        ],
        ids=["none", "blanks", "too long"],
    )
    @pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=str)
    def test_needs_a_name(self, people: Path, name: str, problem: str, options: list[str]) -> None:
        with pytest.raises(CommandError, match=re.escape(f"--audience: {problem}")):
            run(people, *options, audience=name)
        assert not Audience.objects.exists()
        assert not ImportJob.objects.exists()

    @pytest.mark.django_db(transaction=True)
    def test_that_two_create_at_once_takes_both_files(self, tmp_path: Path) -> None:
        files = [tmp_path / f"{letter}.csv" for letter in "ab"]
        for file in files:
            file.write_bytes(
                csv_bytes([(f"{file.stem}{number}@example.com", "", "") for number in range(20)])
            )
        with psycopg.connect(database_url()) as other, other.cursor() as cursor:
            # both have looked for the audience, and neither has found it, when this is taken back
            cursor.execute(
                "INSERT INTO campaigns_audience (name, description, created_at) VALUES (%s, '', now())",
                ["customers"],
            )
            processes = [start(file) for file in files]
            wait_until(lambda: waiting_sessions() == 2)
            other.rollback()
        for process in processes:
            said = process.communicate(timeout=60)
            assert process.returncode == 0, said
        assert Recipient.objects.filter(audience=Audience.objects.get()).count() == 40


@pytest.mark.django_db(transaction=True)
def test_goes_on_when_nobody_reads_along_any_more(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_bytes(csv_bytes([(f"p{number}@example.com", "", "") for number in range(60_000)]))
    with start(path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 0
    job = ImportJob.objects.get()
    assert (job.status, job.created) == ("completed", 60_000)


def waiting_sessions() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return int(cursor.fetchone()[0])
