"""errors.csv on its way back: corrected and imported again, from one generation to the next."""

import csv
import io
from collections.abc import Iterator

import pytest
from django.conf import LazySettings

from campaigns.importing import jobs, running
from campaigns.importing.report import first_refusals
from campaigns.models import Audience, ImportJob, ImportStatus
from tests.import_helpers import (
    HEADER,
    NOW,
    counts,
    create,
    csv_bytes,
    import_file,
    part,
    report,
    stored,
    with_part,
    xlsx_bytes,
)

pytestmark = pytest.mark.django_db

DUPLICATE_AGAIN = "The address stands in the first file already. To import the line, empty its verdict."
NOTHING_BEHIND = (
    "The line has nothing behind the columns with which a report begins. Fill it in, or delete it."
)
MARK = "The cell has U+FFFD in place of a byte that could not be read. Write what belongs there."


@pytest.fixture(autouse=True)
def _limit_of_csv() -> Iterator[None]:
    """The limit is the whole process's; other tests need it as it was."""
    limit = csv.field_size_limit()
    yield
    csv.field_size_limit(limit)


@pytest.fixture
def audience() -> Audience:
    return Audience.objects.create(name="Friends")


def content(job: ImportJob) -> bytes:
    with job.errors_file.open("rb") as file:
        found: bytes = file.read()
    return found


def saved(job: ImportJob, extension: str, **corrections: str) -> bytes:
    """errors.csv with cells replaced, as a spreadsheet saves it."""
    header, *rows = csv.reader(io.StringIO(content(job).decode("utf-8-sig")))
    corrected = [[corrections.get(cell, cell) for cell in row] for row in rows]
    write = xlsx_bytes if extension == "xlsx" else csv_bytes
    return write(corrected, header=header)


@pytest.mark.parametrize("extension", ["csv", "xlsx"])
class TestReport:
    def test_is_imported_again_and_again(self, audience: Audience, extension: str) -> None:
        rows = [("one", "=One", "+1"), ("two", "'=Two", "a"), ("three", "Three", "-3")]
        first = import_file(audience, "p.csv", csv_bytes(rows))
        assert counts(first) == {"read": 3, "refused": 3}
        second = import_file(audience, f"e.{extension}", saved(first, extension, one="one@example.com"))
        assert counts(second) == {"read": 3, "created": 1, "refused": 2}
        third = import_file(audience, f"e.{extension}", saved(second, extension, two="two@example.com"))
        assert counts(third) == {"read": 2, "created": 1, "refused": 1}
        assert content(third).decode("utf-8-sig").splitlines() == [
            ",".join(["line", "verdict", "column", "reason", *HEADER]),
            "3,refused,email,The address has no @-sign.,three,Three,'-3",
        ]
        last = import_file(audience, f"e.{extension}", saved(third, extension, three="three@example.com"))
        assert counts(last) == {"read": 1, "created": 1}
        assert stored(audience) == [
            ("one@example.com", "=One", "", {"city": "+1"}),
            ("three@example.com", "Three", "", {"city": "-3"}),
            ("two@example.com", "'=Two", "", {"city": "a"}),
        ]

    def test_leaves_the_first_of_an_address_in_place(self, audience: Audience, extension: str) -> None:
        rows = [("ok@example.com", "First", ""), ("ok@example.com", "Second", ""), ("bad", "Bad", "")]
        first = import_file(audience, "p.csv", csv_bytes(rows))
        second = import_file(audience, f"e.{extension}", saved(first, extension, bad="bad@example.com"))
        assert counts(second) == {"read": 2, "created": 1, "duplicate": 1}
        assert report(second) == [["2", "duplicate", "", DUPLICATE_AGAIN, "ok@example.com", "Second", ""]]
        third = import_file(audience, f"e.{extension}", saved(second, extension))
        assert counts(third) == {"read": 1, "duplicate": 1}
        assert [name for _, name, _, _ in stored(audience)] == ["Bad", "First"]

    def test_imports_a_duplicate_whose_verdict_is_emptied(self, audience: Audience, extension: str) -> None:
        rows = [("ok@example.com", "First", ""), ("ok@example.com", "Second", "")]
        first = import_file(audience, "p.csv", csv_bytes(rows))
        second = import_file(audience, f"e.{extension}", saved(first, extension, duplicate=""))
        assert counts(second) == {"read": 1, "updated": 1}
        assert [name for _, name, _, _ in stored(audience)] == ["Second"]

    def test_is_refused_where_bytes_were_lost(self, audience: Audience, extension: str) -> None:
        filler = "".join(f"p{n}@example.com,é,x\n" for n in range(9)).encode()
        bad = b"email,name,city\n" + filler + b"zoe@example.com,Zo\xeb,Pune\n"
        first = import_file(audience, "p.csv", bad)
        assert counts(first) == {"read": 10, "created": 9, "refused": 1}
        second = import_file(audience, f"e.{extension}", saved(first, extension))
        assert report(second) == [["2", "refused", "name", MARK, "zoe@example.com", "Zo\ufffd", "Pune"]]
        third = import_file(audience, f"e.{extension}", saved(second, extension, **{"Zo\ufffd": "Zoë"}))
        assert counts(third) == {"read": 1, "created": 1}
        assert audience.recipients.get(email="zoe@example.com").name == "Zoë"

    def test_takes_a_warning_that_was_heeded(self, audience: Audience, extension: str) -> None:
        first = import_file(audience, "p.csv", csv_bytes([("ann@gmial.com", "Ann", "")]))
        corrections = {"ann@gmial.com": "ann@gmail.com"}
        second = import_file(audience, f"e.{extension}", saved(first, extension, **corrections))
        assert counts(second) == {"read": 1, "created": 1}

    def test_may_be_of_a_file_with_columns_of_the_same_names(
        self, audience: Audience, extension: str
    ) -> None:
        first = import_file(audience, "p.csv", csv_bytes([("x", "7")], header=["email", "line"]))
        second = import_file(audience, f"e.{extension}", saved(first, extension, x="x@example.com"))
        assert counts(second) == {"read": 1, "created": 1}
        assert stored(audience) == [("x@example.com", "", "", {"line": "7"})]


