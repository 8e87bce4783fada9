"""An import from its file to the last count."""

from datetime import timedelta
from pathlib import Path

import pytest

from campaigns.importing import jobs, running
from campaigns.models import Audience, Campaign, EmailTemplate, ImportJob, ImportStatus, OnExisting, Recipient
from tests.import_helpers import (
    HEADER,
    NOW,
    counts,
    create,
    csv_bytes,
    import_file,
    reasons,
    report,
    stored,
    workbook_bytes,
    xlsx_bytes,
)

DATA = Path(__file__).parent / "data" / "imports"
ANN = ("ann@example.com", "Ann", "Pune")
BOB = ("bob@example.com", "Bob", "Delhi")

pytestmark = pytest.mark.django_db


@pytest.fixture
def audience() -> Audience:
    return Audience.objects.create(name="Customers")


class TestCompletion:
    def test_stores_each_row_and_counts_it(self, audience: Audience) -> None:
        job = import_file(audience, "people.csv", csv_bytes([ANN, BOB]))
        assert job.status == ImportStatus.COMPLETED
        assert counts(job) == {"read": 2, "created": 2}
        assert not job.errors_file
        assert stored(audience) == [
            ("ann@example.com", "Ann", "", {"city": "Pune"}),
            ("bob@example.com", "Bob", "", {"city": "Delhi"}),
        ]

    def test_says_when_it_began_and_ended(self, audience: Audience) -> None:
        job = import_file(audience, "people.csv", csv_bytes([ANN]))
        job.refresh_from_db()
        assert job.started_at == NOW
        assert job.finished_at is not None
        assert NOW < job.finished_at < NOW + timedelta(minutes=1)

    def test_reports_progress_while_reading_and_while_writing(
        self, audience: Audience, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(running, "CHUNK", 10_000)
        seen: list[tuple[str, int, int]] = []
        rows = ((f"p{number}@example.com", "", "") for number in range(25_000))
        job = create(audience, "people.csv", csv_bytes(rows))
        jobs.run(job.pk, now=NOW, on_progress=lambda job: seen.append((job.phase, job.read, job.written)))
        assert ("reading", 25_000, 0) in seen
        assert seen[-4:] == [
            ("writing", 25_000, 9_999),  # line 1 is the header
            ("writing", 25_000, 19_999),
            ("writing", 25_000, 25_000),
            ("", 25_000, 25_000),
        ]

    def test_does_nothing_the_second_time(self, audience: Audience) -> None:
        job = import_file(audience, "people.csv", csv_bytes([ANN]))
        Recipient.objects.all().delete()
        again = jobs.run(job.pk, now=NOW + timedelta(hours=1))
        assert again.started_at == NOW
        assert stored(audience) == []

    def test_leaves_other_audiences_alone(self, audience: Audience) -> None:
        other = Audience.objects.create(name="Others")
        import_file(other, "people.csv", csv_bytes([ANN]))
        assert counts(import_file(audience, "people.csv", csv_bytes([ANN]))) == {"read": 1, "created": 1}
        assert len(stored(other)) == 1


class TestReport:
    def test_names_line_and_reason_of_ten_duplicates_and_ten_malformed(self, audience: Audience) -> None:
        job = import_file(audience, "ten.csv", (DATA / "ten_and_ten.csv").read_bytes())
        assert counts(job) == {"read": 25, "created": 5, "duplicate": 10, "refused": 10}
        assert [email for email, *_ in stored(audience)] == [
            f"good{number}@example.com" for number in range(1, 6)
        ]
        assert all(name.startswith("Good") for _, name, *_ in stored(audience))
        twins = [
            (line, "email", f"The address stands in line {(line - 7) % 5 + 2} already.")
            for line in range(7, 17)
        ]
        assert reasons(job) == [
            *twins,
            (17, "email", "The address has no @-sign."),
            (18, "email", "There must be something before the @-sign."),
            (19, "email", "There must be something after the @-sign."),
            (20, "email", "An email address cannot have two periods in a row."),
            (21, "email", "The email address contains invalid characters before the @-sign: SPACE."),
            (22, "email", "The part after the @-sign is not valid. It should have a period."),
            (
                23,
                "email",
                "The part before the @-sign has 67 bytes of UTF-8; at most 64 are allowed.",
            ),
            (24, "email", "The address is a formula. Paste it as a value."),
            (25, "email", "The address is empty."),
            (26, "email", "The part after the @-sign contains invalid characters: '_'."),
        ]

    def test_keeps_the_original_cells(self, audience: Audience) -> None:
        job = import_file(
            audience, "p.csv", csv_bytes([ANN, ("ANN@example.com", "+Ann", "=1+1"), ("x", "-X", "")])
        )
        assert report(job) == [
            [
                "3",
                "duplicate",
                "email",
                "The address stands in line 2 already.",
                "ANN@example.com",
                "'+Ann",
                "'=1+1",
            ],
            ["4", "refused", "email", "The address has no @-sign.", "x", "'-X", ""],
        ]

    def test_never_begins_a_formula_in_a_cell_of_its_own(self, audience: Audience) -> None:
        job = import_file(audience, "p.csv", csv_bytes([("x",)], header=["=cmd"]), mapping={"email": "=cmd"})
        assert report(job) == [["2", "refused", "'=cmd", "The address has no @-sign.", "x"]]

    def test_can_be_corrected_and_imported_again(self, audience: Audience) -> None:
        job = import_file(audience, "p.csv", csv_bytes([("ann.example.com", "Ann", "Pune")]))
        with job.errors_file.open("rb") as file:
            corrected = file.read().replace(b"ann.example.com", b"ann@example.com")
        assert counts(import_file(audience, "errors.csv", corrected)) == {"read": 1, "created": 1}
        assert stored(audience) == [("ann@example.com", "Ann", "", {"city": "Pune"})]


class TestKnownAddresses:
    @pytest.fixture(autouse=True)
    def _known(self, audience: Audience) -> None:
        attributes = {"city": "Pune", "plan": "gold"}
        audience.recipients.create(email="Ann@example.com", name="Ann", attributes=attributes)
        audience.recipients.create(email="bob@example.com", name="Bob", attributes={"city": "Delhi"})

    rows = [("ann@example.com", "Anna", "Agra"), BOB, ("cid@example.com", "Cid", "Agra")]

    def test_are_updated(self, audience: Audience) -> None:
        job = import_file(audience, "p.csv", csv_bytes(self.rows))
        assert counts(job) == {"read": 3, "created": 1, "updated": 1, "unchanged": 1}
        assert stored(audience) == [
            ("Ann@example.com", "Anna", "", {"city": "Agra", "plan": "gold"}),
            ("bob@example.com", "Bob", "", {"city": "Delhi"}),
            ("cid@example.com", "Cid", "", {"city": "Agra"}),
        ]

    def test_are_left_as_they_are_on_skip(self, audience: Audience) -> None:
        job = import_file(audience, "p.csv", csv_bytes(self.rows), on_existing=OnExisting.SKIP)
        assert counts(job) == {"read": 3, "created": 1, "unchanged": 2}
        assert stored(audience)[0] == ("Ann@example.com", "Ann", "", {"city": "Pune", "plan": "gold"})

    def test_keep_the_fields_that_the_file_has_no_column_for(self, audience: Audience) -> None:
        before = stored(audience)
        job = import_file(audience, "p.csv", b"email\nann@example.com\n")
        assert counts(job) == {"read": 1, "unchanged": 1}
        assert stored(audience) == before

    @pytest.mark.parametrize("on_existing", OnExisting.values)
    def test_are_counted_the_same_by_a_dry_run_which_changes_nothing(
        self, audience: Audience, on_existing: str
    ) -> None:
        before = stored(audience)
        content = csv_bytes([*self.rows, BOB, ("bad", "", "")])
        rehearsal = import_file(audience, "p.csv", content, on_existing=on_existing, dry_run=True)
        assert rehearsal.status == ImportStatus.COMPLETED
        assert stored(audience) == before
        real = import_file(audience, "p.csv", content, on_existing=on_existing)
        assert counts(real) == counts(rehearsal)
        assert report(real) == report(rehearsal)


class TestFormats:
    rows = [
        ANN,
        ("00123@example.com", "00123", "NA"),
        ("c@münchen.de", "  Zoë  ", "null"),
        ("ANN@example.com", "Twin", ""),
        ("broken", "नाम", "x"),
        ("d@example.com", "D", "two\nlines"),
    ]

    def test_give_the_same_result_for_the_same_rows(self, audience: Audience) -> None:
        other = Audience.objects.create(name="From Excel")
        text = import_file(audience, "p.csv", csv_bytes(self.rows))
        book = import_file(other, "p.xlsx", xlsx_bytes(self.rows))
        assert counts(text) == counts(book) == {"read": 6, "created": 4, "duplicate": 1, "refused": 1}
        assert report(text) == report(book)
        assert stored(audience) == stored(other)
        assert stored(other) == [
            ("00123@example.com", "00123", "", {"city": "NA"}),
            ("ann@example.com", "Ann", "", {"city": "Pune"}),
            ("c@xn--mnchen-3ya.de", "Zoë", "", {"city": "null"}),
            ("d@example.com", "D", "", {"city": "two\nlines"}),
        ]

    def test_agree_on_a_sheet_that_begins_in_its_middle(self, audience: Audience) -> None:
        rows = [["", "", *row] for row in ((), HEADER, ANN, ("x", "", ""))]
        job = import_file(
            audience, "p.xlsx", workbook_bytes({"People": [[None] * 2 + row[2:] for row in rows]})
        )
        assert counts(job) == {"read": 2, "created": 1, "refused": 1}
        assert reasons(job) == [(4, "email", "The address has no @-sign.")]


class TestFormulas:
    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            (
                "p.csv",
                csv_bytes([('=HYPERLINK("x")', "A", "B")]),
                "The address is a formula. Paste it as a value.",
            ),
            (
                "p.xlsx",
                xlsx_bytes([("=A9", "A", "B")]),
                "The address is a formula without a stored result, so it reads as empty. "
                "Paste it as a value.",
            ),
        ],
    )
    def test_are_never_taken_for_an_address(
        self, audience: Audience, name: str, content: bytes, reason: str
    ) -> None:
        job = import_file(audience, name, content)
        assert counts(job) == {"read": 1, "refused": 1}
        assert reasons(job) == [(2, "email", reason)]
        assert stored(audience) == []


