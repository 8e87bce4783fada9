"""The three steps of an import: what they refuse, show and queue, and what they say when a worker is done."""

import io
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from campaigns.importing import jobs, waiting
from campaigns.models import Audience, ImportJob, Recipient
from tests.admin_helpers import client_of, operator, said, superuser
from tests.import_helpers import csv_bytes, workbook_bytes

pytestmark = pytest.mark.django_db

PAGE = "/admin/import-recipients/"
GOOD = csv_bytes([("a@example.com", "A", "Pune"), ("nonsense", "B", "Pune"), ("A@example.com", "C", "Pune")])


@pytest.fixture
def boss() -> Client:
    return client_of(superuser())


CHOSEN = {"email": "email", "name": "name", "timezone": "", "on_existing": "update"}


def upload(
    client: Client, content: bytes = GOOD, *, name: str = "people.csv", **fields: object
) -> HttpResponse:
    """Step 1."""
    form = {"file": SimpleUploadedFile(name, content), **fields}
    answer: HttpResponse = client.post(PAGE, form)  # type: ignore[assignment]  # the client's own class
    return answer


def confirm(client: Client, check: str, **fields: object) -> HttpResponse:
    """Step 2."""
    answer: HttpResponse = client.post(check, CHOSEN | fields)  # type: ignore[assignment]  # the same
    return answer


def both(client: Client, content: bytes = GOOD, **fields: object) -> HttpResponse:
    """Both steps; the answer to the second."""
    return confirm(client, upload(client, content, **fields)["Location"])  # type: ignore[arg-type]  # "name" is none


def nothing_happened() -> bool:
    stored = [path for path in Path(settings.MEDIA_ROOT, "imports").rglob("*") if path.is_file()]
    return not (ImportJob.objects.exists() or Recipient.objects.exists() or stored)


@pytest.fixture(autouse=True)
def _own_media(tmp_path: Path, settings: pytest.FixtureRequest) -> None:
    settings.MEDIA_ROOT = str(tmp_path)  # type: ignore[attr-defined]  # pytest-django's settings


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("people.pdf", b"%PDF-1.7", "&quot;.pdf&quot; is not a format"),
            ("people.csv", b"", "empty"),
            ("people.xlsx", b"not a workbook", "The file is not an Excel workbook"),
        ],
    )
    def test_a_bad_file_is_named_and_changes_nothing(
        self, boss: Client, name: str, content: bytes, message: str
    ) -> None:
        answer = upload(boss, content, name=name, new_audience="Friends")
        assert answer.status_code == 200
        assert 'id="error_id_file"' in answer.text
        assert message in answer.text.split('id="error_id_file"')[1]
        assert nothing_happened()
        assert not Audience.objects.exists()

    def test_the_page_shows_without_a_script_too(self, boss: Client) -> None:
        assert "<noscript><style>html[x-cloak] { display: block !important; }" in boss.get(PAGE).text

    def test_an_audience_must_be_chosen_or_named_not_both(self, boss: Client) -> None:
        friends = Audience.objects.create(name="Friends")
        assert "Choose an audience, or name a new one." in upload(boss).text
        two = upload(boss, audience=friends.pk, new_audience="Others")
        assert "Choose an audience or name a new one, not both." in two.text
        taken = upload(boss, new_audience="friends")
        assert "An audience with this name exists already." in taken.text
        assert nothing_happened()

    def test_a_dry_run_makes_no_audience(self, boss: Client) -> None:
        answer = confirm(boss, upload(boss, new_audience="Friends")["Location"], dry_run="on")
        assert "A dry run changes nothing, so it needs an audience that exists." in answer.text
        assert not Audience.objects.exists()
        assert not ImportJob.objects.exists()

    def test_the_page_wants_the_permission(self) -> None:
        client = client_of(operator("view_importjob"))
        assert client.get(PAGE).status_code == 403
        assert upload(client, new_audience="Friends").status_code == 403
        assert nothing_happened()

    def test_a_new_audience_wants_a_permission_of_its_own(self) -> None:
        client = client_of(operator("add_importjob"))
        assert "Choose an audience, or name a new one." in upload(client, new_audience="Friends").text
        assert not Audience.objects.exists()

    def test_a_post_without_a_token_is_refused(self) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(superuser())
        assert upload(client, new_audience="Friends").status_code == 403
        assert nothing_happened()


