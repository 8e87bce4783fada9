"""Preparing campaigns, their transitions, and following them, over the API."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from campaigns import lifecycle, progress
from campaigns.models import Audience, Campaign, CampaignStatus, DeliveryLog, EmailTemplate
from campaigns.providers import Line
from tests.api_helpers import API, faults, path_of, problem, without
from tests.campaign_helpers import send, started
from users.models import User

pytestmark = pytest.mark.django_db

STATUS_KEYS = {
    *("id", "status", "total", "pending", "deferred", "sent", "failed", "suppressed", "unconfirmed"),
    *("cancelled", "delivered", "bounced", "complained", "rate_per_second", "eta_seconds"),
    *("started_at", "finished_at", "trouble"),
}


def do(client: APIClient, campaign: Campaign, action: str, body: Any = None) -> Any:
    return client.post(path_of("campaigns", campaign.pk, f"{action}/"), body or {})


def status_of(campaign: Campaign) -> str:
    campaign.refresh_from_db()
    return campaign.status


def ahead(hours: int = 1) -> str:
    return (timezone.now() + timedelta(hours=hours)).isoformat()


class TestCreate:
    def test_makes_a_draft_of_whoever_asks(
        self, api: APIClient, boss: User, audience: Audience, template: EmailTemplate
    ) -> None:
        answer = api.post(
            path_of("campaigns"),
            {
                "name": "May",
                "audience": audience.pk,
                "template": template.pk,
                "variables": {"month": "May"},
                "scheduled_at": "2030-05-31T09:00:00",
                "timezone": "Asia/Kolkata",
            },
        )
        assert answer.status_code == 201
        document = answer.json()
        assert answer["Location"] == f"http://testserver{API}/campaigns/{document['id']}/"
        assert without(document, "id", "created_at", "updated_at") == {
            "name": "May",
            "audience": audience.pk,
            "template": template.pk,
            "variables": {"month": "May"},
            "from_email": "",
            "from_name": "",
            "reply_to": "",
            "link_parameters": {},
            "headers": {},
            "scheduled_at": "2030-05-31T03:30:00Z",
            "timezone": "Asia/Kolkata",
            "timing": "at_once",
            "local_time": None,
            "status": "draft",
            "status_reason": "",
            "started_at": None,
            "finished_at": None,
            "created_by": boss.pk,
        }
        assert api.get(answer["Location"]).json() == document

    def test_cannot_set_the_status(self, api: APIClient, audience: Audience, template: EmailTemplate) -> None:
        answer = api.post(
            path_of("campaigns"),
            {"name": "May", "audience": audience.pk, "template": template.pk, "status": "completed"},
        )
        assert answer.json()["status"] == "draft"

    def test_names_every_field_that_is_wrong(self, api: APIClient, template: EmailTemplate) -> None:
        answer = api.post(
            path_of("campaigns"),
            {
                "name": "a\nb",
                "audience": 99_999,
                "from_email": "nobody",
                "timezone": "Mars/Olympus",
                "variables": [1],
                "scheduled_at": "tomorrow",
            },
        )
        assert faults(answer).keys() == {
            *("name", "audience", "template", "from_email", "timezone", "variables", "scheduled_at"),
        }
        assert not Campaign.objects.exists()

    def test_refuses_a_start_time_in_the_past(
        self, api: APIClient, audience: Audience, template: EmailTemplate
    ) -> None:
        body = {"name": "May", "audience": audience.pk, "template": template.pk}
        for past in ("2019-05-31T09:00:00Z", "2019-05-31T09:00:00", ahead(-1)):
            answer = api.post(path_of("campaigns"), {**body, "scheduled_at": past})
            assert faults(answer)["scheduled_at"].endswith("is in the past.")
        assert not Campaign.objects.exists()


class TestEdit:
    def test_changes_a_draft(self, api: APIClient, campaign: Campaign) -> None:
        answer = api.patch(path_of("campaigns", campaign.pk), {"name": "June"})
        assert (answer.status_code, answer.json()["name"]) == (200, "June")

    def test_refuses_a_new_start_time_in_the_past(self, api: APIClient, campaign: Campaign) -> None:
        body = {"name": "June", "scheduled_at": "2019-05-31T09:00:00Z"}
        assert faults(api.patch(path_of("campaigns", campaign.pk), body)).keys() == {"scheduled_at"}
        campaign.refresh_from_db()
        assert (campaign.name, campaign.scheduled_at) == ("May", None)

    @pytest.mark.parametrize("status", ["draft", "scheduled"])
    def test_leaves_a_time_alone_that_has_passed(
        self, api: APIClient, campaign: Campaign, status: str
    ) -> None:
        Campaign.objects.update(status=status, scheduled_at=timezone.now() - timedelta(seconds=30))
        document = api.get(path_of("campaigns", campaign.pk)).json()
        answer = api.put(path_of("campaigns", campaign.pk), {**document, "name": "June"})
        assert (answer.status_code, answer.json()["scheduled_at"]) == (200, document["scheduled_at"])

    def test_takes_the_time_from_a_draft(self, api: APIClient, campaign: Campaign) -> None:
        Campaign.objects.update(scheduled_at=timezone.now() - timedelta(seconds=30))
        answer = api.patch(path_of("campaigns", campaign.pk), {"scheduled_at": None})
        assert (answer.status_code, answer.json()["scheduled_at"]) == (200, None)

    def test_is_refused_once_sending_has_begun(self, api: APIClient, campaign: Campaign) -> None:
        started(campaign)
        document = problem(api.patch(path_of("campaigns", campaign.pk), {"name": "June"}), 409)
        assert (document["code"], document["from"]) == ("no_longer_editable", "in_progress")
        problem(api.delete(path_of("campaigns", campaign.pk)), 409)
        campaign.refresh_from_db()
        assert (campaign.name, campaign.status) == ("May", CampaignStatus.IN_PROGRESS)

    def test_is_refused_when_a_scheduled_campaign_could_not_be_sent_any_more(
        self, api: APIClient, campaign: Campaign
    ) -> None:
        do(api, campaign, "schedule", {"scheduled_at": ahead()})
        nobody = Audience.objects.create(name="Nobody")
        answer = api.patch(path_of("campaigns", campaign.pk), {"audience": nobody.pk})
        assert faults(answer)["audience"] == "The audience 'Nobody' has no recipients."
        assert faults(api.patch(path_of("campaigns", campaign.pk), {"scheduled_at": ahead(-1)})).keys() == {
            "scheduled_at"
        }
        assert faults(api.patch(path_of("campaigns", campaign.pk), {"scheduled_at": None})).keys() == {
            "scheduled_at"
        }
        campaign.refresh_from_db()
        assert campaign.audience.name == "Friends"
        assert campaign.scheduled_at is not None
        assert campaign.scheduled_at > timezone.now()

    def test_deletes_what_has_not_begun(self, api: APIClient, campaign: Campaign) -> None:
        do(api, campaign, "schedule", {"scheduled_at": ahead()})
        assert api.delete(path_of("campaigns", campaign.pk)).status_code == 204
        assert not Campaign.objects.exists()


class TestSchedule:
    @pytest.mark.parametrize(
        ("body", "utc"),
        [
            ({"scheduled_at": "2030-05-31T09:00:00+05:30"}, "2030-05-31T03:30:00Z"),
            ({"scheduled_at": "2030-05-31T09:00:00Z"}, "2030-05-31T09:00:00Z"),
            # the campaign's own zone is Asia/Kolkata
            ({"scheduled_at": "2030-05-31T09:00:00"}, "2030-05-31T03:30:00Z"),
            ({"scheduled_at": "2030-05-31T09:00:00", "timezone": "Europe/Paris"}, "2030-05-31T07:00:00Z"),
            # the clocks go from 02:00 to 03:00: 02:30 is meant an hour later, 03:30 = 01:30Z
            ({"scheduled_at": "2030-03-31T02:30:00", "timezone": "Europe/Paris"}, "2030-03-31T01:30:00Z"),
            # 02:30 comes twice, at 00:30Z and 01:30Z: the first
            ({"scheduled_at": "2030-10-27T02:30:00", "timezone": "Europe/Paris"}, "2030-10-27T00:30:00Z"),
        ],
    )
    def test_takes_an_instant_or_a_local_time(
        self, api: APIClient, campaign: Campaign, body: dict[str, str], utc: str
    ) -> None:
        document = do(api, campaign, "schedule", body).json()
        assert (document["status"], document["scheduled_at"]) == ("scheduled", utc)
        assert document["timezone"] == body.get("timezone", "Asia/Kolkata")

    def test_takes_the_time_that_the_campaign_has(self, api: APIClient, campaign: Campaign) -> None:
        api.patch(path_of("campaigns", campaign.pk), {"scheduled_at": "2030-05-31T09:00:00Z"})
        assert do(api, campaign, "schedule").json()["scheduled_at"] == "2030-05-31T09:00:00Z"

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "scheduled_at"),
            ({"scheduled_at": "2020-01-01T00:00:00Z"}, "scheduled_at"),
            ({"scheduled_at": "0001-01-01T00:00:00+14:00"}, "scheduled_at"),
            ({"scheduled_at": "9999-12-31T23:59:59-12:00"}, "scheduled_at"),
            ({"scheduled_at": "2030-13-01T00:00:00Z"}, "scheduled_at"),
            ({"scheduled_at": "2030-05-31"}, "scheduled_at"),
            ({"scheduled_at": 1_900_000_000}, "scheduled_at"),
            ({"scheduled_at": ["2030-05-31T09:00:00Z"]}, "scheduled_at"),
            ({"scheduled_at": "2030-05-31T09:00:00", "timezone": "Mars/Olympus"}, "timezone"),
            ({"scheduled_at": "2030-05-31T09:00:00", "timezone": "../../etc/passwd"}, "timezone"),
            ({"scheduled_at": "2030-05-31T09:00:00", "timezone": "UTC\0"}, "timezone"),
        ],
    )
    def test_names_the_field_that_is_wrong(
        self, api: APIClient, campaign: Campaign, body: dict[str, Any], field: str
    ) -> None:
        assert faults(do(api, campaign, "schedule", body)).keys() == {field}
        assert status_of(campaign) == CampaignStatus.DRAFT

    def test_names_everything_that_keeps_it_from_being_sent(self, api: APIClient, campaign: Campaign) -> None:
        EmailTemplate.objects.update(subject="Hello {{ nickname }}")
        Audience.objects.get().recipients.all().delete()
        answer = do(api, campaign, "schedule", {"scheduled_at": ahead()})
        assert faults(answer).keys() == {"audience", "template"}
        assert "'nickname'" in answer.json()["detail"]
        assert status_of(campaign) == CampaignStatus.DRAFT


class TestTransitions:
    def test_lead_through_a_whole_life(self, api: APIClient, campaign: Campaign) -> None:
        for action, status in (
            ("start", "in_progress"),
            ("pause", "paused"),
            ("resume", "in_progress"),
            ("cancel", "cancelled"),
        ):
            answer = do(api, campaign, action)
            assert (answer.status_code, answer.json()["status"]) == (200, status)

    def test_take_a_start_time_back(self, api: APIClient, campaign: Campaign) -> None:
        do(api, campaign, "schedule", {"scheduled_at": ahead()})
        document = do(api, campaign, "unschedule").json()
        assert (document["status"], document["scheduled_at"]) == ("draft", None)

    @pytest.mark.parametrize(
        ("status", "action", "target"),
        [
            ("draft", "unschedule", "draft"),
            ("draft", "pause", "paused"),
            ("draft", "resume", "in_progress"),
            ("in_progress", "start", "in_progress"),
            ("in_progress", "schedule", "scheduled"),
            ("paused", "pause", "paused"),
            ("completed", "start", "in_progress"),
            ("cancelled", "cancel", "cancelled"),
            ("failed", "resume", "in_progress"),
        ],
    )
    def test_that_are_not_allowed_are_refused_with_from_and_to(
        self, api: APIClient, campaign: Campaign, status: str, action: str, target: str
    ) -> None:
        Campaign.objects.update(status=status, started_at=timezone.now())
        body = {"scheduled_at": ahead()} if action == "schedule" else {}
        document = problem(do(api, campaign, action, body), 409)
        assert (document["code"], document["from"], document["to"]) == ("transition_refused", status, target)
        assert status_of(campaign) == status

    def test_of_a_campaign_that_is_not_there_are_404(self, api: APIClient) -> None:
        problem(api.post(path_of("campaigns", 99_999, "start/"), {}), 404)

    def test_start_names_what_is_missing(self, api: APIClient, campaign: Campaign) -> None:
        Audience.objects.get().recipients.all().delete()
        assert faults(do(api, campaign, "start"))["audience"] == "The audience 'Friends' has no recipients."
        assert status_of(campaign) == CampaignStatus.DRAFT
        assert not DeliveryLog.objects.exists()


class TestTestMail:
    def test_is_queued_for_the_addresses_given(self, api: APIClient, campaign: Campaign) -> None:
        answer = do(api, campaign, "test", {"emails": ["Asha@EXAMPLE.com"]})
        assert (answer.status_code, answer.json()) == (202, {"emails": ["Asha@example.com"]})

    @pytest.mark.parametrize(
        ("emails", "field"),
        [
            ([], "emails"),
            (["a@example.com"] * 11, "emails"),
            (["a@example.com", "nobody"], "emails.1"),
            ("a@example.com", "emails"),
            ([{}], "emails.0"),
        ],
    )
    def test_names_the_address_that_is_wrong(
        self, api: APIClient, campaign: Campaign, emails: Any, field: str
    ) -> None:
        assert faults(do(api, campaign, "test", {"emails": emails})).keys() == {field}

    @pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
    def test_is_refused_once_the_campaign_has_ended(
        self, api: APIClient, campaign: Campaign, status: str
    ) -> None:
        Campaign.objects.update(status=status)
        document = problem(do(api, campaign, "test", {"emails": ["a@example.com"]}), 409)
        assert (document["code"], document["from"]) == ("campaign_ended", status)
        assert document["detail"] == f"A campaign that is {status} sends no tests."


class TestStatus:
    def test_counts_the_whole_audience_before_the_start(self, api: APIClient, campaign: Campaign) -> None:
        document = api.get(path_of("campaigns", campaign.pk, "status/")).json()
        assert document.keys() == STATUS_KEYS
        assert (document["status"], document["total"], document["pending"]) == ("draft", 5, 5)

    def test_adds_up_after_sending(self, api: APIClient, campaign: Campaign, smtp_line: Line) -> None:
        for batch_id in started(campaign):
            send(batch_id, smtp_line)
        document = api.get(path_of("campaigns", campaign.pk, "status/")).json()
        assert (document["total"], document["sent"], document["pending"]) == (5, 5, 0)
        current = progress.of(campaign.pk)
        assert current.started_at is not None
        assert datetime.fromisoformat(document["started_at"]) == current.started_at
        assert document["started_at"].endswith("Z")

    def test_is_304_while_nothing_changes(self, api: APIClient, campaign: Campaign) -> None:
        path = path_of("campaigns", campaign.pk, "status/")
        first = api.get(path)
        assert first["Cache-Control"] == "private, no-cache"
        again = api.get(path, headers={"If-None-Match": first["ETag"]})
        assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
        assert again["Cache-Control"] == "private, no-cache"
        lifecycle.cancel(campaign.pk, now=timezone.now())
        changed = api.get(path, headers={"If-None-Match": first["ETag"]})
        assert (changed.status_code, changed.json()["cancelled"]) == (200, 5)
        assert changed["ETag"] != first["ETag"]

    def test_of_an_unknown_campaign_is_404(self, api: APIClient) -> None:
        problem(api.get(path_of("campaigns", 99_999, "status/")), 404)


class TestRunning:
    def test_shows_the_campaigns_in_progress(self, api: APIClient, campaign: Campaign) -> None:
        path = path_of("campaigns", "running", "status/")
        assert api.get(path).json() == {"count": 0, "next": None, "previous": None, "results": []}
        started(campaign)
        first = api.get(path)
        (document,) = first.json()["results"]
        assert document.keys() == STATUS_KEYS
        assert (document["id"], document["status"]) == (campaign.pk, "in_progress")
        assert api.get(path, headers={"If-None-Match": first["ETag"]}).status_code == 304
        lifecycle.pause(campaign.pk)
        assert api.get(path).json()["count"] == 0


class TestList:
    def test_filters_searches_and_orders(self, api: APIClient, campaign: Campaign) -> None:
        june = Campaign.objects.create(name="June", audience=campaign.audience, template=campaign.template)
        lifecycle.cancel(june.pk, now=timezone.now())

        def names(query: str) -> list[str]:
            return [row["name"] for row in api.get(f"{path_of('campaigns')}?{query}").json()["results"]]

        assert names("") == ["June", "May"]
        assert names("ordering=-name") == ["May", "June"]
        assert names("status=draft") == ["May"]
        assert names("search=jun") == ["June"]
        assert names(f"audience={campaign.audience.pk}&page_size=1") == ["June"]

    def test_names_the_filter_that_is_wrong(self, api: APIClient, campaign: Campaign) -> None:
        for query, field in (
            ("status=flying", "status"),
            ("audience=abc", "audience"),
            ("audience=99999999999999999999", "audience"),
            ("audience=%00", "audience"),
        ):
            assert faults(api.get(f"{path_of('campaigns')}?{query}")).keys() == {field}
