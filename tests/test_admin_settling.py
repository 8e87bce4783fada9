"""Settling unconfirmed mails in the admin: chosen ones in the delivery log, all on a campaign's page."""

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from campaigns import lifecycle
from campaigns.models import Campaign, Decision, DeliveryLog, Settlement
from tests.admin_helpers import client_of, operator, page_of, said
from tests.campaign_helpers import clock, counts, leave_in_doubt, row, started
from users.models import User

pytestmark = pytest.mark.django_db(transaction=True)

LOG = "/admin/campaigns/deliverylog/"
ACTIONS = {"mark_as_sent": Decision.SENT, "send_again": Decision.SEND_AGAIN, "give_up": Decision.GIVE_UP}
BECOMES = {"sent": "sent", "send_again": "pending", "give_up": "failed"}


@pytest.fixture
def doubtful(campaign: Campaign) -> Campaign:
    """A campaign in progress: p0 to p2 unconfirmed, p3 and p4 pending."""
    (batch_id,) = started(campaign)
    leave_in_doubt(batch_id, "p0@example.com", "p1@example.com", "p2@example.com")
    return campaign


@pytest.fixture
def client(boss: User) -> Client:
    return client_of(boss)


def _ids(*emails: str) -> list[int]:
    return [row(email).pk for email in emails]


def _choose(client: Client, action: str, ids: list[int], **more: Any) -> Any:
    return client.post(LOG, {"action": action, "_selected_action": ids, "index": 0, **more})


def _settle_all(client: Client, campaign: Campaign, decision: str, note: str = "") -> Any:
    address = reverse("admin:campaigns_deliverylog_settle_campaign", args=[campaign.pk])
    return client.post(address, {"decision": decision, "note": note})


