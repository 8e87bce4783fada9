"""Whatever a client sends, the answer is a problem document that says what was wrong, never a 500."""

import json
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from campaigns.models import Audience, Campaign, ImportJob, Recipient
from mailer_project import rest
from tests.api_helpers import API, faults, path_of, problem, without

pytestmark = pytest.mark.django_db


def send(api: APIClient, body: bytes, content_type: str = "application/json") -> Any:
    return api.post(path_of("audiences"), body, content_type=content_type)


class TestBody:
    @pytest.mark.parametrize(
        "body",
        [
            b"{",
            b"",
            b"\xff\xfe",
            b'"\\ud800"',
            b"[" * 100_000,
            b'{"name": ' + b"[" * 1_000 + b"]" * 1_000 + b"}",
            b'{"name": NaN}',
            b'{"name": 1e400}',
            b"9" * 5_000,
        ],
    )
    def test_that_is_no_json_object_is_refused(self, api: APIClient, body: bytes) -> None:
        problem(send(api, body), 400)
        assert not Audience.objects.exists()

    @pytest.mark.parametrize("value", [None, True, [], {}, 1.5, "a\0", "\u202e" * 201, ""])
    def test_with_a_value_of_the_wrong_kind_is_refused_or_stored_as_text(
        self, api: APIClient, value: Any
    ) -> None:
        answer = send(api, json.dumps({"name": value}).encode())
        if value == 1.5:
            assert answer.json()["name"] == "1.5"
        else:
            assert problem(answer, 400)["errors"][0]["field"] == "name"
            assert not Audience.objects.exists()

    def test_that_is_too_large_is_refused(self, api: APIClient) -> None:
        problem(send(api, b'"' + b"a" * rest.MAX_JSON_BYTES + b'"'), 413)

    def test_of_another_kind_is_refused(self, api: APIClient) -> None:
        assert "text/plain" in problem(send(api, b"name=x", "text/plain"), 415)["detail"]
        problem(send(api, b"name=x", "application/x-www-form-urlencoded"), 415)

    @pytest.mark.parametrize("charset", ["zip", "hex", "utf-16", "nonsense"])
    def test_is_utf8_whatever_its_charset_says(self, api: APIClient, charset: str) -> None:
        answer = send(api, '{"name": "ü"}'.encode(), f"application/json; charset={charset}")
        assert answer.json()["name"] == "ü"


class TestUnknownFields:
    @pytest.mark.parametrize(
        ("name", "body"),
        [
            ("campaigns", {"name": "May", "html_body": "", "Status": "completed"}),
            ("templates", {"name": "May", "subject": "S", "html": "x", "html_body": "x"}),
            ("audiences", {"name": "May", "recipients": []}),
            ("recipients", {"email": "a@example.com", "attribute": {}}),
            ("suppressions", {"email": "a@example.com", "address": "a@example.com"}),
        ],
    )
    def test_are_refused_by_name_and_nothing_is_stored(
        self, api: APIClient, name: str, body: dict[str, Any]
    ) -> None:
        known = api.get(path_of(name)).json()
        answer = api.post(path_of(name), body)
        unknown = {"html_body", "Status", "recipients", "attribute", "address"} & body.keys()
        assert faults(answer) == dict.fromkeys(unknown, "There is no such field.")
        assert {fault["code"] for fault in answer.json()["errors"]} == {"unknown_field"}
        assert api.get(path_of(name)).json() == known

    def test_are_refused_by_actions_and_ones_own_account(self, api: APIClient, campaign: Campaign) -> None:
        for path, field, body in (
            (path_of("campaigns", campaign.pk, "schedule/"), "at", {"at": "2099-01-01T00:00Z"}),
            (path_of("campaigns", campaign.pk, "test/"), "email", {"emails": ["a@b.example"], "email": ""}),
            (path_of("templates", campaign.template_id, "render/"), "values", {"values": {}}),
        ):
            assert faults(api.post(path, body)).keys() == {field}
        assert faults(api.patch(path_of("campaigns", campaign.pk), {"nam": "x"})).keys() == {"nam"}
        assert faults(api.patch(f"{API}/auth/me/", {"password": "x"})).keys() == {"password"}

    def test_are_refused_in_an_upload(self, api: APIClient, audience: Audience) -> None:
        form = {"file": SimpleUploadedFile("a.csv", b"email\na@example.com\n"), "audience": audience.pk}
        typed = {**form, "dryrun": "true", "csrfmiddlewaretoken": "as browsers' forms have it"}
        answer = api.post(path_of("imports"), typed, format="multipart")
        assert faults(answer).keys() == {"dryrun"}
        assert not ImportJob.objects.exists()

    def test_are_named_in_bounds(self, api: APIClient) -> None:
        answer = api.post(path_of("audiences"), {"a" * 1_000 + str(n): 1 for n in range(1_000)})
        assert len(answer.content) < 10_000

    def test_do_not_count_what_was_answered_and_comes_back(self, api: APIClient, campaign: Campaign) -> None:
        for path in (
            path_of("campaigns", campaign.pk),
            path_of("templates", campaign.template_id),
            path_of("audiences", campaign.audience_id),
            path_of("recipients", Recipient.objects.values_list("pk", flat=True)[0]),
        ):
            document = api.get(path).json()
            answer = api.put(path, document)
            assert answer.status_code == 200
            assert without(answer.json(), "updated_at") == without(document, "updated_at")

    def test_do_not_count_read_only_ones_which_change_nothing(
        self, api: APIClient, campaign: Campaign
    ) -> None:
        answer = api.patch(path_of("campaigns", campaign.pk), {"status": "completed", "id": 0})
        assert (answer.status_code, answer.json()["status"]) == (200, "draft")
        assert answer.json()["id"] == campaign.pk


