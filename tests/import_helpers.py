"""Files and jobs for the tests of importing."""

import csv
import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import openpyxl
from django.db import connection

from campaigns.importing import jobs
from campaigns.models import Audience, ImportJob, OnExisting

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
HEADER = ("email", "name", "city")

Counts = dict[str, int]
Stored = list[tuple[str, str, str, dict[str, Any]]]


def csv_bytes(rows: Iterable[Sequence[object]], *, header: Sequence[str] = HEADER) -> bytes:
    """A CSV file as spreadsheets write it."""
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    return text.getvalue().encode()


def xlsx_bytes(rows: Iterable[Sequence[object]], *, header: Sequence[object] = HEADER) -> bytes:
    """A workbook with one sheet."""
    return workbook_bytes({"People": [header, *rows]})


def workbook_bytes(sheets: Mapping[str, Iterable[Sequence[object]]]) -> bytes:
    """A workbook with these sheets. openpyxl stores a formula without its result."""
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(list(row))
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def with_part(workbook: bytes, name: str, content: bytes, *, declared: int | None = None) -> bytes:
    """The workbook with one part of its archive replaced; `declared` is the size its directory claims."""
    target = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(workbook)) as old,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.infolist():
            new.writestr(entry.filename, content if entry.filename == name else old.read(entry))
        if declared is not None:
            new.getinfo(name).file_size = declared
    return target.getvalue()


def part(workbook: bytes, name: str) -> bytes:
    """One part of the workbook's archive."""
    with zipfile.ZipFile(io.BytesIO(workbook)) as archive:
        return archive.read(name)


def create(
    audience: Audience,
    name: str,
    content: bytes,
    *,
    mapping: dict[str, str] | None = None,
    on_existing: str = OnExisting.UPDATE,
    dry_run: bool = False,
    **how: Any,
) -> ImportJob:
    """A queued import of a file with this name and content; `how` goes to `create_job`."""
    return jobs.create_job(
        audience,
        io.BytesIO(content),
        name,
        mapping=mapping or {},
        on_existing=on_existing,
        dry_run=dry_run,
        **how,
        created_by=None,
    )


def import_file(audience: Audience, name: str, content: bytes, **options: Any) -> ImportJob:
    """The job of an import that was run to its end."""
    return jobs.run(create(audience, name, content, **options).pk, now=NOW)


def counts(job: ImportJob) -> Counts:
    """The counters that are not zero."""
    names = ("read", "created", "updated", "unchanged", "duplicate", "refused", "warnings")
    return {name: getattr(job, name) for name in names if getattr(job, name)}


def report(job: ImportJob) -> list[list[str]]:
    """errors.csv, without its header."""
    if not job.errors_file:
        return []
    with job.errors_file.open("rb") as file:
        return list(csv.reader(io.StringIO(file.read().decode("utf-8-sig"))))[1:]


def reasons(job: ImportJob) -> list[tuple[int, str, str]]:
    """(line, column, reason) of each line that did not get in."""
    return [
        (int(line), column, reason)
        for line, verdict, column, reason, *_ in report(job)
        if verdict != "warning"
    ]


def warnings(job: ImportJob) -> list[tuple[int, str, str]]:
    """(line, column, reason) of each line that got in and looks wrong."""
    return [
        (int(line), column, reason)
        for line, verdict, column, reason, *_ in report(job)
        if verdict == "warning"
    ]


def stored(audience: Audience) -> Stored:
    """The audience's recipients in the order of their addresses."""
    rows = audience.recipients.order_by("email")
    return list(rows.values_list("email", "name", "timezone", "attributes"))


def database_url() -> str:
    """Where the test database is, for another process."""
    settings = connection.settings_dict
    password = f":{settings['PASSWORD']}" if settings["PASSWORD"] else ""
    place = f"{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"
    return f"postgres://{settings['USER']}{password}@{place}"
