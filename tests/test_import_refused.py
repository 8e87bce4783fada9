"""Files that are refused as a whole: the answer names what is wrong, and the audience stays as it was."""

from collections.abc import Callable

import pytest
from django.conf import LazySettings
from django.core.files.base import ContentFile

from campaigns.importing import jobs
from campaigns.importing.refusals import ImportRefused
from campaigns.models import Audience, ImportJob, ImportStatus
from tests.import_helpers import (
    NOW,
    Stored,
    create,
    csv_bytes,
    part,
    stored,
    with_part,
    workbook_bytes,
    xlsx_bytes,
)

SHEET = "xl/worksheets/sheet1.xml"
ANN = ("ann@example.com", "Ann", "Pune")
GOOD = csv_bytes([ANN])
BOOK = xlsx_bytes([ANN])
ALLOWED = ".csv, .tsv, .txt, .xlsx, .xlsm, .xls, .ods, .zip, .gz"
WIDE = ["email", *(f"column {number}" for number in range(2, 301))]


def stray_cell(reference: str) -> bytes:
    """The workbook with a number far outside its table."""
    row = reference.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    cell = f'<row r="{row}"><c r="{reference}"><v>1</v></c></row></sheetData>'
    return with_part(BOOK, SHEET, part(BOOK, SHEET).replace(b"</sheetData>", cell.encode()))


def bomb() -> bytes:
    """60 MB of spaces in a sheet, 60 KB packed."""
    return with_part(
        BOOK, SHEET, part(BOOK, SHEET).replace(b"</worksheet>", b" " * 60_000_000 + b"</worksheet>")
    )


def lying_bomb() -> bytes:
    """The same, with a small size in the archive's directory."""
    return with_part(BOOK, SHEET, b" " * 60_000_000, declared=1000)


