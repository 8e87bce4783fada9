"""The import page: what it refuses, what it queues, and what it shows when a worker is done."""

from pathlib import Path

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from campaigns.importing import jobs
from campaigns.models import Audience, ImportJob, Recipient
from tests.admin_helpers import client_of, operator, superuser
from tests.import_helpers import csv_bytes

pytestmark = pytest.mark.django_db

PAGE = "/admin/import-recipients/"
GOOD = csv_bytes([("a@example.com", "A", "Pune"), ("nonsense", "B", "Pune"), ("A@example.com", "C", "Pune")])


@pytest.fixture
def boss() -> Client:
    return client_of(superuser())


def upload(
    client: Client, content: bytes = GOOD, *, name: str = "people.csv", **fields: object
) -> HttpResponse:
    form = {"file": SimpleUploadedFile(name, content), "on_existing": "update", **fields}
    answer: HttpResponse = client.post(PAGE, form)  # type: ignore[assignment]  # the client's own class
    return answer


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
            ("people.csv", b"city,age\nPune,7\n", "No column looks like the e-mail address."),
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

    def test_a_column_that_is_not_there_is_named(self, boss: Client) -> None:
        answer = upload(boss, new_audience="Friends", email_column="Mail")
        assert 'id="error_id_email_column"' in answer.text
        assert nothing_happened()

    def test_an_audience_must_be_chosen_or_named_not_both(self, boss: Client) -> None:
        friends = Audience.objects.create(name="Friends")
        assert "Choose an audience, or name a new one." in upload(boss).text
        both = upload(boss, audience=friends.pk, new_audience="Others")
        assert "Choose an audience or name a new one, not both." in both.text
        taken = upload(boss, new_audience="friends")
        assert "An audience with this name exists already." in taken.text
        assert nothing_happened()

    def test_a_dry_run_makes_no_audience(self, boss: Client) -> None:
        answer = upload(boss, new_audience="Friends", dry_run="on")
        assert "A dry run changes nothing, so it needs an audience that exists." in answer.text
        assert not Audience.objects.exists()

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


class TestImporting:
    def test_goes_on_to_a_page_that_follows_it_to_the_end(self, boss: Client) -> None:
        answer = upload(boss, new_audience="Friends")
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
        assert "<td>3</td><td>email</td>" in done.text
        errors = boss.get(f"{PAGE}{job.pk}/errors.csv")
        assert errors["Content-Disposition"].startswith("attachment")
        content = b"".join(errors.streaming_content).decode()  # type: ignore[attr-defined]  # a file is streamed
        assert "nonsense" in content
        assert [recipient.email for recipient in Recipient.objects.all()] == ["a@example.com"]

    def test_the_audience_of_a_link_is_chosen_already(self, boss: Client, audience: Audience) -> None:
        page = boss.get(PAGE, {"audience": audience.pk}).text
        assert f'<option value="{audience.pk}" selected>' in page

    def test_a_dry_run_says_so(self, boss: Client, audience: Audience) -> None:
        upload(boss, audience=audience.pk, dry_run="on")
        job = ImportJob.objects.get()
        jobs.run(job.pk, now=timezone.now())
        assert "dry run: nothing is changed" in boss.get(f"{PAGE}{job.pk}/").text
        assert Recipient.objects.count() == 5

    def test_every_import_stands_in_the_list(self, boss: Client, audience: Audience) -> None:
        upload(boss, audience=audience.pk)
        page = boss.get("/admin/campaigns/importjob/").text
        assert f'href="{PAGE}{ImportJob.objects.get().pk}/"' in page
        assert "people.csv" in page

    def test_there_are_no_errors_to_fetch_before_there_are_any(
        self, boss: Client, audience: Audience
    ) -> None:
        upload(boss, audience=audience.pk)
        assert boss.get(f"{PAGE}{ImportJob.objects.get().pk}/errors.csv").status_code == 404
