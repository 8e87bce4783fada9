"""Audiences, recipients, suppressions and imports over the API."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone
from rest_framework.test import APIClient

from campaigns.importing import jobs
from campaigns.models import Audience, Campaign, ImportJob, Recipient, Suppression
from tests.api_helpers import API, faults, path_of, problem, without
from users.models import User

pytestmark = pytest.mark.django_db


class TestAudience:
    def test_is_made_listed_changed_and_deleted(self, api: APIClient) -> None:
        made = api.post(path_of("audiences"), {"name": "Friends"})
        assert made.status_code == 201
        document = made.json()
        assert without(document, "id", "created_at") == {"name": "Friends", "description": ""}
        assert api.get(path_of("audiences")).json() == {
            "count": 1,
            "next": None,
            "previous": None,
            "results": [document],
        }
        path = path_of("audiences", document["id"])
        assert api.patch(path, {"description": "Old ones"}).json()["description"] == "Old ones"
        assert api.delete(path).status_code == 204
        problem(api.get(path), 404)

    def test_has_a_name_of_its_own_whatever_the_case(self, api: APIClient, audience: Audience) -> None:
        assert faults(api.post(path_of("audiences"), {"name": "FRIENDS"})) == {
            "name": "An audience with this name exists already."
        }
        other = Audience.objects.create(name="Others")
        assert faults(api.patch(path_of("audiences", other.pk), {"name": "friends"})).keys() == {"name"}
        assert sorted(Audience.objects.values_list("name", flat=True)) == ["Friends", "Others"]

    def test_that_a_campaign_refers_to_is_kept(self, api: APIClient, campaign: Campaign) -> None:
        document = problem(api.delete(path_of("audiences", campaign.audience_id)), 409)
        assert document["detail"] == "It cannot be deleted: campaigns refer to it."
        assert Recipient.objects.count() == 5


class TestRecipient:
    def test_is_stored_as_the_importer_would(self, api: APIClient, audience: Audience) -> None:
        answer = api.post(
            path_of("recipients"),
            {
                "audience": audience.pk,
                "email": " Asha@BÜCHER.example\u200b",
                "name": "Asha",
                "timezone": "Asia/Kolkata",
                "attributes": {"city": "Pune", "orders": [{"id": 1}]},
            },
        )
        assert answer.status_code == 201
        assert without(answer.json(), "id", "created_at", "updated_at") == {
            "audience": audience.pk,
            "email": "Asha@xn--bcher-kva.example",
            "name": "Asha",
            "timezone": "Asia/Kolkata",
            "attributes": {"city": "Pune", "orders": [{"id": 1}]},
        }

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"email": "müller@example.com"}, "email"),
            ({"email": "nobody"}, "email"),
            ({"email": ""}, "email"),
            ({"email": "a@b@example.com"}, "email"),
            ({"email": "a\0@example.com"}, "email"),
            ({"email": "a@example.com\r\nBcc: b@example.com"}, "email"),
            ({"email": f"{'a' * 64}@{'b' * 60}.{'c' * 60}.{'d' * 60}.{'e' * 60}.com"}, "email"),
            ({"email": None}, "email"),
            ({"email": {"a": 1}}, "email"),
            ({"name": "A\nB"}, "name"),
            ({"name": "A\0"}, "name"),
            ({"name": "A" * 201}, "name"),
            ({"timezone": "Mars/Olympus"}, "timezone"),
            ({"attributes": "city"}, "attributes"),
            ({"attributes": {"city": "\0"}}, "attributes"),
            ({"attributes": {"\0": "Pune"}}, "attributes"),
            ({"attributes": {"a": [{"b": "\0"}]}}, "attributes"),
            ({"audience": 10**30}, "audience"),
            ({"audience": True}, "audience"),
            ({"audience": {}}, "audience"),
            ({"audience": None}, "audience"),
        ],
    )
    def test_that_is_wrong_is_refused_by_field(
        self, api: APIClient, audience: Audience, fields: dict[str, Any], field: str
    ) -> None:
        body = {"audience": audience.pk, "email": "asha@example.com", **fields}
        assert faults(api.post(path_of("recipients"), body)).keys() == {field}
        assert Recipient.objects.count() == 5

    def test_is_in_an_audience_once_whatever_the_case(self, api: APIClient, audience: Audience) -> None:
        body = {"audience": audience.pk, "email": "P0@Example.com"}
        assert faults(api.post(path_of("recipients"), body)) == {
            "email": "This audience has a recipient with this e-mail address already."
        }
        second = Recipient.objects.get(email="p1@example.com")
        answer = api.patch(path_of("recipients", second.pk), {"email": "p0@example.com"})
        assert faults(answer).keys() == {"email"}
        second.refresh_from_db()
        assert second.email == "p1@example.com"

    def test_is_found_by_audience_and_text(self, api: APIClient, audience: Audience) -> None:
        other = Audience.objects.create(name="Others")
        Recipient.objects.create(audience=other, email="p0@example.com", name="Zoe")

        def emails(query: str) -> list[str]:
            rows = api.get(f"{path_of('recipients')}?{query}").json()["results"]
            return [row["email"] for row in rows]

        assert emails(f"audience={other.pk}") == ["p0@example.com"]
        assert emails(f"audience={audience.pk}&search=P3@") == ["p3@example.com"]
        assert emails("search=zoe") == ["p0@example.com"]
        assert len(emails("")) == 6
        assert emails(f"audience={audience.pk}&page_size=2&page=3") == ["p4@example.com"]


class TestSuppression:
    def test_is_kept_in_lower_case(self, api: APIClient) -> None:
        answer = api.post(path_of("suppressions"), {"email": "Asha@Example.com", "note": "By phone."})
        assert answer.status_code == 201
        assert without(answer.json(), "id", "created_at") == {
            "email": "asha@example.com",
            "reason": "manual",
            "note": "By phone.",
            "campaign": None,
        }

    def test_stands_once(self, api: APIClient) -> None:
        api.post(path_of("suppressions"), {"email": "asha@example.com"})
        assert faults(api.post(path_of("suppressions"), {"email": "ASHA@example.com"})) == {
            "email": "This address is suppressed already."
        }
        assert Suppression.objects.count() == 1

    def test_can_be_lifted_but_not_rewritten(self, api: APIClient) -> None:
        path = path_of(
            "suppressions", api.post(path_of("suppressions"), {"email": "a@example.com"}).json()["id"]
        )
        problem(api.patch(path, {"email": "b@example.com"}), 405)
        assert api.delete(path).status_code == 204
        assert not Suppression.objects.exists()

    def test_with_a_reason_nested_without_end_is_refused(self, api: APIClient) -> None:
        answer = api.post(
            path_of("suppressions"),
            b'{"email": "a@example.com", "reason": ' + b"[" * 250 + b"]" * 250 + b"}",
            content_type="application/json",
        )
        assert faults(answer).keys() == {"reason"}
        assert not Suppression.objects.exists()

    def test_names_the_reasons_there_are(self, api: APIClient) -> None:
        answer = api.post(path_of("suppressions"), {"email": "a@example.com", "reason": "whim"})
        assert faults(answer) == {"reason": '"whim" is not a valid choice.'}
        assert not Suppression.objects.exists()


CSV = b"Mail,Full name,City\nasha@example.com,Asha,Pune\nbad,Ravi,Goa\nasha@example.com,Again,Pune\n"


def upload(
    api: APIClient, audience: Audience, content: bytes = CSV, name: str = "people.csv", **form: Any
) -> Any:
    form = {"file": SimpleUploadedFile(name, content), "audience": audience.pk} | form
    return api.post(path_of("imports"), form, format="multipart")


class TestImport:
    def test_is_accepted_and_followed(self, api: APIClient, boss: User) -> None:
        audience = Audience.objects.create(name="New")
        mapping = json.dumps({"email": "mail", "name": "Full name"})
        answer = upload(api, audience, mapping=mapping, on_existing="skip")
        assert answer.status_code == 202
        path = f"http://testserver{API}/imports/{answer.json()['id']}/"
        assert answer["Location"] == path
        assert without(answer.json(), "id", "created_at") == {
            "audience": audience.pk,
            "original_name": "people.csv",
            "mapping": {"email": "mail", "name": "Full name"},
            "on_existing": "skip",
            "dry_run": False,
            "status": "queued",
            "problem": "",
            **dict.fromkeys(
                ("read", "created", "updated", "unchanged", "duplicate", "refused", "warnings"), 0
            ),
            "errors_csv": None,
            "created_by": boss.pk,
            "started_at": None,
            "finished_at": None,
        }
        problem(api.get(f"{path}errors.csv"), 404)

        jobs.run(answer.json()["id"], now=timezone.now())

        document = api.get(path).json()
        assert (document["status"], document["read"], document["created"]) == ("completed", 3, 1)
        assert (document["duplicate"], document["refused"]) == (1, 1)
        assert document["errors_csv"] == f"{path}errors.csv"
        report = api.get(document["errors_csv"], headers={"Accept": "text/csv"})
        assert report["Content-Type"] == "text/csv; charset=utf-8"
        lines = report.getvalue().decode().splitlines()
        assert [line.partition(",")[0] for line in lines] == ["line", "3", "4"]
        report.close()

    @pytest.mark.parametrize(
        ("content", "name", "form", "field"),
        [
            (b"", "people.csv", {}, "file"),
            (b"name\nAsha\n", "people.csv", {}, "file"),
            (CSV, "people.pdf", {}, "file"),
            (b"PK\x03\x04 no workbook", "people.xlsx", {}, "file"),
            (CSV, "people.csv", {"mapping": '{"email": "Nothing"}'}, "mapping"),
            (CSV, "people.csv", {"mapping": '{"email": 1}'}, "mapping"),
            (CSV, "people.csv", {"mapping": "["}, "mapping"),
            (CSV, "people.csv", {"mapping": "[" * 100_000}, "mapping"),
            (CSV, "people.csv", {"mapping": '["email"]'}, "mapping"),
            (CSV, "people.csv", {"mapping": '{"email": "\\u0000"}'}, "mapping"),
            (CSV, "people.csv", {"mapping": '{"email": "\\ud800"}'}, "mapping"),
            (CSV, "people.csv", {"on_existing": "replace"}, "on_existing"),
            (CSV, "people.csv", {"dry_run": "perhaps"}, "dry_run"),
        ],
    )
    def test_that_cannot_be_used_is_refused_by_field(
        self, api: APIClient, audience: Audience, content: bytes, name: str, form: dict[str, str], field: str
    ) -> None:
        assert faults(upload(api, audience, content, name, **form)).keys() == {field}
        assert not ImportJob.objects.exists()
        assert Recipient.objects.count() == 5

    def test_into_an_audience_that_is_not_there_is_refused(self, api: APIClient) -> None:
        assert faults(upload(api, Audience(pk=99_999))).keys() == {"audience"}

    def test_without_a_file_or_audience_names_both(self, api: APIClient) -> None:
        answer = api.post(path_of("imports"), {}, format="multipart")
        assert faults(answer).keys() == {"file", "audience"}

    def test_that_is_too_large_is_refused_unread(
        self, api: APIClient, audience: Audience, settings: Any
    ) -> None:
        settings.IMPORT_MAX_BYTES = 1024
        document = problem(upload(api, audience, CSV * 20_000), 413)
        assert document["detail"] == "A file may have 1,024 bytes."
        assert not ImportJob.objects.exists()

    def test_is_multipart(self, api: APIClient, audience: Audience) -> None:
        problem(api.post(path_of("imports"), {"audience": audience.pk}), 415)

    def test_keeps_no_path_of_the_client(self, api: APIClient, audience: Audience, settings: Any) -> None:
        answer = upload(api, audience, name="../../../etc/people.csv")
        job = ImportJob.objects.get(pk=answer.json()["id"])
        assert job.original_name == "people.csv"
        assert Path(job.file.path).is_relative_to(Path(settings.MEDIA_ROOT, "imports"))
