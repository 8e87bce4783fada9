"""Tasks over the API: whose they are, what is refused, what came of their runs."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from campaigns.models import OutboundEmail
from schedules import queueing, running
from schedules.models import Task, TaskRun
from tests.api_helpers import API, client_of, faults, operator, path_of, problem
from tests.schedule_helpers import user
from users.models import User

pytestmark = pytest.mark.django_db

MAIL = {
    "title": "Remind me",
    "description": "of the garden",
    "kind": "send_email",
    "payload": {"subject": "Water", "body": "the plants"},
}
DAILY = {"recurrence": {"kind": "daily", "times": ["09:00"]}}


@pytest.fixture
def asha(db: None) -> User:
    return user()


@pytest.fixture
def mine(asha: User) -> APIClient:
    return client_of(asha)


@pytest.fixture
def media(settings: Settings, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = str(tmp_path)


def make(client: APIClient, **given: Any) -> int:
    answer = client.post(path_of("tasks"), {**MAIL, **given})
    assert answer.status_code == 201, answer.content
    return int(answer.json()["id"])


def work(pk: int) -> None:
    running.run(TaskRun.objects.get(task=pk, state="queued").pk, clock=timezone.now)


class TestCreate:
    def test_at_once_queues_a_run(self, mine: APIClient, asha: User) -> None:
        answer = mine.post(path_of("tasks"), {**MAIL, "when": "now"})
        document = answer.json()
        assert answer.status_code == 201
        assert answer["Location"] == f"http://testserver{API}/tasks/{document['id']}/"
        assert (document["user"], document["status"], document["when"]) == (asha.pk, "pending", "now")
        (run,) = mine.get(path_of("tasks", document["id"], "runs/")).json()["results"]
        assert (run["state"], run["late_seconds"]) == ("queued", None)

    @pytest.mark.parametrize(
        ("when", "sentence"),
        [
            (DAILY, "Every day at 09:00, Asia/Kolkata"),
            ({"at": "2030-05-31T09:00:00"}, "Once, on Friday 31 May 2030 at 09:00, Asia/Kolkata"),
            (
                {"at": "2030-05-31T09:00:00", "timezone": "Europe/Paris"},
                "Once, on Friday 31 May 2030 at 09:00, Europe/Paris",
            ),
        ],
    )
    def test_later_plans_it_and_it_can_be_sent_back(self, mine: APIClient, when: Any, sentence: str) -> None:
        path = path_of("tasks", make(mine, when=when))
        document = mine.get(path).json()
        assert document["sentence"] == sentence
        assert document["next_run_at"]
        assert mine.put(path, document).json()["next_run_at"] == document["next_run_at"]
        assert not TaskRun.objects.exists()

    def test_sent_back_does_not_run_again(self, mine: APIClient) -> None:
        path = path_of("tasks", make(mine))
        assert mine.put(path, mine.get(path).json()).status_code == 200
        assert TaskRun.objects.count() == 1

    def test_takes_a_file_in_a_form(self, mine: APIClient, media: None) -> None:
        upload = SimpleUploadedFile("people.csv", b"email\nasha@example.com\nravi@\n")
        body = {"title": "Look", "kind": "process_data", "file": upload, "when": json.dumps("now"),
                "payload": "{}"}  # fmt: skip
        answer = mine.post(path_of("tasks"), body, format="multipart")
        assert answer.status_code == 201, answer.content
        assert answer.json()["file_name"] == "people.csv"
        pk = answer.json()["id"]
        work(pk)
        (run,) = mine.get(path_of("tasks", pk, "runs/")).json()["results"]
        assert (run["state"], run["result"]["invalid_addresses"]) == ("completed", 1)
        assert json.loads(b"".join(mine.get(run["file"])))["rows"] == 2
        problem(client_of(user("other@example.com")).get(run["file"]), 404)

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({"title": ""}, "title"),
            ({"kind": "rm -rf"}, "kind"),
            ({"payload": {"body": "x"}}, "payload.subject"),
            ({"payload": {"subject": "x", "body": "y", "recipients": ["a\n@b.c"]}}, "payload.recipients.0"),
            ({"payload": []}, "payload"),
            ({"when": "sometime"}, "when"),
            ({"when": {"at": "2020-01-01T00:00:00Z"}}, "when.at"),
            ({"when": {"recurrence": {"kind": "cron", "cron": "* * * * * *"}}}, "when.recurrence.cron"),
            ({"when": {"recurrence": {"kind": "daily", "times": ["09:00"], "timezone": "X"}}},
             "when.recurrence.timezone"),
            ({"when": 5}, "when"),
            ({"retries": 11}, "retries"),
            ({"status": "completed", "colour": 1}, "colour"),
            ({"kind": "import_recipients", "payload": {}}, "kind"),
            ({"kind": "process_data", "payload": {}}, "file"),
        ],
    )  # fmt: skip
    def test_refuses_by_field_and_stores_nothing(
        self, mine: APIClient, given: dict[str, Any], field: str
    ) -> None:
        assert list(faults(mine.post(path_of("tasks"), {**MAIL, **given}))) == [field]
        assert not Task.objects.exists()

    @pytest.mark.parametrize(
        ("when", "field"),
        [
            ({"at": "2100-12-31T23:59:59-05:00"}, "when.at"),
            ({"at": "2100-12-31T23:59:59", "timezone": "Pacific/Honolulu"}, "when.at"),
            (
                {"recurrence": {**DAILY["recurrence"], "timezone": "Pacific/Honolulu",
                                "until": "2100-12-31T23:59:59"}},
                "when.recurrence.until",
            ),
        ],
    )  # fmt: skip
    def test_refuses_what_lies_beyond_the_last_year_in_utc(
        self, mine: APIClient, when: Any, field: str
    ) -> None:
        refused = faults(mine.post(path_of("tasks"), {**MAIL, "when": when}))
        assert list(refused) == [field]
        assert not Task.objects.exists()

    def test_is_listed_with_one_that_cannot_be_read(self, mine: APIClient) -> None:
        odd = make(mine, when=DAILY)
        Task.objects.filter(id=odd).update(recurrence={"timezone": 3})
        good = make(mine)
        listed = mine.get(path_of("tasks"))
        assert listed.status_code == 200
        said = {row["id"]: row["sentence"] for row in listed.json()["results"]}
        assert said == {odd: "It cannot be read; give it anew.", good: "At once"}

    def test_makes_one_of_a_request_that_is_repeated(self, mine: APIClient) -> None:
        for _ in range(2):
            assert mine.post(path_of("tasks"), MAIL, headers={"Idempotency-Key": "1"}).status_code == 201
        assert Task.objects.count() == TaskRun.objects.count() == 1


class TestOwner:
    @pytest.mark.parametrize(
        ("method", "then"),
        [("get", ""), ("patch", ""), ("put", ""), ("delete", ""), ("post", "run/"), ("post", "pause/"),
         ("post", "resume/"), ("post", "cancel/"), ("get", "runs/")],
    )  # fmt: skip
    def test_alone_sees_and_changes_it(self, mine: APIClient, method: str, then: str) -> None:
        pk = make(mine, when=DAILY)
        other = client_of(user("other@example.com"))
        problem(getattr(other, method)(path_of("tasks", pk, then), {}), 404)
        assert other.get(path_of("tasks")).json()["count"] == 0
        assert Task.objects.get().status == "pending"

    def test_operators_see_none_without_the_permission(self, mine: APIClient, media: None) -> None:
        pk = make(mine, kind="process_data", payload={"rows": [{"a": 1}]})
        work(pk)
        run = TaskRun.objects.get()
        watcher = client_of(operator())
        assert watcher.get(path_of("tasks")).json()["count"] == 0
        for then in ("", "runs/", f"runs/{run.pk}/", f"runs/{run.pk}/file/"):
            problem(watcher.get(path_of("tasks", pk, then)), 404)
        own = make(watcher)
        assert watcher.get(path_of("tasks", own)).status_code == 200

    def test_operators_see_all_with_it(self, mine: APIClient) -> None:
        pk = make(mine)
        watcher = client_of(operator(may=("view_task",)))
        assert watcher.get(path_of("tasks", pk)).status_code == 200
        problem(watcher.post(path_of("tasks", pk, "cancel/")), 403)


class TestDoing:
    def test_run_queues_one_and_refuses_a_second(self, mine: APIClient) -> None:
        pk = make(mine, when=DAILY)
        answer = mine.post(path_of("tasks", pk, "run/"))
        assert (answer.status_code, answer.json()["state"]) == (202, "queued")
        assert problem(mine.post(path_of("tasks", pk, "run/")), 409)["code"] == "is_running"
        one = path_of("tasks", pk, f"runs/{answer.json()['id']}/")
        assert mine.get(one).json()["state"] == "queued"
        problem(mine.get(f"{one}file/"), 404)

    def test_pause_resume_and_cancel(self, mine: APIClient) -> None:
        pk = make(mine, when=DAILY)
        paused = mine.post(path_of("tasks", pk, "pause/"), {"note": "later"}).json()
        assert (paused["pause_note"], paused["next_run_at"]) == ("later", None)
        assert mine.post(path_of("tasks", pk, "resume/")).json()["next_run_at"]
        assert mine.post(path_of("tasks", pk, "cancel/")).json()["status"] == "cancelled"
        for action in ("run/", "pause/", "resume/", "cancel/"):
            problem(mine.post(path_of("tasks", pk, action)), 409)
        problem(mine.patch(path_of("tasks", pk), {"title": "New"}), 409)

    def test_pause_needs_a_moment_ahead(self, mine: APIClient) -> None:
        assert problem(mine.post(path_of("tasks", make(mine), "pause/")), 409)["code"] == "nothing_ahead"

    def test_edit_plans_anew(self, mine: APIClient) -> None:
        pk = make(mine, when=DAILY)
        hourly = {"recurrence": {"kind": "interval", "interval_seconds": 3600, "timezone": "UTC"}}
        assert mine.patch(path_of("tasks", pk), {"when": hourly}).json()["sentence"] == "Every hour, UTC"
        assert mine.patch(path_of("tasks", pk), {"when": "now"}).json()["next_run_at"] is None
        assert TaskRun.objects.get().state == "queued"

    def test_delete_takes_files_along(
        self, mine: APIClient, media: None, settings: Settings, django_capture_on_commit_callbacks: Any
    ) -> None:
        pk = make(mine, kind="export_report", payload={"report": "runs"})
        work(pk)
        assert list(Path(settings.MEDIA_ROOT).rglob("*.csv"))
        with django_capture_on_commit_callbacks(execute=True):
            assert mine.delete(path_of("tasks", pk)).status_code == 204
        assert not list(Path(settings.MEDIA_ROOT).rglob("*.csv"))

    def test_says_which_kinds_there_are(self, mine: APIClient) -> None:
        refused = mine.post(path_of("tasks"), {**MAIL, "kind": "send_mail"})
        assert faults(refused) == {
            "kind": "Give one of send_email, process_data, import_recipients, export_report."
        }

    def test_filters_by_status_and_kind(self, mine: APIClient) -> None:
        done = make(mine)
        work(done)
        make(mine, when=DAILY)
        found = mine.get(path_of("tasks") + "?status=completed&kind=send_email").json()["results"]
        assert [task["id"] for task in found] == [done]
        assert OutboundEmail.objects.count() == 2

    def test_runs_say_how_late_they_were(self, mine: APIClient) -> None:
        pk = make(mine, when=DAILY)
        moment = timezone.now()
        Task.objects.update(next_run_at=moment)
        queueing.sweep(now=moment)
        work(pk)
        (run,) = mine.get(path_of("tasks", pk, "runs/")).json()["results"]
        assert 0 <= run["late_seconds"] < 60
        assert run["state"] == "completed"
