"""Schedules, tasks and broadcasts in the admin."""

import html
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from campaigns.models import Campaign, EmailTemplate
from schedules import assigning, sweeping
from schedules.admin.recurring import NAMES
from schedules.models import Broadcast, Schedule, ScheduleRun, Task, TaskRun
from tests.admin_helpers import client_of, errors, said
from tests.campaign_helpers import clock
from tests.schedule_helpers import schedule, user
from users.models import User

pytestmark = pytest.mark.django_db

MODELS = ("schedule", "schedulerun", "task", "taskrun", "broadcast")
WHEN = dict.fromkeys(NAMES, "")


@pytest.fixture
def admin(boss: User) -> Client:
    return client_of(boss)


@pytest.fixture
def letter(db: None) -> EmailTemplate:
    return EmailTemplate.objects.create(name="Daily", subject="Good morning, {{ name }}", text="It is time.")


def posted(**given: Any) -> dict[str, Any]:
    return {**WHEN, "name": "", "variables": "{}", "grace_seconds": 3600, "template": "", **given}


def task_of(owner: User, when: None = None) -> Task:
    fields = {"title": "Hello", "kind": "send_email", "payload": {"subject": "Hello", "body": "x"}}
    return assigning.create(owner, fields, when=when, now=clock())


class TestPages:
    def test_all_open(self, admin: Client, letter: EmailTemplate) -> None:
        owned = schedule(user(), letter, now=clock())
        Schedule.objects.update(next_run_at=clock())
        sweeping.sweep(now=clock())
        made = task_of(user())
        for model in MODELS:
            assert admin.get(reverse(f"admin:schedules_{model}_changelist")).status_code == 200
        for model in ("schedule", "task", "broadcast"):
            assert admin.get(reverse(f"admin:schedules_{model}_add")).status_code == 200
        page = admin.get(reverse("admin:schedules_schedule_change", args=[owned.pk])).text
        assert "Every day at 09:00, UTC" in page
        assert "pending" in page
        assert "Run now" in admin.get(reverse("admin:schedules_task_change", args=[made.pk])).text
        run = TaskRun.objects.get()
        assert admin.get(reverse("admin:schedules_taskrun_change", args=[run.pk])).status_code == 200


class TestSchedule:
    def test_is_made_with_its_next_moment(self, admin: Client, letter: EmailTemplate) -> None:
        answer = admin.post(
            reverse("admin:schedules_schedule_add"),
            posted(user=user().pk, template=letter.pk, when_kind="weekly", when_times="09:00, 18:30",
                   when_weekdays="monday friday"),
        )  # fmt: skip
        assert answer.status_code == 302
        made = Schedule.objects.get()
        assert made.recurrence["weekdays"] == ["monday", "friday"]
        assert (made.recurrence["timezone"], made.state) == ("Asia/Kolkata", "active")

    def test_says_at_the_field_what_cannot_be(self, admin: Client) -> None:
        answer = admin.post(
            reverse("admin:schedules_schedule_add"),
            posted(user=user().pk, when_kind="cron", when_cron="* * * * * *", when_times="9"),
        )
        assert sorted(errors(answer)) == ["when_times"]
        answer = admin.post(
            reverse("admin:schedules_schedule_add"), posted(user=user().pk, when_kind="cron", when_cron="x")
        )
        assert sorted(errors(answer)) == ["when_cron"]
        assert not Schedule.objects.exists()

    def test_keeps_its_moments_when_only_its_name_is_changed(self, admin: Client) -> None:
        owned = schedule(user(), None, now=clock(), kind="monthly", times=["09:00"], month_days=[1, "last"])
        path = reverse("admin:schedules_schedule_change", args=[owned.pk])
        shown = admin.get(path).context["adminform"].form
        data = {name: shown[name].value() or "" for name in shown.fields} | {"name": "New", "variables": "{}"}
        assert admin.post(path, data).status_code == 302
        changed = Schedule.objects.get()
        assert (changed.name, changed.recurrence) == ("New", owned.recurrence)
        assert changed.next_run_at == owned.next_run_at

    def test_pauses_and_resumes_by_button(self, admin: Client) -> None:
        owned = schedule(user(), None, now=clock())
        answer = admin.post(reverse("admin:schedules_schedule_pause", args=[owned.pk]))
        assert said(answer) == ["Paused."]
        assert Schedule.objects.get().state == "paused"
        admin.post(reverse("admin:schedules_schedule_resume", args=[owned.pk]))
        assert Schedule.objects.get().state == "active"
        assert admin.get(reverse("admin:schedules_schedule_pause", args=[owned.pk])).status_code == 405

    def test_is_operated_by_those_who_may(self) -> None:
        owned = schedule(user(), None, now=clock())
        watcher = client_of(User.objects.create_user("w@example.com", is_staff=True))
        path = reverse("admin:schedules_schedule_pause", args=[owned.pk])
        assert watcher.post(path).status_code == 403
        assert Schedule.objects.get().state == "active"