class TestChosen:
    @pytest.mark.parametrize("action", ACTIONS)
    def test_are_settled_once_that_is_confirmed(
        self, client: Client, boss: User, doubtful: Campaign, action: str
    ) -> None:
        chosen = _ids("p0@example.com", "p1@example.com", "p4@example.com")
        page = _choose(client, action, chosen)
        assert "2 unconfirmed mails" in page.text
        assert "1 other of those that you chose is not unconfirmed and stays as it is." in page.text
        assert counts(doubtful) == {"unconfirmed": 3, "pending": 2}
        named = re.findall(r'name="delivery" value="(\d+)"', page.text)
        assert [int(number) for number in named] == chosen[:2]
        answer = client.post(
            f"{LOG}settle/?status__exact=unconfirmed",
            {"delivery": named, "decision": ACTIONS[action], "note": "seen"},
        )
        assert (answer.status_code, answer["Location"]) == (302, f"{LOG}?status__exact=unconfirmed")
        assert said(answer)[0].startswith("2 unconfirmed mails: ")
        assert row("p0@example.com").status == row("p1@example.com").status == BECOMES[ACTIONS[action]]
        assert row("p2@example.com").status == "unconfirmed"
        assert set(Settlement.objects.values_list("decided_by", "note")) == {(boss.pk, "seen")}

    def test_of_all_pages_are_counted_before(self, client: Client, doubtful: Campaign) -> None:
        page = _choose(client, "give_up", _ids("p0@example.com"), select_across="1")
        assert "3 unconfirmed mails" in page.text

    def test_that_are_not_unconfirmed_need_no_confirmation(self, client: Client, doubtful: Campaign) -> None:
        answer = _choose(client, "give_up", _ids("p3@example.com"))
        assert said(answer) == ["None of the chosen mails is unconfirmed."]

    def test_are_refused_when_they_are_too_many(
        self, client: Client, doubtful: Campaign, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("campaigns.settling.MOST_NAMED", 2)
        answer = _choose(client, "give_up", _ids("p0@example.com"), select_across="1")
        (message,) = said(answer)
        assert message.startswith("Choose up to 2 unconfirmed mails at a time")

    def test_that_somebody_else_settled_meanwhile_are_named(self, client: Client, doubtful: Campaign) -> None:
        first, second = _ids("p0@example.com", "p1@example.com")
        body = {"delivery": [first], "decision": "sent", "note": ""}
        client.post(f"{LOG}settle/", body)
        answer = client.post(f"{LOG}settle/", {**body, "delivery": [first, second]})
        assert said(answer)[-1] == (
            f"Nothing was settled, because these deliveries are not unconfirmed: {first}."
        )
        assert counts(doubtful) == {"sent": 1, "unconfirmed": 2, "pending": 2}

    @pytest.mark.parametrize("named", [[], ["x"], ["-1"], ["1", "\u0661"]])
    def test_that_are_no_numbers_are_refused(
        self, client: Client, doubtful: Campaign, named: list[str]
    ) -> None:
        answer = client.post(f"{LOG}settle/", {"delivery": named, "decision": "sent"})
        assert answer.status_code == 400

    def test_a_number_that_no_row_has_is_named(self, client: Client, doubtful: Campaign) -> None:
        answer = client.post(f"{LOG}settle/", {"delivery": [str(10**30)], "decision": "sent"})
        assert said(answer) == [
            f"Nothing was settled, because these deliveries are not unconfirmed: {10**30}."
        ]

    @pytest.mark.parametrize(
        ("typed", "words"), [({"decision": "lost"}, "Decision: "), ({"note": "x" * 2_001}, "Note: ")]
    )
    def test_a_bad_form_changes_nothing_and_says_why(
        self, client: Client, doubtful: Campaign, typed: dict[str, str], words: str
    ) -> None:
        body = {"delivery": _ids("p0@example.com"), "decision": "sent", **typed}
        (message,) = said(client.post(f"{LOG}settle/", body))
        assert message.startswith(words)
        assert not Settlement.objects.exists()


class TestCampaign:
    @pytest.mark.parametrize("decision", Decision.values)
    def test_is_settled_as_a_whole(self, client: Client, doubtful: Campaign, decision: str) -> None:
        page = page_of(client, doubtful)
        assert "3 mails are unconfirmed:" in page
        assert f'data-opens="settle-{decision}"' in page
        log = f"?campaign__id__exact={doubtful.pk}&amp;status__exact=unconfirmed"
        assert log in page
        answer = _settle_all(client, doubtful, decision, "asked")
        (done,) = said(answer)
        assert done.startswith("3 unconfirmed mails: ")
        found = counts(doubtful)
        assert "unconfirmed" not in found
        assert found["pending"] == (5 if decision == "send_again" else 2)
        assert "unconfirmed:" not in page_of(client, doubtful)
        history = client.get(reverse("admin:campaigns_campaign_history", args=[doubtful.pk]))
        assert done in history.text
        assert said(_settle_all(client, doubtful, decision)) == ["Nothing was unconfirmed any more."]

    def test_that_is_cancelled_offers_no_second_sending(self, client: Client, doubtful: Campaign) -> None:
        lifecycle.cancel(doubtful.pk, now=clock())
        page = page_of(client, doubtful)
        assert re.findall(r'data-opens="settle-(\w+)"', page) == ["sent", "give_up"]
        (message,) = said(_settle_all(client, doubtful, "send_again"))
        assert "was cancelled, so nothing of it is sent again" in message
        assert not Settlement.objects.exists()

    def test_without_doubts_says_nothing_of_them(self, client: Client, campaign: Campaign) -> None:
        started(campaign)
        assert "settle-" not in page_of(client, campaign)


class TestHistory:
    def test_stands_on_the_page_of_the_delivery(
        self, client: Client, doubtful: Campaign, settings: Settings
    ) -> None:
        page = reverse("admin:campaigns_deliverylog_change", args=_ids("p0@example.com"))
        assert "boss@example.com:" not in client.get(page).text
        _settle_all(client, doubtful, "give_up", "<b>asked</b>")
        text = client.get(page).text
        assert "<b>boss@example.com</b>: give it up: count it as failed" in text
        assert "&lt;b&gt;asked&lt;/b&gt;" in text


class TestPermission:
    def test_who_may_only_look_sees_no_button_and_can_press_none(self, doubtful: Campaign) -> None:
        client = client_of(operator("view_campaign", "view_deliverylog"))
        page = page_of(client, doubtful)
        assert "3 mails are unconfirmed:" in page
        assert "data-opens" not in page
        assert "mark_as_sent" not in client.get(LOG).text
        assert _settle_all(client, doubtful, "sent").status_code == 403
        body = {"delivery": _ids("p0@example.com"), "decision": "sent"}
        assert client.post(f"{LOG}settle/", body).status_code == 403
        assert "unconfirmed mail" not in _choose(client, "give_up", _ids("p0@example.com"), follow=True).text
        assert not Settlement.objects.exists()

    def test_change_deliverylog_is_enough(self, doubtful: Campaign) -> None:
        client = client_of(operator("view_deliverylog", "change_deliverylog"))
        assert (
            "2 unconfirmed mails" in _choose(client, "give_up", _ids("p0@example.com", "p1@example.com")).text
        )
        assert _settle_all(client, doubtful, "give_up").status_code == 302
        assert counts(doubtful) == {"failed": 3, "pending": 2}

    def test_without_a_token_nothing_happens(self, boss: User, doubtful: Campaign) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(boss)
        assert _settle_all(client, doubtful, "sent").status_code == 403
        assert client.post(f"{LOG}settle/", {"decision": "sent"}).status_code == 403

    def test_an_address_that_is_merely_opened_does_nothing(self, client: Client, doubtful: Campaign) -> None:
        assert client.get(f"{LOG}settle/").status_code == 405
        assert client.get(f"{LOG}settle/{doubtful.pk}/").status_code == 405
        assert DeliveryLog.objects.filter(status="unconfirmed").count() == 3