REFUSED = [
    ("empty.csv", b"", "The file is empty."),
    ("blank.csv", b"\n\n , \n", "The file is empty."),
    ("empty.xlsx", b"", "The file is empty."),
    (
        "blank.xlsx",
        workbook_bytes({"People": []}),
        "The workbook is empty: no visible sheet has a cell with a value.",
    ),
    (
        "utf16_cut.csv",
        "email,name\nann@example.com,Ann\n".encode("utf-16")[:-1],
        "The file is not UTF-16: line 2 has bytes that mean nothing in it. Save it as UTF-8.",
    ),
    (
        "no_email.csv",
        b"name,city\nAnn,Pune\n",
        'No column looks like the e-mail address. The columns are "name", "city". '
        'Name one of them "email", or say which it is in the mapping.',
    ),
    (
        "no_email.xlsx",
        xlsx_bytes([("Ann", "Pune")], header=("name", "city")),
        'No column looks like the e-mail address. The columns are "name", "city". '
        'Name one of them "email", or say which it is in the mapping.',
    ),
    ("wide.csv", csv_bytes([], header=WIDE), "The file has 300 columns; an import takes at most 100."),
    (
        "wide.xlsx",
        xlsx_bytes([], header=WIDE),
        'Sheet "People" has 300 columns; an import takes at most 100. '
        "Delete the columns to the right of the table, even those that look empty.",
    ),
    (
        "people.pdf",
        b"%PDF-1.7",
        f'".pdf" is not a format that can be imported; allowed are {ALLOWED}.',
    ),
    (
        "people",
        GOOD,
        f'"people" is not a format that can be imported; allowed are {ALLOWED}.',
    ),
    (
        "text.xlsx",
        GOOD,
        "The file is not an Excel workbook, though its name says so, or it is damaged.",
    ),
    (
        "book.csv",
        BOOK,
        "The file is named .csv but is no text: it is a workbook or an archive. "
        "Name an Excel workbook .xlsx, an archive .zip or .gz.",
    ),
    (
        "container.xlsx",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
        "The workbook is damaged: its container cannot be read.",
    ),
    (
        "no_header.csv",
        b"ann@example.com,Ann\nbob@example.com,Bob\n",
        'The first row must name the columns, but holds an address ("ann@example.com"). '
        'Put a header row such as "email,name" above it.',
    ),
    (
        "twice.csv",
        b"email,City,city\nann@example.com,Pune,Agra\n",
        'Columns 2 and 3 have the same name, "city". Each needs its own.',
    ),
    ("unnamed.csv", b"email,,city\n", "Column 2 has no name in the header row."),
    (
        "two_emails.csv",
        b"E-mail,email\n",
        'The columns "E-mail", "email" could each be the email; name one in the mapping.',
    ),
    (
        "one_variable.csv",
        b"email,First name,First-name\n",
        'The columns "First name" and "First-name" would both be {{ First_name }} in a template; rename one.',
    ),
    (
        "nul.csv",
        b"email\0,name\nann@example.com,Ann\n" + b"bob@example.com,Bob\n" * 9,
        "The name of column 1 contains a NUL byte. The file may be UTF-16 without its mark; "
        "save it as UTF-8.",
    ),
    (
        "page.xls",
        b"<html><table><tr><td>email</td></tr></table></html>",
        "The file is named .xls but is a web page or XML. Open it in Excel and save it as .xlsx or CSV.",
    ),
    (
        "open_quote.csv",
        b'"email,name\nann@example.com,Ann\n',
        'Line 1, the header: A quote (") is opened here and never closed.',
    ),
    (
        "far_right.xlsx",
        stray_cell("XFD9"),
        'Sheet "People" has 16384 columns; an import takes at most 100. '
        "Delete the columns to the right of the table, even those that look empty.",
    ),
    (
        "far_down.xlsx",
        stray_cell("CV1048576"),
        'Sheet "People" reaches over 1,048,576 rows and 100 columns, more than 6,000,000 cells. '
        "Delete stray cells outside the table, or save it as CSV.",
    ),
    (
        "nowhere.xlsx",
        with_part(BOOK, SHEET, part(BOOK, SHEET).replace(b'r="B2"', b'r="B999999999"')),
        'Sheet "People" reaches over 999,999,999 rows and 3 columns, more than 6,000,000 cells. '
        "Delete stray cells outside the table, or save it as CSV.",
    ),
    (
        "beyond.xlsx",  # calamine alone would abort the process for want of memory
        with_part(BOOK, SHEET, part(BOOK, SHEET).replace(b'r="B2"', b'r="AAAAAA2"')),
        'Sheet "People" has 12356631 columns; an import takes at most 100. '
        "Delete the columns to the right of the table, even those that look empty.",
    ),
    (
        "spaced.xlsx",  # so too
        with_part(BOOK, SHEET, part(BOOK, SHEET).replace(b'r="B2"', b'r = "ALL2"')),
        'Sheet "People" has 1000 columns; an import takes at most 100. '
        "Delete the columns to the right of the table, even those that look empty.",
    ),
    (
        "without_references.xlsx",
        with_part(BOOK, SHEET, part(BOOK, SHEET).replace(b"</row>", b"<c><v>1</v></c>" * 200 + b"</row>", 1)),
        'Sheet "People" has 203 columns; an import takes at most 100. '
        "Delete the columns to the right of the table, even those that look empty.",
    ),
    (
        "sparse.xlsx",
        stray_cell("AW1000000"),
        'Sheet "People" reaches over 1,000,000 rows and 49 columns, more than 6,000,000 cells. '
        "Delete stray cells outside the table, or save it as CSV.",
    ),
    (
        "rows_alone.xlsx",
        with_part(BOOK, SHEET, part(BOOK, SHEET).replace(b"</sheetData>", b"<row r='9000000'/></sheetData>")),
        'Sheet "People" reaches over 9,000,000 rows and 3 columns, more than 6,000,000 cells. '
        "Delete stray cells outside the table, or save it as CSV.",
    ),
    (
        "entities.xlsx",
        with_part(
            BOOK,
            "xl/workbook.xml",
            b'<!DOCTYPE w [<!ENTITY a "aaaa">]>' + part(BOOK, "xl/workbook.xml").partition(b"?>")[2]
            if part(BOOK, "xl/workbook.xml").startswith(b"<?xml")
            else b'<!DOCTYPE w [<!ENTITY a "aaaa">]>' + part(BOOK, "xl/workbook.xml"),
        ),
        "The workbook declares XML entities, which Excel never does.",
    ),
]
SEEN_WHEN_READ = [
    (
        "endless.csv",
        b"email\n" + b"a@example.com\n" * 60_000 + b"a" * 2_000_001,
        "Line 60002 is longer than 2,000,000 characters.",
    ),
    ("header_only.csv", b"email,name\n", "The file has a header and no other line."),
]
LATE = REFUSED + SEEN_WHEN_READ