class TestTask:
    def test_is_made_and_queued(self, admin: Client) -> None:
        answer = admin.post(
            reverse("admin:schedules_task_add"),
            posted(user=user().pk, title="Hello", kind="send_email", when_kind="now", retries=1,
                   payload='{"subject": "a", "body": "b"}'),
        )  # fmt: skip
        assert answer.status_code == 302, errors(answer)
        assert Task.objects.get().title == "Hello"
        assert TaskRun.objects.get().state == "queued"

    def test_says_what_its_kind_refuses(self, admin: Client) -> None:
        answer = admin.post(
            reverse("admin:schedules_task_add"),
            posted(
                user=user().pk, title="Hello", kind="send_email", when_kind="now", retries=1, payload="{}"
            ),
        )
        assert errors(answer) == {"payload": ["subject: Give the mail a subject."]}

    def test_is_changed_without_running_again(self, admin: Client) -> None:
        made = task_of(user())
        data = posted(title="New", retries=2, when_kind="now", payload='{"subject": "a", "body": "b"}')
        answer = admin.post(reverse("admin:schedules_task_change", args=[made.pk]), data)
        assert answer.status_code == 302, errors(answer)
        assert Task.objects.get().title == "New"
        assert TaskRun.objects.count() == 1

    def test_says_why_a_button_does_nothing(self, admin: Client) -> None:
        made = task_of(user())
        answer = admin.post(reverse("admin:schedules_task_run", args=[made.pk]))
        assert said(answer) == ["A run of the task is queued or running."]
        answer = admin.post(reverse("admin:schedules_task_cancel", args=[made.pk]))
        assert said(answer)[-1] == "Cancelled."
        assert Task.objects.get().status == "cancelled"


class TestDeleting:
    @pytest.mark.parametrize(
        ("name", "goes"),
        [
            ("schedules_schedule", {"schedules": 1, "schedule runs": 1}),
            ("schedules_task", {"tasks": 1, "task runs": 1}),
            (
                "users_user",
                {"users": 1, "recipients": 1, "schedules": 1, "schedule runs": 1, "tasks": 1, "task runs": 1},
            ),
        ],
    )
    def test_takes_the_runs_along_which_nobody_may_delete_by_themselves(
        self, admin: Client, letter: EmailTemplate, name: str, goes: dict[str, int]
    ) -> None:
        asha = user()
        rows = {
            "schedules_schedule": schedule(asha, letter, now=clock()).pk,
            "schedules_task": task_of(asha).pk,
            "users_user": asha.pk,
        }
        Schedule.objects.update(next_run_at=clock())
        sweeping.sweep(now=clock())
        address = reverse(f"admin:{name}_delete", args=[rows[name]])
        assert dict(admin.get(address).context["model_count"]) == goes
        assert admin.post(address, {"post": "yes"}).status_code == 302
        left = (
            Schedule.objects.count(),
            ScheduleRun.objects.count(),
            Task.objects.count(),
            TaskRun.objects.count(),
        )
        assert (
            left
            == {
                "schedules_schedule": (0, 0, 1, 1),
                "schedules_task": (1, 1, 0, 0),
                "users_user": (0, 0, 0, 0),
            }[name]
        )

    def test_is_for_those_who_may(self) -> None:
        owned = schedule(user(), None, now=clock())
        operator = user("v@example.com", is_staff=True)
        address = reverse("admin:schedules_schedule_delete", args=[owned.pk])
        for may, status in (("change_schedule", 403), ("delete_schedule", 302)):
            operator.user_permissions.set([Permission.objects.get(codename=may)])
            assert client_of(operator).post(address, {"post": "yes"}).status_code == status
        assert not Schedule.objects.exists()


class TestBroadcast:
    def test_is_made_with_its_campaign(self, admin: Client, letter: EmailTemplate) -> None:
        answer = admin.post(
            reverse("admin:schedules_broadcast_add"),
            {"template": letter.pk, "name": "News", "variables": "", "within_days": 3},
        )
        assert answer.status_code == 302
        assert Broadcast.objects.get().campaign == Campaign.objects.get(name="News")

    def test_says_at_each_field_what_is_wrong_with_it_alone(
        self, admin: Client, letter: EmailTemplate
    ) -> None:
        EmailTemplate.objects.update(text="Dear {{ name }} of {{ city }}")
        body = {"template": letter.pk, "name": "News", "variables": '{"city":', "within_days": 99}
        answer = admin.post(reverse("admin:schedules_broadcast_add"), body)
        found = errors(answer)
        assert {name: len(texts) for name, texts in found.items()} == {"variables": 1, "within_days": 1}
        assert found["variables"][0].startswith("It is not JSON: ")
        assert '{"city":' in html.unescape(answer.text)
        answer = admin.post(reverse("admin:schedules_broadcast_add"), {**body, "variables": "{}"})
        assert errors(answer)["variables"][0].startswith("'Daily' names city; give them")
        assert not Broadcast.objects.exists()