class TestColumns:
    def test_are_shown_with_why_and_the_first_rows_with_what_becomes_of_them(self, boss: Client) -> None:
        check = upload(boss, new_audience="Friends")["Location"]
        page = boss.get(check).text
        assert "people.csv into Friends" in page
        assert "Read as text, UTF-8, columns separated by commas." in page
        assert '<option value="email" selected>' in page
        assert "by the column&#x27;s name" in page
        assert "city is <code>{{ city }}</code>" in page
        assert page.count('<span class="mailer-label mailer-green">accepted</span>') == 1
        assert "The address has no @-sign." in page
        assert "The address stands in line 2 already." in page
        assert not ImportJob.objects.exists()
        assert not Audience.objects.exists()

    def test_are_asked_for_where_none_looks_like_the_address(self, boss: Client) -> None:
        check = upload(boss, b"who,where\nAnn,none\nBob,b@example.com\n", new_audience="Friends")["Location"]
        assert "No column looks like the e-mail address." in boss.get(check).text
        again = confirm(boss, check, email="who", name="", timezone="", again="1")
        assert again.status_code == 200
        assert again.text.count(">refused</span>") == 2
        assert "email: say in which column it is." in confirm(boss, check, email="", name="").text
        confirm(boss, check, email="where", name="who")
        assert ImportJob.objects.get().mapping == {"email": "where", "name": "who", "timezone": ""}

    def test_follow_the_sheet_that_is_chosen(self, boss: Client) -> None:
        book = workbook_bytes(
            {"May": [["email"], ["a@example.com"]], "June": [["Contact"], ["b@example.com"]]}
        )
        check = upload(boss, book, name="p.xlsx", new_audience="Friends")["Location"]
        page = boss.get(check).text
        assert "sheet &quot;May&quot; of 2" in page
        assert "June has addresses too." in page
        again = confirm(boss, check, sheet="June", again="1").text
        assert "sheet &quot;June&quot; of 2" in again
        assert '<option value="Contact" selected>' in again
        confirm(boss, check, sheet="June", email="Contact", name="")
        assert ImportJob.objects.get().sheet == "June"

    def test_of_a_file_in_an_unknown_encoding_are_read_in_the_one_that_is_chosen(self, boss: Client) -> None:
        content = "email,name\na@example.com,Иван\n".encode("cp1251")
        check = upload(boss, content, new_audience="Friends")["Location"]
        assert "hardly Windows-1252" in boss.get(check).text
        assert "Иван" in confirm(boss, check, encoding="windows-1251", again="1").text
        confirm(boss, check, encoding="windows-1251")
        assert ImportJob.objects.get().encoding == "windows-1251"

    def test_are_gone_with_the_file(self, boss: Client) -> None:
        check = upload(boss, new_audience="Friends")["Location"]
        confirm(boss, check)
        answer = confirm(boss, check)
        assert "The file is gone; choose it again." in answer.text
        assert ImportJob.objects.count() == 1

    def test_are_nobody_elses(self, boss: Client) -> None:
        check = upload(boss, new_audience="Friends")["Location"]
        other = client_of(operator("add_importjob"))
        assert other.get(check)["Location"] == PAGE
        assert confirm(other, check)["Location"] == PAGE
        assert not ImportJob.objects.exists()

    def test_wait_for_a_day(self, boss: Client, tmp_path: Path) -> None:
        upload(boss, new_audience="Friends")
        [kept] = (tmp_path / "imports" / "waiting").iterdir()
        waiting.keep("b.csv", io.BytesIO(b"x"), now=timezone.now() + timedelta(hours=23))
        assert kept.exists()
        waiting.keep("c.csv", io.BytesIO(b"x"), now=timezone.now() + timedelta(hours=25))
        assert not kept.exists()


