"""The beginning of a large workbook tells the same as the whole."""

import io
from collections.abc import Sequence
from typing import Any

import pytest

from campaigns.importing import heads, jobs
from campaigns.importing.reading import open_table
from campaigns.importing.refusals import ImportRefused, Line, Reading
from campaigns.models import Audience
from tests.import_helpers import NOW, create, part, with_part, workbook_bytes, xlsx_bytes
from tests.test_import_nasty import NASTY

SHEET = "xl/worksheets/sheet1.xml"
PEOPLE = [(f"p{number}@example.com", f"P{number}", "Pune") for number in range(500)]
Glance = tuple[tuple[str, ...], Reading, tuple[Line, ...]]


@pytest.fixture(autouse=True)
def _short_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "LONGEST", 30_000)  # bytes; some 150 rows of PEOPLE


def glance(content: bytes, **options: Any) -> tuple[Glance, int]:
    """What is seen of a workbook, and how many lines it then has."""
    with open_table("p.xlsx", io.BytesIO(content), size=len(content), mapping={}, **options) as table:
        return (table.columns, table.reading, table.sample), len(list(table.lines))


def assert_same(content: bytes, *, lines: int | None = None, **options: Any) -> None:
    """A glance sees what reading all of it would; the workbook has so many lines then, or less than all."""
    whole, all_lines = glance(content, **options)
    seen, lines_there = glance(content, **options, only_sample=True)
    assert seen == whole
    if lines is None:
        assert 100 <= lines_there < all_lines
    else:
        assert lines_there == lines


class TestHead:
    def test_is_all_that_a_glance_reads(self) -> None:
        assert_same(xlsx_bytes(PEOPLE))

    def test_of_several_sheets_tells_which_have_addresses(self) -> None:
        rows: list[Sequence[object]] = [("email", "name", "city"), *PEOPLE]
        notes: list[Sequence[object]] = [("A", "note")]
        content = workbook_bytes({"Notes": notes, "First": rows, "Second": rows, "Few": rows[:3]})
        assert_same(content)
        assert_same(content, sheet="second")

    def test_tells_of_formulas_and_errors(self) -> None:
        content = xlsx_bytes([("a@example.com", "=B9", "x"), *PEOPLE])
        xml = part(content, SHEET).replace(b't="inlineStr"><is><t>x</t></is>', b't="e"><v>#N/A</v>')
        assert_same(with_part(content, SHEET, xml))

    def test_is_not_made_of_a_short_workbook(self) -> None:
        assert_same(xlsx_bytes(PEOPLE[:50]), lines=50)

    def test_is_not_trusted_where_a_later_row_reaches_further(self) -> None:
        assert_same(xlsx_bytes([*PEOPLE, ("a@example.com", "", "", "stray")]), lines=501)
        moved = [(None, *row) for row in PEOPLE]
        with pytest.raises(ImportRefused, match="Column 1 has no name"):
            glance(xlsx_bytes([*moved, ("stray",)], header=(None, "email", "name", "city")), only_sample=True)

    def test_is_not_trusted_where_it_has_too_few_rows(self) -> None:
        empty = [("", "", "")] * 400
        assert_same(workbook_bytes({"People": [*empty, ("email", "name", "city"), *PEOPLE]}), lines=500)

    def test_does_not_hide_that_the_rest_is_damaged(self) -> None:
        content = xlsx_bytes(PEOPLE)
        xml = part(content, SHEET)
        with pytest.raises(ImportRefused, match="reaches over 9,999,999 rows"):
            glance(with_part(content, SHEET, xml.replace(b'"A500"', b'"A9999999"')), only_sample=True)

    @pytest.mark.parametrize("name", sorted(path.name for path in NASTY.glob("*.xlsx")))
    def test_makes_no_difference_to_a_nasty_file(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(heads, "LONGEST", 500)
        content = (NASTY / name).read_bytes()
        found: list[object] = []
        for only_sample in (False, True):
            try:
                found.append(glance(content, only_sample=only_sample)[0])
            except ImportRefused as refused:
                found.append((refused.field, refused.message))
        assert found[0] == found[1]


@pytest.mark.django_db
def test_an_import_says_how_it_was_read_in_the_end() -> None:
    content = xlsx_bytes([*PEOPLE, ("late@example.com", 7, "Pune")])
    xml = part(content, SHEET).replace(b't="n"><v>7</v>', b't="e"><v>#SPILT!</v>')
    audience = Audience.objects.create(name="Customers")
    job = create(audience, "p.xlsx", with_part(content, SHEET, xml))
    assert "engine" not in job.reading
    done = jobs.run(job.pk, now=NOW)
    assert (done.status, done.created, done.reading["engine"]) == ("completed", 501, "openpyxl")