class TestUndoneAudience:
    def test_is_gone_with_the_import_that_failed(self, audience: Audience) -> None:
        job = import_file(audience, "p.csv", b"email\n")
        stored_file = Path(job.file.path)
        assert jobs.undo_audience(job)
        assert not Audience.objects.exists()
        assert not ImportJob.objects.exists()
        assert not stored_file.exists()

    def test_is_kept_for_the_recipients_that_another_import_wrote(self, audience: Audience) -> None:
        failed = import_file(audience, "p.csv", b"email\n")
        import_file(audience, "good.csv", csv_bytes([("ann@example.com", "Ann", "")]))
        assert not jobs.undo_audience(failed)
        assert audience.recipients.count() == 1
        assert audience.imports.count() == 2

    def test_is_kept_for_an_import_that_is_to_begin(self, audience: Audience) -> None:
        failed = import_file(audience, "p.csv", b"email\n")
        create(audience, "good.csv", csv_bytes([("ann@example.com", "Ann", "")]))
        assert not jobs.undo_audience(failed)
        assert audience.imports.count() == 2

    def test_is_kept_for_a_campaign(self, audience: Audience) -> None:
        failed = import_file(audience, "p.csv", b"email\n")
        template = EmailTemplate.objects.create(name="Offer", subject="Hello", text="Hi")
        Campaign.objects.create(audience=audience, template=template, name="May")
        assert not jobs.undo_audience(failed)
        assert Audience.objects.get() == audience


class TestDeletedJob:
    def test_is_said_to_be_missing(self) -> None:
        with pytest.raises(ImportJob.DoesNotExist):
            jobs.run(999, now=NOW)

    def test_whose_file_is_gone_fails(self, audience: Audience) -> None:
        job = create(audience, "p.csv", csv_bytes([ANN]))
        job.file.storage.delete(job.file.name or "")
        job = jobs.run(job.pk, now=NOW)
        assert (job.status, job.problem) == (
            ImportStatus.FAILED,
            "The stored file is gone; upload it again.",
        )
        assert stored(audience) == []
