"""Imports over the API."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone
from rest_framework.test import APIClient

from campaigns.importing import jobs
from campaigns.models import Audience, ImportJob, Recipient
from tests.api_helpers import API, faults, path_of, problem, without
from tests.import_helpers import workbook_bytes
from users.models import User

pytestmark = pytest.mark.django_db


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
            "sheet": "",
            "encoding": "",
            "warn_about": [],
            "reading": {"format": "text", "encoding": "UTF-8", "delimiter": "commas"},
            "status": "queued",
            "problem": "",
            "phase": "",
            **dict.fromkeys(("read", "created", "updated", "unchanged", "duplicate", "refused"), 0),
            **dict.fromkeys(("warnings", "suppressed", "attempts"), 0),
            **dict.fromkeys(("total", "accepted", "rate_per_second", "eta_seconds", "cancel_asked_at")),
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
        lines = report.getvalue().decode("utf-8-sig").splitlines()
        assert [line.partition(",")[0] for line in lines] == ["line", "3", "4"]
        report.close()

    def test_that_has_not_changed_is_answered_in_one_line(self, api: APIClient, audience: Audience) -> None:
        path = upload(api, audience)["Location"]
        first = api.get(path)
        assert api.get(path, headers={"If-None-Match": first["ETag"]}).status_code == 304
        jobs.run(first.json()["id"], now=timezone.now())
        assert api.get(path, headers={"If-None-Match": first["ETag"]}).json()["status"] == "completed"

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


def look(api: APIClient, content: bytes = CSV, name: str = "people.csv", **form: Any) -> Any:
    form = {"file": SimpleUploadedFile(name, content)} | form
    return api.post(f"{path_of('imports')}preview/", form, format="multipart")


class TestPreview:
    def test_says_how_the_file_is_read_what_is_what_and_what_becomes_of_its_first_rows(
        self, api: APIClient
    ) -> None:
        answer = look(api)
        assert answer.status_code == 200
        assert answer.json() == {
            "reading": {
                "format": "text",
                "encoding": "UTF-8",
                "delimiter": "commas",
                "member": "",
                "sheet": "",
                "sheets": [],
                "unread": [],
                "engine": "",
            },
            "columns": ["Mail", "Full name", "City"],
            "mapping": [
                {"field": "email", "column": "Mail", "reason": "by the column's name"},
                {"field": "name", "column": "Full name", "reason": "by the column's name"},
                {"field": "timezone", "column": "", "reason": "no column has such a name"},
            ],
            "attributes": {"City": "City"},
            "rows": [
                {
                    "line": 2,
                    "cells": ["asha@example.com", "Asha", "Pune"],
                    "verdict": "accepted",
                    "column": "",
                    "reason": "",
                },
                {
                    "line": 3,
                    "cells": ["bad", "Ravi", "Goa"],
                    "verdict": "refused",
                    "column": "Mail",
                    "reason": "The address has no @-sign.",
                },
                {
                    "line": 4,
                    "cells": ["asha@example.com", "Again", "Pune"],
                    "verdict": "duplicate",
                    "column": "Mail",
                    "reason": "The address stands in line 2 already.",
                },
            ],
        }

    def test_stores_nothing(self, api: APIClient, settings: Any) -> None:
        before = sorted(Path(settings.MEDIA_ROOT).rglob("*"))
        look(api)
        assert not ImportJob.objects.exists()
        assert sorted(Path(settings.MEDIA_ROOT).rglob("*")) == before

    def test_reads_the_sheet_and_warns_of_what_is_asked_for(self, api: APIClient) -> None:
        book = workbook_bytes({"May": [["email"], ["a@b.example"]], "June": [["email"], ["info@b.example"]]})
        document = look(api, book, "p.xlsx", sheet="June", warn_about=["role", "disposable"]).json()
        assert (document["reading"]["sheet"], document["reading"]["sheets"]) == ("June", ["May", "June"])
        assert [row["verdict"] for row in document["rows"]] == ["warning"]

    @pytest.mark.parametrize(
        ("form", "field"),
        [
            ({"mapping": '{"email": "Nothing"}'}, "mapping"),
            ({"sheet": "May"}, "sheet"),
            ({"encoding": "klingon"}, "encoding"),
            ({"warn_about": ["weather"]}, "warn_about.0"),
            ({"audience": 1}, "audience"),
        ],
    )
    def test_names_what_does_not_fit(self, api: APIClient, form: dict[str, Any], field: str) -> None:
        assert faults(look(api, **form)).keys() == {field}

    def test_of_what_cannot_be_read_is_refused(self, api: APIClient) -> None:
        assert faults(look(api, b"", "people.csv")).keys() == {"file"}
        assert faults(look(api, b"name\nAsha\n", "people.csv")).keys() == {"file"}


class TestCancelling:
    def test_ends_an_import_that_nobody_works_on(self, api: APIClient, audience: Audience) -> None:
        path = upload(api, audience)["Location"]
        answer = api.post(f"{path}cancel/")
        assert answer.status_code == 202
        assert (answer.json()["status"], answer.json()["problem"]) == (
            "cancelled",
            "Cancelled. Nothing of it is in the audience.",
        )
        assert answer.json()["finished_at"]
        jobs.run(answer.json()["id"], now=timezone.now())
        assert audience.recipients.count() == 5

    def test_is_refused_when_it_has_ended(self, api: APIClient, audience: Audience) -> None:
        path = upload(api, audience)["Location"]
        api.post(f"{path}cancel/")
        document = problem(api.post(f"{path}cancel/"), 409)
        assert (document["code"], document["from"]) == ("import_ended", "cancelled")

    def test_of_what_is_not_there_is_not_found(self, api: APIClient) -> None:
        problem(api.post(f"{path_of('imports')}99/cancel/"), 404)
