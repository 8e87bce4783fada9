"""Rows a second, from the file to committed rows, beside a bare COPY and the usual ways to import."""

import csv
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from django.db import connection, transaction

from campaigns import tasks
from campaigns.importing import jobs
from campaigns.importing.samples import write_samples
from campaigns.models import Audience, ImportJob, ImportStatus, OnExisting
from tests.bench import rivals
from tests.bench.arithmetic import Figures, interleaved, times
from tests.bench.ours import peak_mib
from tests.bench.report import Table
from tests.bench.sizes import Sizes
from tests.workers import celery, environment

LOOK = 0.01  # seconds between two looks at an import
PATIENCE = 600.0  # seconds
COMMIT = 10_000  # rows of a transaction of the way that takes row by row, as listmonk has it
OURS = "this system, CSV"
Measured = dict[str, tuple[int, Figures]]  # rows and seconds of each contestant
COLUMNS = "audience_id, email, name, timezone, attributes, created_at, updated_at"


class NotAllImported(Exception):
    """An import of the bench did not store every row: its figure would mean nothing."""


@dataclass(frozen=True, slots=True)
class Files:
    """Sample files of so many recipients, made as they are asked for."""

    place: Path

    def of(self, rows: int, extension: str) -> Path:
        """A file with these rows; always the same ones."""
        path = self.place / f"{rows}.{extension}"
        if not path.exists():
            write_samples(path, rows)
        return path


def measure(sizes: Sizes, python: str | None) -> Table:
    """Return the table. Everybody begins with an empty table that has this system's indexes and keys."""
    table = Table(
        "Import: rows a second, from the file to committed rows",
        ("what", "rows", "seconds", "least to most", "rows/s", "this system is"),
    )
    with TemporaryDirectory() as place, _worker():
        measured = _measured(Files(Path(place)), sizes, python)
    table.rows += [_row(name, count, figures, measured) for name, (count, figures) in measured.items()]
    table.notes.append(
        "A row has an address, a name, a time zone and three attributes. Ours are checked, compared with "
        "each other and with the suppressions, and the file is stored; nobody else's are."
    )
    if sizes.imported_once:
        table.notes.append("The two largest are imported once, the others in each round.")
    return table


def _measured(files: Files, sizes: Sizes, python: str | None) -> Measured:
    """Let all contestants take turns; a worker is running."""
    take_in(files.of(sizes.imported_slowly, "xlsx"))  # the worker has then imported everything
    contestants = _contestants(files, sizes.imported, sizes.imported_slowly, python)
    found = interleaved({name: run for name, (_, run) in contestants.items()}, sizes.rounds)
    measured = {name: (count, Figures(tuple(found[name]))) for name, (count, _) in contestants.items()}
    if sizes.imported_once:
        large = files.of(sizes.imported_once, "csv")
        for name, run in ((f"{OURS} ", take_in), ("bare COPY ", copy)):
            measured[name] = (sizes.imported_once, Figures((run(large),)))
    return measured


def _contestants(
    files: Files, rows: int, few: int, python: str | None
) -> dict[str, tuple[int, Callable[[], float]]]:
    """Each way to import: how many rows it gets, and what takes them in."""
    text, small = files.of(rows, "csv"), files.of(few, "csv")
    found: dict[str, tuple[int, Callable[[], float]]] = {
        OURS: (rows, partial(take_in, text)),
        "this system, XLSX": (rows, partial(take_in, files.of(rows, "xlsx"))),
        "bare COPY of the same rows into the same table": (rows, partial(copy, text)),
        "one upsert a row, a commit for each 10,000 (as listmonk)": (few, partial(upsert_each, small)),
    }
    if python:
        found["django-import-export"] = (few, partial(import_export, python, "usual", small))
        found["django-import-export, use_bulk"] = (few, partial(import_export, python, "bulk", small))
    return found


def _row(name: str, count: int, figures: Figures, measured: Measured) -> tuple[str, ...]:
    """A line of the table; the last cell compares with ours of the same size, or of the usual one."""
    low, high = figures.span
    rate = count / figures.median
    ours = {size: size / own.median for key, (size, own) in measured.items() if key.startswith(OURS)}
    ours_there = ours.get(count) or next(iter(ours.values()))
    ratio = "" if name.startswith("this system") else times(ours_there, rate)
    spread = f"{low:.2f} to {high:.2f}"
    return (name.strip(), f"{count:,}", f"{figures.median:.2f}", spread, f"{rate:,.0f}", ratio)


def measure_memory(sizes: Sizes) -> Table:
    """Return what the largest process of a fresh worker holds while it imports."""
    table = Table("Import: the worker's largest resident set", ("file", "rows", "MiB"))
    kinds = [("CSV", sizes.imported), ("CSV", sizes.imported_once), ("XLSX", sizes.imported)]
    with TemporaryDirectory() as place:
        files = Files(Path(place))
        for kind, rows in kinds:
            if rows:
                peak = _peak(files, kind.lower(), rows)
                table.rows.append((kind, f"{rows:,}", f"{peak:.1f}"))
    table.notes.append(
        "VmHWM of the process that imports, from its start; it has imported ten rows of the kind before."
    )
    return table


