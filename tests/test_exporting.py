"""An audience as a file, and back."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from campaigns.exporting import exports, files
from campaigns.exporting.exports import export
from campaigns.exporting.table import table
from campaigns.models import Audience, Recipient
from tests.admin_helpers import client_of, operator, said, superuser
from tests.api_helpers import path_of, problem
from tests.import_helpers import counts, import_file, stored

pytestmark = pytest.mark.django_db

NASTY = {
    "formula": "=1+1",
    "plus": "+91 98",
    "minus": "-5",
    "at": "@home",
    "escaped": "'=x",
    "apostrophe": "'tis",
    "zeros": "00123",
    "na": "NA",
    "lines": "one\ntwo\r\nthree",
    "quotes": 'say "hi"; a,b|c\td',
    "script": "नमस्ते 😀",
    "xml": "<&>]]>",
    "excel": "_x0041_",
    "date": "2026-01-31",
    "empty": "",
}


def content(audience: Audience, extension: str) -> bytes:
    return b"".join(export(audience, extension).pieces)


@pytest.fixture
def nasty() -> Audience:
    """One recipient with an awkward value in every attribute, and one with none."""
    audience = Audience.objects.create(name="Nasty: list")
    audience.recipients.create(
        email="Ann+x@example.com", name="=Ann", timezone="Asia/Kolkata", attributes=NASTY
    )
    audience.recipients.create(email="bob@example.com", attributes=dict.fromkeys(NASTY, ""))
    return audience


class TestFile:
    @pytest.mark.parametrize("extension", exports.EXTENSIONS)
    def test_imports_again_as_it_was(self, nasty: Audience, extension: str) -> None:
        written = content(nasty, extension)
        again = import_file(nasty, f"p.{extension}", written)
        assert counts(again) == {"read": 2, "unchanged": 2}
        other = Audience.objects.create(name="Other")
        assert counts(import_file(other, f"p.{extension}", written)) == {"read": 2, "created": 2}
        assert stored(other) == stored(nasty)

    @pytest.mark.parametrize("extension", exports.EXTENSIONS)
    @hypothesis_settings(
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
    )
    @given(
        values=st.lists(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20).map(
                str.strip
            ),
            min_size=1,
            max_size=4,
        )
    )
    def test_holds_any_text(self, extension: str, values: list[str]) -> None:
        audience, other = Audience(name="One"), Audience(name="Two")
        Audience.objects.all().delete()
        Audience.objects.bulk_create([audience, other])
        attributes = {f"field_{number}": value for number, value in enumerate(values)}
        audience.recipients.create(email="ann@example.com", attributes=attributes)
        import_file(other, f"p.{extension}", content(audience, extension))
        assert stored(other) == stored(audience)

    def test_has_a_column_for_each_attribute_that_anybody_has(self, audience: Audience) -> None:
        audience.recipients.filter(email="p0@example.com").update(attributes={"Email": "x", "age": 7})
        found = table(audience)
        assert found.header == ["email", "name", "timezone", "Email (2)", "age", "city"]
        assert next(found.rows) == ["p0@example.com", "P 0", "", "x", "7", ""]
        assert next(found.rows) == ["p1@example.com", "P 1", "", "", "", "Pune"]

    def test_begins_no_formula_in_csv(self, nasty: Audience) -> None:
        text = content(nasty, "csv").decode("utf-8-sig")
        cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
        assert "'=1+1" in cells
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]

    def test_keeps_attributes_that_are_spelt_like_the_address(self) -> None:
        audience = Audience.objects.create(name="Two mails")
        audience.recipients.create(email="ann@example.com", attributes={"E_mail": "old@example.com"})
        other = Audience.objects.create(name="Other")
        import_file(other, "p.csv", content(audience, "csv"))
        assert stored(other) == stored(audience)

    def test_of_nobody_is_a_header(self) -> None:
        empty = Audience.objects.create(name="Nobody")
        assert content(empty, "csv").decode("utf-8-sig").splitlines() == ["email,name,timezone"]

    def test_of_more_than_a_sheet_holds_is_refused_as_xlsx(
        self, audience: Audience, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(exports, "MOST_ROWS", 5)
        with pytest.raises(exports.TooManyRows, match="A worksheet holds 4 recipients, the audience has 5"):
            export(audience, "xlsx")
        assert len(content(audience, "csv").splitlines()) == 6

    @pytest.mark.parametrize("extension", exports.EXTENSIONS)
    def test_comes_in_pieces(
        self, extension: str, monkeypatch: pytest.MonkeyPatch, audience: Audience
    ) -> None:
        monkeypatch.setattr(files, "CHUNK", 2)
        pieces = export(audience, extension).pieces
        assert len([piece for piece in pieces if piece]) >= 2


class TestApi:
    @pytest.mark.parametrize("extension", exports.EXTENSIONS)
    def test_streams_the_file(self, api: APIClient, nasty: Audience, extension: str) -> None:
        answer: Any = api.get(f"{path_of('audiences')}{nasty.pk}/recipients.{extension}")
        assert answer.status_code == 200
        assert answer["Content-Type"] == files.FORMATS[extension][0]
        assert answer["Content-Disposition"] == f'attachment; filename="nasty-list.{extension}"'
        other = Audience.objects.create(name="Other")
        import_file(other, f"p.{extension}", b"".join(answer.streaming_content))
        assert stored(other) == stored(nasty)

    def test_knows_no_other_audience(self, api: APIClient) -> None:
        problem(api.get(f"{path_of('audiences')}9999/recipients.csv"), 404)

    def test_wants_the_permission_to_see_recipients(self, nasty: Audience) -> None:
        client = APIClient()
        client.force_authenticate(operator("view_audience"))
        problem(client.get(f"{path_of('audiences')}{nasty.pk}/recipients.csv"), 403)


class TestAdmin:
    PAGE = "/admin/campaigns/audience/"

    @pytest.fixture
    def boss(self) -> Client:
        return client_of(superuser())

    @pytest.mark.parametrize("extension", exports.EXTENSIONS)
    def test_offers_the_files_on_the_page_of_the_audience(
        self, boss: Client, nasty: Audience, extension: str
    ) -> None:
        path = f"{self.PAGE}{nasty.pk}/recipients.{extension}"
        assert f'href="{path}"' in boss.get(f"{self.PAGE}{nasty.pk}/change/").text
        answer: Any = boss.get(path)
        assert answer["Content-Disposition"] == f'attachment; filename="nasty-list.{extension}"'
        assert Recipient.objects.count() == 2

    @pytest.mark.parametrize("extension", exports.EXTENSIONS)
    def test_exports_the_chosen_one(self, boss: Client, nasty: Audience, extension: str) -> None:
        form = {"action": f"export_{extension}", "_selected_action": [nasty.pk]}
        answer: Any = boss.post(self.PAGE, form)
        assert answer["Content-Type"] == files.FORMATS[extension][0]

    def test_asks_for_one(self, boss: Client, nasty: Audience, audience: Audience) -> None:
        form = {"action": "export_csv", "_selected_action": [nasty.pk, audience.pk]}
        assert said(boss.post(self.PAGE, form)) == ["Choose one audience; each is a file of its own."]

    def test_wants_the_permission_to_see_recipients(self, nasty: Audience) -> None:
        client = client_of(operator("view_audience"))
        assert client.get(f"{self.PAGE}{nasty.pk}/recipients.csv").status_code == 403


class TestCommand:
    @pytest.mark.parametrize("extension", exports.EXTENSIONS)
    def test_writes_the_file(self, nasty: Audience, tmp_path: Path, extension: str) -> None:
        path = tmp_path / f"people.{extension}"
        call_command("export_recipients", str(path), "--audience", "nasty: LIST", stdout=io.StringIO())
        other = Audience.objects.create(name="Other")
        import_file(other, path.name, path.read_bytes())
        assert stored(other) == stored(nasty)

    @pytest.mark.parametrize(
        ("name", "audience", "message"),
        [
            ("people.pdf", "Nasty: list", r'"\.pdf" is no format for it'),
            ("people.csv", "Nobody", 'There is no audience "Nobody"'),
            ("none/people.csv", "Nasty: list", "No such file or directory"),
        ],
    )
    def test_says_what_cannot_be(
        self, nasty: Audience, tmp_path: Path, name: str, audience: str, message: str
    ) -> None:
        with pytest.raises(CommandError, match=message):
            call_command("export_recipients", str(tmp_path / name), "--audience", audience)