@pytest.fixture
def audience() -> Audience:
    audience = Audience.objects.create(name="Customers")
    audience.recipients.create(email="first@example.com", name="First")
    return audience


BEFORE: Stored = [("first@example.com", "First", "", {})]


@pytest.mark.django_db
class TestRefusedFile:
    @pytest.mark.parametrize(("name", "content", "message"), REFUSED, ids=[name for name, *_ in REFUSED])
    def test_changes_nothing_and_says_why(
        self, audience: Audience, name: str, content: bytes, message: str
    ) -> None:
        with pytest.raises(ImportRefused) as refused:
            create(audience, name, content)
        assert (refused.value.field, refused.value.message) == ("file", message)
        assert not ImportJob.objects.exists()
        assert stored(audience) == BEFORE

    @pytest.mark.parametrize(
        ("make", "message"),
        [(bomb, r"unpacks to 60,\d\d\d,\d\d\d bytes from"), (lying_bomb, "The workbook is damaged")],
    )
    def test_may_be_a_zip_bomb(self, audience: Audience, make: Callable[[], bytes], message: str) -> None:
        content = make()
        assert len(content) < 100_000
        with pytest.raises(ImportRefused, match=message):
            create(audience, "bomb.xlsx", content)
        assert stored(audience) == BEFORE

    def test_may_be_too_large(self, audience: Audience, settings: LazySettings) -> None:
        settings.IMPORT_MAX_BYTES = len(GOOD) - 1
        with pytest.raises(ImportRefused, match=f"The file has {len(GOOD)} bytes; at most {len(GOOD) - 1}"):
            create(audience, "people.csv", GOOD)

    @pytest.mark.parametrize(
        ("mapping", "message"),
        [
            ({"email": ""}, 'email: say in which column it is. They are "email", "name", "city".'),
            (
                {"email": "Contact"},
                'email: the file has no column "Contact". Its columns are "email", "name", "city".',
            ),
            ({"phone": "name"}, '"phone" is not a field; the fields are "email", "name", "timezone".'),
            ({"email": "city", "name": "City"}, 'Two fields are mapped to the column "City".'),
        ],
    )
    def test_may_not_fit_the_mapping(self, audience: Audience, mapping: dict[str, str], message: str) -> None:
        with pytest.raises(ImportRefused) as refused:
            create(audience, "people.csv", GOOD, mapping=mapping)
        assert (refused.value.field, refused.value.message) == ("mapping", message)

    @pytest.mark.parametrize(("name", "content", "message"), LATE, ids=[name for name, *_ in LATE])
    def test_that_reached_the_store_fails_there(
        self, audience: Audience, name: str, content: bytes, message: str
    ) -> None:
        job = create(audience, "people.csv", GOOD)
        job.file.delete(save=False)
        job.original_name = name
        job.file.save(name, ContentFile(content))
        job.save()
        job = jobs.run(job.pk, now=NOW)
        assert (job.status, job.problem) == (ImportStatus.FAILED, message)
        assert stored(audience) == BEFORE