class TestImporting:
    def test_goes_on_to_a_page_that_follows_it_to_the_end(self, boss: Client) -> None:
        answer = both(boss, new_audience="Friends")
        job = ImportJob.objects.get()
        assert (answer.status_code, answer["Location"]) == (302, f"{PAGE}{job.pk}/")
        assert job.created_by is not None
        waiting = boss.get(f"{PAGE}{job.pk}/")
        assert "Waiting for a worker." in waiting.text
        assert 'hx-trigger="every 1s"' in waiting.text

        jobs.run(job.pk, now=timezone.now())
        done = boss.get(f"{PAGE}{job.pk}/live/")
        assert "hx-trigger" not in done.text
        for figure in ("<dt>rows read</dt><dd>3", "<dt>created</dt><dd>1", "<dt>refused</dt>"):
            assert figure in done.text
        assert (
            '<td>3</td><td><span class="mailer-label mailer-red">refused</span></td><td>email</td>'
            in done.text
        )
        errors = boss.get(f"{PAGE}{job.pk}/errors.csv")
        assert errors["Content-Disposition"].startswith("attachment")
        content = b"".join(errors.streaming_content).decode()  # type: ignore[attr-defined]  # a file is streamed
        assert "nonsense" in content
        assert [recipient.email for recipient in Recipient.objects.all()] == ["a@example.com"]

    def test_shows_how_far_it_is(self, boss: Client) -> None:
        both(boss, new_audience="Friends")
        job = ImportJob.objects.get()
        path = f"{PAGE}{job.pk}/live/"
        job.status, job.total, job.read, job.rate_per_second, job.eta_seconds = (
            "running",
            4000,
            1000,
            812.4,
            4,
        )
        job.save()
        reading = boss.get(path).text
        assert 'aria-label="reading" aria-valuenow="25"' in reading
        assert '1,000<span class="mailer-of"> of 4,000</span>' in reading
        assert "812 rows a second, about 4 s to go" in reading
        job.accepted, job.created = 3000, 1500
        job.save()
        assert 'aria-label="writing" aria-valuenow="50"' in boss.get(path).text

    def test_ends_where_it_is_when_it_is_cancelled(self, boss: Client) -> None:
        both(boss, new_audience="Friends")
        job = ImportJob.objects.get()
        assert "Cancel the import" in boss.get(f"{PAGE}{job.pk}/").text
        answer = boss.post(f"{PAGE}{job.pk}/cancel/")
        assert answer["Location"] == f"{PAGE}{job.pk}/"
        job.refresh_from_db()
        assert job.status == "cancelled"
        page = boss.get(f"{PAGE}{job.pk}/").text
        assert job.problem in page
        assert "Cancel the import" not in page
        assert said(boss.post(f"{PAGE}{job.pk}/cancel/")) == ["The import is cancelled."]

    def test_is_not_cancelled_by_those_who_may_only_look(self, boss: Client) -> None:
        both(boss, new_audience="Friends")
        job = ImportJob.objects.get()
        client = client_of(operator("view_importjob"))
        assert "Cancel the import" not in client.get(f"{PAGE}{job.pk}/").text
        assert client.post(f"{PAGE}{job.pk}/cancel/").status_code == 403
        assert boss.get(f"{PAGE}{job.pk}/cancel/").status_code == 405
        job.refresh_from_db()
        assert job.status == "queued"

    def test_the_audience_of_a_link_is_chosen_already(self, boss: Client, audience: Audience) -> None:
        page = boss.get(PAGE, {"audience": audience.pk}).text
        assert f'<option value="{audience.pk}" selected>' in page

    def test_a_dry_run_says_so(self, boss: Client, audience: Audience) -> None:
        confirm(boss, upload(boss, audience=audience.pk)["Location"], dry_run="on")
        job = ImportJob.objects.get()
        jobs.run(job.pk, now=timezone.now())
        assert "dry run: nothing is changed" in boss.get(f"{PAGE}{job.pk}/").text
        assert Recipient.objects.count() == 5

    def test_every_import_stands_in_the_list(self, boss: Client, audience: Audience) -> None:
        both(boss, audience=audience.pk)
        page = boss.get("/admin/campaigns/importjob/").text
        assert f'href="{PAGE}{ImportJob.objects.get().pk}/"' in page
        assert "people.csv" in page

    def test_there_are_no_errors_to_fetch_before_there_are_any(
        self, boss: Client, audience: Audience
    ) -> None:
        both(boss, audience=audience.pk)
        assert boss.get(f"{PAGE}{ImportJob.objects.get().pk}/errors.csv").status_code == 404
