"""The form of a campaign: what it refuses, and that odd stored data cannot break its page."""

from datetime import UTC, datetime

import pytest
from django.test import Client
from django.urls import reverse
from django.utils.html import escape

from campaigns.models import Audience, Campaign, CampaignStatus, EmailTemplate
from tests.admin_helpers import address, client_of, errors, page_of, put, superuser
from tests.campaign_helpers import started
from users.models import User

pytestmark = pytest.mark.django_db

_S = CampaignStatus


@pytest.fixture
def boss() -> Client:
    return client_of(superuser())


class TestForm:
    def _data(self, campaign: Campaign, **changed: object) -> dict[str, object]:
        return {
            "name": campaign.name, "audience": campaign.audience_id, "template": campaign.template_id,
            "variables": "{}", "from_email": "", "from_name": "", "reply_to": "",
            "timezone": campaign.timezone, "timing": campaign.timing, **changed,
        }  # fmt: skip

    def test_a_new_campaign_is_a_draft_of_who_made_it(
        self, boss: Client, audience: Audience, template: EmailTemplate
    ) -> None:
        new = Campaign(name="June", audience=audience, template=template, timezone="Europe/Paris")
        answer = boss.post(reverse("admin:campaigns_campaign_add"), self._data(new))
        assert answer.status_code == 302
        made = Campaign.objects.get()
        assert (made.name, made.status, made.timezone) == ("June", "draft", "Europe/Paris")
        assert made.created_by == User.objects.get()

    def test_a_draft_can_be_changed(self, boss: Client, campaign: Campaign) -> None:
        boss.post(address(campaign, "change"), self._data(campaign, name="New"))
        campaign.refresh_from_db()
        assert campaign.name == "New"

    def test_a_started_campaign_cannot(self, boss: Client, campaign: Campaign) -> None:
        started(campaign)
        assert 'name="name"' not in page_of(boss, campaign)
        answer = boss.post(address(campaign, "change"), self._data(campaign, name="New"))
        assert answer.status_code == 403
        campaign.refresh_from_db()
        assert (campaign.name, campaign.status) == ("May", "in_progress")

    def test_saving_a_scheduled_campaign_leaves_its_time_and_state(
        self, boss: Client, campaign: Campaign
    ) -> None:
        put(campaign, _S.SCHEDULED)
        boss.post(address(campaign, "change"), self._data(campaign, name="New", timezone="Europe/Paris"))
        before = (campaign.status, campaign.scheduled_at, campaign.timezone)
        campaign.refresh_from_db()
        assert campaign.name == "New"
        assert (campaign.status, campaign.scheduled_at, campaign.timezone) == before

    @pytest.mark.parametrize("status", CampaignStatus.values)
    def test_what_has_begun_cannot_be_deleted(self, boss: Client, campaign: Campaign, status: str) -> None:
        put(campaign, status)
        answer = boss.post(address(campaign, "delete"), {"post": "yes"})
        goes = status in ("draft", "scheduled")
        assert answer.status_code == (302 if goes else 403)
        assert Campaign.objects.exists() == (not goes)

    def test_nor_by_selecting_them_in_the_list(self, boss: Client, campaign: Campaign) -> None:
        started(campaign)
        boss.post(
            reverse("admin:campaigns_campaign_changelist"),
            {"action": "delete_selected", "_selected_action": [campaign.pk], "post": "yes"},
        )
        assert Campaign.objects.exists()

    @pytest.mark.parametrize("status", ["draft", "scheduled", "in_progress"])
    def test_selecting_in_the_list_deletes_what_has_not_begun(
        self, boss: Client, campaign: Campaign, status: str
    ) -> None:
        put(campaign, status)
        boss.post(
            reverse("admin:campaigns_campaign_changelist"),
            {"action": "delete_selected", "_selected_action": [campaign.pk], "post": "yes"},
        )
        assert Campaign.objects.exists() == (status == "in_progress")

    @pytest.mark.parametrize(
        ("typed", "message"),
        [
            ("[1]", "Give an object, such as"),
            ("null", "Give an object, such as"),
            ('"text"', "Give an object, such as"),
            ("{", "It is not JSON: "),
            ('{"a": NaN}', "It is not JSON: "),
            ('{"a": "\\u0000"}', "A text in it contains NUL"),
            ('{"a": ' + "[" * 30 + "]" * 30 + "}", "Nested more than 20 deep."),
            ("[" * 100_000, "It is not JSON: "),
        ],
    )
    def test_variables_that_are_no_object_are_refused_by_field(
        self, boss: Client, campaign: Campaign, typed: str, message: str
    ) -> None:
        answer = boss.post(address(campaign, "change"), self._data(campaign, name="New", variables=typed))
        assert answer.status_code == 200
        (error,) = errors(answer)["variables"]
        assert error.startswith(message)
        assert escape(typed[:50]) in answer.text
        campaign.refresh_from_db()
        assert (campaign.name, campaign.variables) == ("May", {})

    def test_no_variables_are_an_empty_object(self, boss: Client, campaign: Campaign) -> None:
        Campaign.objects.update(variables={"a": 1})
        assert boss.post(address(campaign, "change"), self._data(campaign, variables=" ")).status_code == 302
        campaign.refresh_from_db()
        assert campaign.variables == {}

    def test_addresses_are_stored_as_the_api_stores_them(self, boss: Client, campaign: Campaign) -> None:
        typed = {"from_email": " News@BÜCHER.example\u200b", "reply_to": "us@Example.COM"}
        assert boss.post(address(campaign, "change"), self._data(campaign, **typed)).status_code == 302
        campaign.refresh_from_db()
        assert campaign.from_email == "News@xn--bcher-kva.example"
        assert campaign.reply_to == "us@example.com"

    def test_what_cannot_stand_in_a_header_is_refused_by_field(
        self, boss: Client, campaign: Campaign
    ) -> None:
        typed = {
            "name": "a\nb", "from_name": "a\tb", "from_email": "müller@example.com", "reply_to": "nobody"
        }  # fmt: skip
        answer = boss.post(address(campaign, "change"), self._data(campaign, **typed))
        assert errors(answer) == {
            "name": ["It contains a line break or another control character."],
            "from_name": ["It contains a line break or another control character."],
            "from_email": [
                "The part before the @-sign has letters outside ASCII, which many mail servers refuse; "
                "recipients may have them, senders and accounts not."
            ],
            "reply_to": ["The address has no @-sign."],
        }
        campaign.refresh_from_db()
        assert (campaign.name, campaign.from_email) == ("May", "")

    def test_a_scheduled_campaign_stays_fit_to_be_sent(self, boss: Client, campaign: Campaign) -> None:
        put(campaign, _S.SCHEDULED)
        nobody = Audience.objects.create(name="Nobody")
        wants_more = EmailTemplate.objects.create(name="More", subject="{{ shoe_size }}", text="Hi")
        answer = boss.post(
            address(campaign, "change"),
            self._data(campaign, audience=nobody.pk, template=wants_more.pk),
        )
        assert errors(answer) == {
            "audience": ["The audience 'Nobody' has no recipients."],
            "template": [
                "'More' names 'shoe_size', which no recipient of 'Nobody' has, nor the campaign's variables."
            ],
        }
        campaign.refresh_from_db()
        assert campaign.audience.name == "Friends"

    def test_a_problem_of_a_field_that_is_not_in_the_form_stands_above_it(
        self, boss: Client, campaign: Campaign
    ) -> None:
        put(campaign, _S.SCHEDULED)
        Campaign.objects.update(timezone="Mars/Olympus")
        answer = boss.post(address(campaign, "change"), self._data(campaign, name="New"))
        (error,) = errors(answer)["__all__"]
        assert error.startswith("Time zone: 'Mars/Olympus' is not a time zone")
        campaign.refresh_from_db()
        assert campaign.name == "May"

    def test_a_draft_may_be_unfit(self, boss: Client, campaign: Campaign) -> None:
        nobody = Audience.objects.create(name="Nobody")
        answer = boss.post(address(campaign, "change"), self._data(campaign, audience=nobody.pk))
        assert answer.status_code == 302
        campaign.refresh_from_db()
        assert campaign.audience == nobody


class TestOddData:
    @pytest.mark.parametrize("status", CampaignStatus.values)
    @pytest.mark.parametrize(
        "stored",
        [
            {"timezone": "Mars/Olympus"},
            {"timezone": "Europe"},
            {"timezone": "../../etc/passwd"},
            {"timezone": ""},
            {"timezone": "Asia/Kolkata", "scheduled_at": datetime.max.replace(tzinfo=UTC)},
            {"timezone": "America/Lima", "scheduled_at": datetime.min.replace(tzinfo=UTC)},
            {"from_email": "nobody", "reply_to": "a\nb@example.com"},
            {"from_name": "a\r\nBcc: b@example.com"},
        ],
    )
    def test_is_shown(self, boss: Client, campaign: Campaign, status: str, stored: dict[str, object]) -> None:
        put(campaign, status)
        Campaign.objects.update(**stored)
        page_of(boss, campaign)
        assert boss.get(reverse("admin:campaigns_campaign_changelist")).status_code == 200
        assert boss.get(address(campaign, "live"), {"status": status}).status_code == 200
        assert boss.get("/admin/").status_code == 200
