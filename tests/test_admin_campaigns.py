"""The buttons of a campaign's page, what they refuse, and what the pages show while it is being sent."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from campaigns import lifecycle
from campaigns.admin.operating import BUTTONS
from campaigns.models import Audience, Batch, Campaign, CampaignStatus, EmailTemplate
from tests.admin_helpers import address, client_of, operator, page_of, put, said, superuser
from tests.campaign_helpers import started

pytestmark = pytest.mark.django_db

_S = CampaignStatus

SHOWN = {
    _S.DRAFT: {"schedule", "start", "send-test", "cancel"},
    _S.SCHEDULED: {"schedule", "unschedule", "start", "send-test", "cancel"},
    _S.IN_PROGRESS: {"pause", "send-test", "cancel"},
    _S.PAUSED: {"resume", "send-test", "cancel"},
    _S.COMPLETED: set(),
    _S.FAILED: set(),
    _S.CANCELLED: set(),
}
FORMS = {
    "schedule": {"start_at": "2099-12-01T14:00", "timezone": "Asia/Kolkata"},
    "send-test": {"emails": "me@example.com"},
}


@pytest.fixture
def boss() -> Client:
    return client_of(superuser())


def buttons(page: str, campaign: Campaign) -> set[str]:
    return set(re.findall(rf'action="/admin/campaigns/campaign/{campaign.pk}/([a-z-]+)/"', page))


class TestButtons:
    @pytest.mark.parametrize("status", CampaignStatus.values)
    def test_are_there_only_where_they_may_be_pressed(
        self, boss: Client, campaign: Campaign, status: str
    ) -> None:
        put(campaign, status)
        assert buttons(page_of(boss, campaign), campaign) == SHOWN[CampaignStatus(status)]

    @pytest.mark.parametrize("action", BUTTONS)
    def test_an_address_that_is_merely_opened_does_nothing(
        self, boss: Client, campaign: Campaign, action: str
    ) -> None:
        assert boss.get(address(campaign, action)).status_code == 405
        campaign.refresh_from_db()
        assert campaign.status == "draft"

    @pytest.mark.parametrize("action", BUTTONS)
    def test_without_a_token_nothing_happens(self, campaign: Campaign, action: str) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(superuser())
        assert client.post(address(campaign, action), FORMS.get(action, {})).status_code == 403
        campaign.refresh_from_db()
        assert campaign.status == "draft"

    @pytest.mark.parametrize(
        ("status", "action"),
        [(status, action) for status in SHOWN for action in BUTTONS if action not in SHOWN[status]],
    )
    def test_a_forged_post_in_the_wrong_state_changes_nothing(
        self, boss: Client, campaign: Campaign, status: str, action: str
    ) -> None:
        put(campaign, status)
        before = Campaign.objects.values().get()
        answer = boss.post(address(campaign, action), FORMS.get(action, {}))
        assert answer.status_code == 302
        (message,) = said(answer)
        if action == "send-test":
            assert message == f"A campaign that is {status} sends no tests."
        else:
            target = lifecycle.TRANSITIONS[action][1]
            was, asked = CampaignStatus(status).label.lower(), CampaignStatus(target).label.lower()
            assert message == f"A campaign that is {was} cannot become {asked}."
        assert Campaign.objects.values().get() == before

    def test_who_may_only_look_sees_none_and_can_press_none(self, campaign: Campaign) -> None:
        client = client_of(operator("view_campaign"))
        assert buttons(page_of(client, campaign), campaign) == set()
        for action in BUTTONS:
            assert client.post(address(campaign, action), FORMS.get(action, {})).status_code == 403
        campaign.refresh_from_db()
        assert campaign.status == "draft"

    def test_change_campaign_is_enough(self, campaign: Campaign) -> None:
        client = client_of(operator("view_campaign", "change_campaign"))
        assert said(client.post(address(campaign, "start"))) == ["Started."]

    def test_a_campaign_that_is_not_there_is_not_found(self, boss: Client) -> None:
        assert boss.post("/admin/campaigns/campaign/999/start/").status_code == 404

    def test_starting_and_cancelling_ask_first(self, boss: Client, campaign: Campaign) -> None:
        page = page_of(boss, campaign)
        for action in ("start", "cancel"):
            assert f'data-opens="dialog-{action}"' in page
            assert f'<dialog id="dialog-{action}"' in page


class TestOperating:
    def test_goes_from_draft_to_cancelled(self, boss: Client, campaign: Campaign) -> None:
        for action, status in (
            ("schedule", "scheduled"),
            ("unschedule", "draft"),
            ("start", "in_progress"),
            ("pause", "paused"),
            ("resume", "in_progress"),
            ("cancel", "cancelled"),
        ):
            boss.post(address(campaign, action), FORMS.get(action, {}))
            campaign.refresh_from_db()
            assert campaign.status == status

    def test_what_was_done_stands_in_the_history(self, boss: Client, campaign: Campaign) -> None:
        boss.post(address(campaign, "start"))
        assert "Started." in boss.get(address(campaign, "history")).text

    def test_a_start_time_is_meant_in_the_zone_chosen(self, boss: Client, campaign: Campaign) -> None:
        answer = boss.post(
            address(campaign, "schedule"), {"start_at": "2099-12-01T14:00", "timezone": "Asia/Kolkata"}
        )
        assert said(answer) == ["Scheduled for Tue 01 Dec 2099, 14:00 Asia/Kolkata (08:30 UTC)."]
        campaign.refresh_from_db()
        assert campaign.scheduled_at == datetime(2099, 12, 1, 8, 30, tzinfo=UTC)
        assert campaign.timezone == "Asia/Kolkata"
        page = page_of(boss, campaign)
        assert "Tue 01 Dec 2099, 14:00 Asia/Kolkata (08:30 UTC)" in page
        assert 'value="2099-12-01T14:00"' in page

    @pytest.mark.parametrize(
        ("form", "message"),
        [
            ({"start_at": "", "timezone": "UTC"}, "Start at: This field is required."),
            (
                {"start_at": "tomorrow", "timezone": "UTC"},
                "Start at: 'tomorrow' is not a time like 2026-12-01T14:00.",
            ),
            (
                {"start_at": "0001-01-01T00:00", "timezone": "Asia/Kolkata"},
                "Start at: '0001-01-01T00:00': give a year from 2000 to 2100.",
            ),
            (
                {"start_at": "2001-01-01T00:00", "timezone": "UTC"},
                "Start at: 2001-01-01T00:00:00+00:00 is in the past.",
            ),
            (
                {"start_at": "2099-01-01T00:00", "timezone": "Mars/Olympus"},
                "Time zone: Select a valid choice. Mars/Olympus is not one of the available choices.",
            ),
        ],
    )
    def test_a_bad_start_time_is_named_and_changes_nothing(
        self, boss: Client, campaign: Campaign, form: dict[str, str], message: str
    ) -> None:
        assert said(boss.post(address(campaign, "schedule"), form)) == [message]
        campaign.refresh_from_db()
        assert (campaign.status, campaign.scheduled_at) == ("draft", None)

    @pytest.mark.parametrize(
        ("emails", "message"),
        [
            ("a@example.com, nobody", "Addresses: 'nobody' "),
            (" ".join(f"a{n}@example.com" for n in range(11)), "Addresses: Give 1 to 10 addresses, not 11."),
            ("", "Addresses: This field is required."),
        ],
    )
    def test_a_bad_test_address_is_named(
        self, boss: Client, campaign: Campaign, emails: str, message: str
    ) -> None:
        (answer,) = said(boss.post(address(campaign, "send-test"), {"emails": emails}))
        assert answer.startswith(message)

    def test_a_refused_entry_stands_in_its_dialog_again_once(
        self, boss: Client, campaign: Campaign, template: EmailTemplate
    ) -> None:
        other = Campaign.objects.create(name="June", audience=campaign.audience, template=template)
        boss.post(address(campaign, "send-test"), {"emails": "a@example.com, <nobody>"})
        assert "data-refused" not in page_of(boss, other)
        page = page_of(boss, campaign)
        dialog = page[page.index('<dialog id="dialog-send-test"') :].partition("</dialog>")[0]
        assert dialog.partition(">")[0].endswith("data-refused")
        assert "a@example.com, &lt;nobody&gt;" in dialog
        assert "Addresses: &#x27;&lt;nobody&gt;&#x27; cannot be used" in dialog
        assert page.count("data-refused") == 1
        assert "data-refused" not in page_of(boss, campaign)

    def test_a_refused_time_stands_in_its_dialog_again(self, boss: Client, campaign: Campaign) -> None:
        boss.post(address(campaign, "schedule"), {"start_at": "2001-01-01T00:00", "timezone": "Europe/Paris"})
        page = page_of(boss, campaign)
        assert 'value="2001-01-01T00:00"' in page
        dialog = page[page.index('<dialog id="dialog-schedule"') :].partition("</dialog>")[0]
        assert re.findall(r'<option value="([^"]+)" selected', dialog) == ["Europe/Paris"]

    def test_a_test_goes_to_each_address_once(self, boss: Client, campaign: Campaign) -> None:
        answer = boss.post(
            address(campaign, "send-test"), {"emails": "a@example.com\nb@example.com,a@example.com"}
        )
        assert said(answer) == ["A test mail is on its way to a@example.com, b@example.com."]

    def test_what_keeps_a_campaign_from_starting_is_said_before_and_after(
        self, boss: Client, campaign: Campaign
    ) -> None:
        empty = Audience.objects.create(name="Nobody")
        Campaign.objects.update(audience=empty)
        problem = "Audience: The audience 'Nobody' has no recipients."
        assert problem.replace("'", "&#x27;") in page_of(boss, campaign)
        assert problem in said(boss.post(address(campaign, "start")))
        campaign.refresh_from_db()
        assert campaign.status == "draft"


class TestMethods:
    @pytest.mark.django_db(transaction=True)  # inside a test's transaction any row can be locked
    @pytest.mark.parametrize("permissions", [(), ("view_campaign",)])
    def test_that_are_not_meant_are_refused(self, campaign: Campaign, permissions: tuple[str, ...]) -> None:
        client = client_of(operator(*permissions))
        client.raise_request_exception = False
        for page in ("change", "delete", "history", "live", *BUTTONS):
            assert client.post(address(campaign, page), {"name": "New"}).status_code in (403, 405), page
        assert client.get(address(campaign, "history")).status_code == (200 if permissions else 403)
        campaign.refresh_from_db()
        assert (campaign.name, campaign.status) == ("May", _S.DRAFT)

    @pytest.mark.django_db(transaction=True)
    def test_saving_locks_the_row(self, boss: Client, campaign: Campaign) -> None:
        with CaptureQueriesContext(connection) as queries:
            assert boss.post(address(campaign, "change"), {"name": "New"}).status_code == 200
        assert any("FOR UPDATE" in query["sql"] for query in queries.captured_queries)


class TestFollowing:
    def test_the_list_asks_for_the_numbers_of_the_whole_page_at_once(
        self, boss: Client, campaign: Campaign
    ) -> None:
        for n in range(6):
            Campaign.objects.create(name=f"C{n}", audience=campaign.audience, template=campaign.template)
        started(campaign)
        with CaptureQueriesContext(connection) as queries:
            page = boss.get(reverse("admin:campaigns_campaign_changelist"))
        assert sum("campaigns_batch" in query["sql"] for query in queries) == 1
        assert page.text.count('role="progressbar"') == 7
        assert page.text.count("nothing tried yet") == 7
        assert f"live/?ids={campaign.pk}&quot;" in page.text or f'live/?ids={campaign.pk}"' in page.text

    def test_the_list_shows_bar_counts_and_colour(self, boss: Client, campaign: Campaign) -> None:
        (batch,) = started(campaign)
        Batch.objects.filter(pk=batch).update(pending=0, sent=4, failed=1)
        page = boss.get(reverse("admin:campaigns_campaign_changelist")).text
        assert 'aria-valuenow="80"' in page
        assert 'class="mailer-share mailer-yellow">80 % accepted' in page
        assert "<b>4</b> sent" in page
        assert "<b>1</b> failed" in page

    def test_the_list_stops_asking_once_nothing_moves(self, boss: Client, campaign: Campaign) -> None:
        live = reverse("admin:campaigns_campaign_live_list")
        started(campaign)
        answer = boss.get(live, {"ids": campaign.pk})
        assert answer.status_code == 200
        assert f'id="campaign-{campaign.pk}-state"' in answer.text
        lifecycle.pause(campaign.pk)
        answer = boss.get(live, {"ids": campaign.pk})
        assert answer.status_code == 286
        assert "Paused" in answer.text
        assert "live/?ids=" not in boss.get(reverse("admin:campaigns_campaign_changelist")).text

    def test_the_list_refuses_ids_that_are_none(self, boss: Client) -> None:
        assert boss.get(reverse("admin:campaigns_campaign_live_list"), {"ids": "x"}).status_code == 400

    def test_the_page_shows_why_batches_wait(self, boss: Client, campaign: Campaign) -> None:
        (batch,) = started(campaign)
        Batch.objects.filter(pk=batch).update(trouble="the rate limit of smtp")
        assert "the rate limit of smtp" in page_of(boss, campaign)

    def test_the_page_is_fetched_anew_when_the_state_changes(self, boss: Client, campaign: Campaign) -> None:
        started(campaign)
        live = address(campaign, "live")
        answer = boss.get(live, {"status": "in_progress"})
        assert 'hx-trigger="every 2s"' in answer.text
        assert "HX-Refresh" not in answer
        lifecycle.cancel(campaign.pk, now=timezone.now())
        assert boss.get(live, {"status": "in_progress"})["HX-Refresh"] == "true"

    def test_a_page_that_nothing_changes_does_not_ask(self, boss: Client, campaign: Campaign) -> None:
        assert "hx-trigger" not in page_of(boss, campaign).split('id="campaign-live"')[1][:200]

    def test_a_campaign_about_to_start_is_followed(self, boss: Client, campaign: Campaign) -> None:
        put(campaign, _S.SCHEDULED)
        Campaign.objects.update(scheduled_at=timezone.now() + timedelta(seconds=30))
        assert 'hx-trigger="every 2s"' in page_of(boss, campaign)

    def test_the_numbers_want_the_permission(self, campaign: Campaign) -> None:
        client = client_of(operator())
        assert client.get(address(campaign, "live")).status_code == 403
        assert client.get(reverse("admin:campaigns_campaign_live_list"), {"ids": 1}).status_code == 403