class TestAddress:
    def test_that_does_not_exist_is_a_problem_too(self, api: APIClient) -> None:
        for path in ("/api/", "/api/v1/", "/api/v2/campaigns/", f"{API}/nothing/", f"{API}/campaigns/abc/"):
            for method in ("get", "post", "delete"):
                assert problem(getattr(api, method)(path), 404)["code"] == "not_found"

    def test_without_its_last_slash_is_sent_there_with_its_body(self, api: APIClient) -> None:
        answer = api.post(f"{API}/audiences?x=1", {"name": "Friends"})
        assert (answer.status_code, answer["Location"]) == (308, f"{API}/audiences/?x=1")
        assert api.get("/api//audiences").status_code == 404

    @pytest.mark.parametrize("pk", ["0", "99999999999999999999", "9" * 5_000, "%00", "1%00", "-1", "1e3"])
    @pytest.mark.parametrize("name", ["campaigns", "imports", "deliveries", "recipients"])
    def test_with_an_impossible_id_is_404(self, api: APIClient, name: str, pk: str) -> None:
        problem(api.get(path_of(name, pk)), 404)
        problem(api.delete(path_of("campaigns", pk)), 404)
        problem(api.get(path_of("imports", pk, "errors.csv")), 404)

    def test_is_the_same_without_the_version(self, api: APIClient, audience: Audience) -> None:
        path = path_of("audiences", audience.pk)
        assert api.get(path.replace("/v1", "")).json() == api.get(path).json()
        made = api.post("/api/audiences/", {"name": "More"})
        assert made["Location"] == f"http://testserver/api/audiences/{made.json()['id']}/"


class TestQuery:
    @pytest.mark.parametrize(
        ("query", "status"),
        [
            ("search=%00", 400),
            ("page=0", 404),
            ("page=99999999999999999999", 404),
            ("page=%00", 404),
            ("page=" + "9" * 5_000, 404),
            ("page_size=-1", 200),
            ("page_size=99999999999", 200),
            ("ordering=password,-created_at,%00", 200),
            ("search=%22unclosed", 200),
        ],
    )
    def test_that_cannot_be_meant_is_refused_or_ignored(
        self, api: APIClient, audience: Audience, query: str, status: int
    ) -> None:
        answer = api.get(f"{path_of('audiences')}?{query}")
        if status == 200:
            assert answer.json()["count"] <= 1
        else:
            problem(answer, status)


class TestRefusal:
    def test_of_a_method_names_those_there_are(self, api: APIClient, audience: Audience) -> None:
        answer = api.post(path_of("audiences", audience.pk), {})
        assert problem(answer, 405)["code"] == "method_not_allowed"
        assert answer["Allow"] == "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"

    def test_is_json_whatever_is_accepted(self, api: APIClient) -> None:
        problem(api.get(path_of("audiences"), headers={"Accept": "image/png"}), 406)
        problem(api.get(path_of("imports", 1, "errors.csv"), headers={"Accept": "text/csv"}), 404)

    def test_is_503_while_the_database_is_away(self, api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
        def away(*args: object) -> None:
            raise OperationalError("connection refused at 10.0.0.1")

        monkeypatch.setattr("django.db.models.sql.compiler.SQLCompiler.execute_sql", away)
        answer = api.get(path_of("audiences"))
        assert "10.0.0.1" not in problem(answer, 503)["detail"]
        assert answer["Retry-After"] == "5"

    def test_of_a_foreign_host_is_a_problem(self, db: None) -> None:
        problem(Client(headers={"Host": "evil.example"}).get(path_of("audiences")), 400)


class TestDocumentation:
    def test_is_openapi_3_1_of_the_versioned_addresses_only(self, db: None) -> None:
        schema = Client().get(reverse("schema"), headers={"Accept": "application/json"}).json()
        assert schema["openapi"] == "3.1.0"
        assert schema["paths"]
        assert [path for path in schema["paths"] if not path.startswith("/api/v1/")] == []
        assert schema["paths"]["/api/v1/campaigns/{id}/start/"]["post"]["responses"].keys() == {"200", "4XX"}

    def test_needs_nothing_from_elsewhere(self, db: None) -> None:
        for path in ("/api/docs/", "/api/redoc/"):
            page = Client().get(path).content.decode()
            assert "/static/drf_spectacular_sidecar/" in page
            assert "cdn." not in page
            assert "https://" not in page
