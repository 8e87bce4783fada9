"""Preferred times over the API: whose they are, what is refused, what came of them."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from campaigns.models import Campaign, EmailTemplate
from schedules import sweeping
from schedules.models import Broadcast, Schedule, ScheduleRun
from tests.api_helpers import API, client_of, faults, operator, path_of, problem
from tests.schedule_helpers import user
from users.models import User

pytestmark = pytest.mark.django_db

DAILY = {"kind": "daily", "times": ["09:00"]}


@pytest.fixture
def letter(db: None) -> EmailTemplate:
    return EmailTemplate.objects.create(name="Daily", subject="Good morning, {{ name }}", text="It is time.")


@pytest.fixture
def asha(db: None) -> User:
    return user()


@pytest.fixture
def mine(asha: User) -> APIClient:
    return client_of(asha)


def make(client: APIClient, letter: EmailTemplate | None = None, **recurrence: Any) -> int:
    body = {"recurrence": recurrence or DAILY, "template": letter.pk if letter else None}
    answer = client.post(path_of("schedules"), body)
    assert answer.status_code == 201, answer.content
    return int(answer.json()["id"])


def make_due(pk: int) -> None:
    Schedule.objects.filter(id=pk).update(next_run_at=timezone.now() - timedelta(minutes=1))


class TestCreate:
    def test_stores_it_in_the_user_s_zone_and_says_what_comes(
        self, mine: APIClient, asha: User, letter: EmailTemplate
    ) -> None:
        answer = mine.post(
            path_of("schedules"),
            {
                "name": "Mornings",
                "template": letter.pk,
                "recurrence": {"kind": "weekly", "times": ["09:00"], "weekdays": ["friday", "monday"]},
            },
        )
        document = answer.json()
        assert answer.status_code == 201
        assert answer["Location"] == f"http://testserver{API}/schedules/{document['id']}/"
        assert document["sentence"] == "Every Monday and Friday at 09:00, Asia/Kolkata"
        assert (document["user"], document["state"]) == (asha.pk, "active")
        assert document["recurrence"]["weekdays"] == ["monday", "friday"]
        assert len(document["next_runs"]) == 5
        assert document["next_runs"][0]["at"] == document["next_run_at"]
        assert document["next_runs"][0]["local"].endswith("T09:00:00+05:30")
        assert mine.get(answer["Location"]).json() == document

    def test_what_was_answered_can_be_sent_back(self, mine: APIClient) -> None:
        path = path_of("schedules", make(mine, kind="daily", times=["09:00"], count=3))
        document = mine.get(path).json()
        answer = mine.put(path, document)
        assert answer.status_code == 200, answer.content
        assert answer.json()["recurrence"] == document["recurrence"]

    @pytest.mark.parametrize(
        ("recurrence", "field"),
        [
            ({"kind": "daily", "times": ["09:00"], "timezone": "Mars/Base"}, "recurrence.timezone"),
            ({"kind": "cron", "cron": "0 0 30 2 *"}, "recurrence.cron"),
            ({"kind": "cron", "cron": "* * * * * *"}, "recurrence.cron"),
            ({"kind": "interval", "interval_seconds": 1}, "recurrence.interval_seconds"),
            ({"kind": "once", "at": "2020-01-01T00:00:00Z"}, "recurrence.at"),
            ({"kind": "daily"}, "recurrence.times"),
            ({}, "recurrence.kind"),
            ("daily", "recurrence"),
            (None, "recurrence"),
        ],
    )
    def test_refuses_by_field_and_stores_nothing(self, mine: APIClient, recurrence: Any, field: str) -> None:
        assert list(faults(mine.post(path_of("schedules"), {"recurrence": recurrence}))) == [field]
        assert not Schedule.objects.exists()

    def test_refuses_a_template_that_is_none_or_cannot_be_written(
        self, mine: APIClient, letter: EmailTemplate
    ) -> None:
        body = {"recurrence": DAILY, "template": 10**6}
        assert list(faults(mine.post(path_of("schedules"), body))) == ["template"]
        EmailTemplate.objects.update(text="{{ city }}")
        body["template"] = letter.pk
        assert list(faults(mine.post(path_of("schedules"), body))) == ["variables"]

    def test_refuses_an_owner_of_one_s_choice(self, mine: APIClient, boss: User) -> None:
        answer = mine.post(path_of("schedules"), {"recurrence": DAILY, "user": boss.pk})
        assert answer.json()["user"] != boss.pk

    def test_makes_one_of_a_request_that_is_repeated(self, mine: APIClient) -> None:
        body, key = {"recurrence": DAILY}, {"Idempotency-Key": "one"}
        first = mine.post(path_of("schedules"), body, headers=key)
        again = mine.post(path_of("schedules"), body, headers=key)
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json() == again.json()
        assert Schedule.objects.count() == 1

    def test_needs_a_login(self) -> None:
        problem(APIClient().post(path_of("schedules"), {"recurrence": DAILY}), 401)


class TestOwner:
    @pytest.mark.parametrize(
        ("method", "then"),
        [("get", ""), ("patch", ""), ("put", ""), ("delete", ""), ("post", "pause/"), ("post", "resume/"),
         ("get", "runs/")],
    )  # fmt: skip
    def test_alone_sees_and_changes_it(self, mine: APIClient, method: str, then: str) -> None:
        pk = make(mine)
        other = client_of(user("other@example.com"))
        problem(getattr(other, method)(path_of("schedules", pk, then), {}), 404)
        assert other.get(path_of("schedules")).json()["results"] == []
        assert Schedule.objects.get().state == "active"

    def test_operators_see_none_without_the_permission(self, mine: APIClient, letter: EmailTemplate) -> None:
        pk = make(mine, letter)
        make_due(pk)
        watcher = client_of(operator())
        assert watcher.get(path_of("schedules")).json()["count"] == 0
        problem(watcher.get(path_of("schedules", pk)), 404)
        problem(watcher.post(path_of("schedules") + "send-due/"), 403)
        assert not ScheduleRun.objects.exists()
        sweeping.sweep(now=timezone.now())
        assert watcher.get(path_of("schedules") + "status/").json()["total"] == 0

    def test_operators_who_may_change_them_send_what_is_due_of_all(
        self, mine: APIClient, letter: EmailTemplate
    ) -> None:
        make_due(make(mine, letter))
        changer = client_of(operator(may=("change_schedule",)))
        answer = changer.post(path_of("schedules") + "send-due/")
        assert answer.json()["runs"] == [ScheduleRun.objects.get().pk]

    def test_operators_see_all_and_change_with_the_permission(self, mine: APIClient, api: APIClient) -> None:
        pk = make(mine)
        watcher = client_of(operator(may=("view_schedule",)))
        assert watcher.get(path_of("schedules")).json()["count"] == 1
        assert watcher.get(path_of("schedules", pk)).status_code == 200
        problem(watcher.post(path_of("schedules", pk, "pause/")), 403)
        assert api.post(path_of("schedules", pk, "pause/"), {"note": "by us"}).json()["state"] == "paused"

    def test_counts_only_their_own(self, mine: APIClient, api: APIClient, letter: EmailTemplate) -> None:
        make_due(make(mine, letter))
        sweeping.sweep(now=timezone.now())
        nobody = client_of(user("other@example.com")).get(path_of("schedules") + "status/").json()
        assert (nobody["total"], nobody["pending"]) == (0, 0)
        assert mine.get(path_of("schedules") + "status/").json() == {
            "total": 1, "pending": 1, "sent": 0, "failed": 0, "suppressed": 0, "unconfirmed": 0,
            "cancelled": 0, "missed": 0,
        }  # fmt: skip
        assert api.get(path_of("schedules") + "status/").json()["total"] == 1
        assert api.get(path_of("schedules") + "status/?user=999999").json()["total"] == 0
        assert list(faults(api.get(path_of("schedules") + "status/?user=x"))) == ["user"]


class TestPauseAndResume:
    def test_keep_the_note_and_plan_anew(self, mine: APIClient) -> None:
        pk = make(mine)
        paused = mine.post(path_of("schedules", pk, "pause/"), {"note": "on leave"}).json()
        assert (paused["state"], paused["pause_note"], paused["next_run_at"]) == ("paused", "on leave", None)
        assert paused["next_runs"] == []
        resumed = mine.post(path_of("schedules", pk, "resume/")).json()
        assert (resumed["state"], resumed["pause_note"]) == ("active", "")
        assert resumed["next_run_at"]

    def test_edit_moves_the_next_run(self, mine: APIClient) -> None:
        pk = make(mine)
        hourly = {"kind": "interval", "interval_seconds": 3600, "timezone": "UTC"}
        answer = mine.patch(path_of("schedules", pk), {"recurrence": hourly}).json()
        assert answer["sentence"] == "Every hour, UTC"

    def test_delete_takes_its_runs_along(self, mine: APIClient, letter: EmailTemplate) -> None:
        pk = make(mine, letter)
        make_due(pk)
        sweeping.sweep(now=timezone.now())
        assert mine.delete(path_of("schedules", pk)).status_code == 204
        assert not ScheduleRun.objects.exists()
        assert Campaign.objects.get().ledger_size == 1


class TestSoon:
    def test_what_comes_before_the_tick_is_handed_over_at_once(
        self, mine: APIClient, letter: EmailTemplate, django_capture_on_commit_callbacks: Any
    ) -> None:
        at = (timezone.now() + timedelta(seconds=30)).isoformat()
        with django_capture_on_commit_callbacks(execute=True):
            pk = make(mine, letter, kind="once", at=at)
        run = ScheduleRun.objects.get(schedule=pk)
        assert run.state == "sending"
        assert run.delivery is not None
        assert run.delivery.not_before == run.scheduled_for

    def test_what_comes_later_waits_for_the_tick(
        self, mine: APIClient, letter: EmailTemplate, django_capture_on_commit_callbacks: Any
    ) -> None:
        at = (timezone.now() + timedelta(seconds=200)).isoformat()
        with django_capture_on_commit_callbacks(execute=True):
            make(mine, letter, kind="once", at=at)
        assert not ScheduleRun.objects.exists()


class TestUnreadable:
    def test_is_listed_all_the_same(self, mine: APIClient) -> None:
        odd = make(mine)
        Schedule.objects.filter(id=odd).update(recurrence={"kind": "daily"})
        (row,) = mine.get(path_of("schedules")).json()["results"]
        assert (row["sentence"], row["next_runs"]) == ("It cannot be read; give it anew.", [])


class TestPreview:
    def test_says_it_in_words_with_the_next_ten(self, mine: APIClient) -> None:
        answer = mine.post(path_of("schedules") + "preview/", {"recurrence": DAILY})
        assert answer.status_code == 200
        assert answer.json()["sentence"] == "Every day at 09:00, Asia/Kolkata"
        assert len(answer.json()["moments"]) == 10

    def test_tells_of_the_clocks(self, mine: APIClient) -> None:
        when = {"kind": "once", "at": "2030-03-31T02:30:00", "timezone": "Europe/Brussels"}
        (moment,) = mine.post(path_of("schedules") + "preview/", {"recurrence": when}).json()["moments"]
        assert moment == {
            "at": "2030-03-31T01:30:00Z",
            "local": "2030-03-31T03:30:00+02:00",
            "note": "The clocks go forward and skip 02:30 on that day; it happens at 03:30.",
        }

    def test_stores_nothing_and_refuses_the_same(self, mine: APIClient) -> None:
        path = path_of("schedules") + "preview/"
        assert list(faults(mine.post(path, {"recurrence": {"kind": "daily"}}))) == ["recurrence.times"]
        assert list(faults(mine.post(path, {"recurrence": DAILY, "moments": 51}))) == ["moments"]
        assert not Schedule.objects.exists()


class TestSendDue:
    def test_runs_what_is_due_of_the_user_s_own(
        self, mine: APIClient, api: APIClient, letter: EmailTemplate
    ) -> None:
        due, foreign = make(mine, letter), make(client_of(user("other@example.com")), letter)
        make(mine, letter)
        make_due(due)
        make_due(foreign)
        answer = mine.post(path_of("schedules") + "send-due/")
        assert answer.status_code == 202
        run = ScheduleRun.objects.get()
        assert answer.json() == {"runs": [run.pk], "campaigns": [Campaign.objects.get().pk]}
        assert mine.post(path_of("schedules") + "send-due/").json() == {"runs": [], "campaigns": []}
        assert len(api.post(path_of("schedules") + "send-due/").json()["runs"]) == 1

    def test_shows_each_run_and_what_became_of_it(self, mine: APIClient, letter: EmailTemplate) -> None:
        pk = make(mine, letter)
        make_due(pk)
        mine.post(path_of("schedules") + "send-due/")
        (run,) = mine.get(path_of("schedules", pk, "runs/")).json()["results"]
        assert (run["outcome"], run["campaign"]) == ("pending", Campaign.objects.get().pk)


class TestBroadcasts:
    def test_start_one_campaign(self, api: APIClient, mine: APIClient, letter: EmailTemplate) -> None:
        make(mine)
        answer = api.post(path_of("schedules") + "broadcasts/", {"template": letter.pk, "name": "News"})
        assert answer.status_code == 202
        broadcast = Broadcast.objects.get()
        assert answer.json() == {"id": broadcast.pk, "campaign": broadcast.campaign_id}
        assert broadcast.campaign.name == "News"

    def test_are_for_operators_who_may(self, mine: APIClient, letter: EmailTemplate) -> None:
        problem(mine.post(path_of("schedules") + "broadcasts/", {"template": letter.pk}), 403)
        watcher = client_of(operator())
        problem(watcher.post(path_of("schedules") + "broadcasts/", {"template": letter.pk}), 403)
        assert not Campaign.objects.exists()