class TestReportAsText:
    def test_has_the_mark_by_which_excel_knows_it(self, audience: Audience) -> None:
        job = import_file(audience, "p.csv", csv_bytes([("x", "Ánn", "")]))
        assert content(job).startswith("\ufeffline,verdict,".encode())
        with job.errors_file.open("rb") as file:
            assert [refusal.cells for refusal in first_refusals(file, 5)] == [["x", "Ánn", ""]]

    def test_refuses_a_line_with_its_own_columns_only(self, audience: Audience) -> None:
        job = import_file(audience, "e.csv", b"line,verdict,column,reason,email\n2,refused\n")
        assert report(job) == [["2", "refused", "", NOTHING_BEHIND, "2", "refused"]]

    def test_refuses_a_line_whose_cells_are_still_empty(self, audience: Audience) -> None:
        book = xlsx_bytes([("x", "x", "x")])
        xml = part(book, "xl/worksheets/sheet1.xml").replace(
            b't="inlineStr"><is><t>x</t></is>', b't="e"><v>#N/A</v>'
        )
        job = import_file(audience, "p.xlsx", with_part(book, "xl/worksheets/sheet1.xml", xml))
        assert counts(job) == {"read": 1, "refused": 1}
        for _ in range(2):
            job = import_file(audience, "e.csv", content(job))
            assert report(job) == [["2", "refused", "", NOTHING_BEHIND, "", "", ""]]

    def test_keeps_a_line_that_is_not_csv_as_it_was(self, audience: Audience) -> None:
        first = import_file(audience, "p.csv", b'email,name\n"x"y,Ann\n')
        cells = ['"x"y,Ann']
        for job in (first, import_file(audience, "e.csv", content(first))):
            assert [row[4:] for row in report(job)] == [cells]

    def test_shows_cells_beyond_the_usual_limit_of_csv(
        self, audience: Audience, settings: LazySettings
    ) -> None:
        settings.IMPORT_MAX_CELL = 300_000
        job = import_file(audience, "p.csv", csv_bytes([("x", "Ann", "c" * 300_000)]))
        csv.field_size_limit(131_072)  # as in a process that has not imported
        with job.errors_file.open("rb") as file:
            (refusal,) = first_refusals(file, 5)
        assert refusal.cells[2] == "c" * 300_000


class TestResumedImport:
    def test_says_in_words_that_the_file_reads_otherwise(
        self, audience: Audience, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(running, "CHUNK", 1)
        rows = [("ann@example.com", "Ann", "a long one"), ("bob@example.com", "Bob", "")]
        job = create(audience, "p.csv", csv_bytes(rows))
        jobs.run(
            job.pk,
            now=NOW,
            stopping=lambda: ImportJob.objects.filter(pk=job.pk, created__gt=0).exists(),
        )
        settings.IMPORT_MAX_CELL = 5
        job = jobs.run(job.pk, now=NOW)
        assert job.status == ImportStatus.FAILED
        assert job.problem == (
            "The file reads otherwise than when its import was begun: 2 rows, of which 3 were counted; "
            "perhaps a setting was changed meanwhile. Import the file again: what is in the audience already "
            "counts as unchanged. Its rows up to line 2 are in the audience: 1 created, 0 updated, 0 "
            "unchanged. Those behind it are not."
        )
        assert [email for email, *_ in stored(audience)] == ["ann@example.com"]