def _peak(files: Files, extension: str, rows: int) -> float:
    with _worker() as worker:
        take_in(files.of(10, extension))
        take_in(files.of(rows, extension))
        return max(peak_mib(process.pid) for process in psutil.Process(worker.pid).children())


@contextmanager
def _worker() -> Iterator["subprocess.Popen[bytes]"]:
    options = ("-Q", "imports", "-c", "1", "-n", "imports@%h", "--without-gossip", "--without-mingle")
    with celery("worker", *options, env=environment(LOG_LEVEL="ERROR")) as process:
        yield process


def take_in(path: Path) -> float:
    """Import a file as the API does, through the queue; the seconds from opening it to the last commit."""
    audience = _empty_audience()
    since = time.monotonic()
    with path.open("rb") as file:
        job = jobs.create_job(
            audience,
            file,
            path.name,
            mapping={},
            on_existing=OnExisting.UPDATE,
            dry_run=False,
            created_by=None,
        )
    tasks.hint(tasks.import_recipients, job.pk)
    while _status_of(job) not in (ImportStatus.COMPLETED, ImportStatus.FAILED):
        if time.monotonic() - since > PATIENCE:
            raise TimeoutError(f"nothing was imported within {PATIENCE:.0f} s")
        time.sleep(LOOK)  # the worker is at it
    seconds = time.monotonic() - since
    job.refresh_from_db()
    if job.created != job.read or audience.recipients.count() != job.created:
        raise NotAllImported(f"{job.created:,} of {job.read:,} were created. {job.problem}")
    return seconds


def copy(path: Path) -> float:
    """COPY the rows of a file, made ready before; the seconds that PostgreSQL takes."""
    audience = _empty_audience()
    lines = [
        "\t".join((str(audience.pk), *cells, "now", "now")).replace("\\", "\\\\") for cells in _rows(path)
    ]
    data = "\n".join(lines).encode() + b"\n"
    since = time.monotonic()
    into = f"COPY campaigns_recipient ({COLUMNS}) FROM STDIN"
    with connection.cursor() as cursor, cursor.copy(into) as copying:
        copying.write(data)
    return time.monotonic() - since


def upsert_each(path: Path) -> float:
    """Read the file, and insert or update each row by a prepared statement, committing every 10,000."""
    audience = _empty_audience()
    connection.ensure_connection()
    statement = f"""
        INSERT INTO campaigns_recipient ({COLUMNS}) VALUES (%s, %s, %s, %s, %s, now(), now())
        ON CONFLICT (audience_id, lower(email)) DO UPDATE SET name = EXCLUDED.name,
            timezone = EXCLUDED.timezone, attributes = EXCLUDED.attributes, updated_at = now()
        """  # noqa: S608  only names of our own
    since = time.monotonic()
    rows = _rows(path)
    with connection.connection.cursor() as cursor:
        for first in range(0, len(rows), COMMIT):
            with transaction.atomic():
                for cells in rows[first : first + COMMIT]:
                    cursor.execute(statement, (audience.pk, *cells), prepare=True)
    return time.monotonic() - since


def import_export(python: str, way: str, path: Path) -> float:
    """Let django-import-export do it, in its own environment; the seconds from the file to the commit."""
    keys = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT")
    known = {key: connection.settings_dict[key] for key in keys}
    process = subprocess.Popen(
        [python, "-m", "tests.bench.peers.imports", way, str(path)],
        cwd=rivals.ROOT,
        env={"PYTHONPATH": str(rivals.ROOT), "BENCH_DATABASE": json.dumps(known)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise RuntimeError("django-import-export did not get ready")
    since = time.monotonic()
    process.stdin.write("go\n")
    process.stdin.flush()
    said = process.stdout.readline()
    seconds = time.monotonic() - since
    process.communicate()
    if said != f"{len(_rows(path))}\n":
        raise NotAllImported(f"django-import-export: {said!r}")
    return seconds


def _rows(path: Path) -> list[tuple[str, str, str, str]]:
    """The rows as the table has them: address, name, time zone, attributes."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            (
                row["email"],
                row["name"],
                row["timezone"],
                json.dumps({key: row[key] for key in ("first_name", "city", "plan")}, ensure_ascii=False),
            )
            for row in csv.DictReader(file)
        ]


def _empty_audience() -> Audience:
    """A new audience in an otherwise empty table."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE campaigns_recipient CASCADE")
        cursor.execute("CHECKPOINT")  # or what an earlier one wrote might go to the disk in this one's time
    return Audience.objects.create(name=f"Import {time.monotonic_ns()}")


def _status_of(job: ImportJob) -> str:
    return ImportJob.objects.values_list("status", flat=True).get(pk=job.pk)
