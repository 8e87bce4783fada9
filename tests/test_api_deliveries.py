"""The delivery log over the API."""

from base64 import b64encode

import pytest
from rest_framework.test import APIClient

from campaigns.models import Campaign, DeliveryLog
from tests.api_helpers import faults, path_of, problem
from tests.campaign_helpers import started

pytestmark = pytest.mark.django_db

LOG = path_of("deliveries")


@pytest.fixture
def running(campaign: Campaign) -> Campaign:
    """A campaign with five pending mails, between two others."""
    for name, target in (("before", None), ("", campaign), ("after", None)):
        started(
            target
            or Campaign.objects.create(name=name, audience=campaign.audience, template=campaign.template)
        )
    return campaign


class TestList:
    def test_shows_one_campaigns_rows_page_by_page(self, api: APIClient, running: Campaign) -> None:
        ids = list(DeliveryLog.objects.filter(campaign=running).order_by("id").values_list("id", flat=True))
        path: str | None = f"{LOG}?campaign={running.pk}&page_size=2"
        seen: list[int] = []
        pages = 0
        while path:
            page = api.get(path).json()
            assert page.keys() == {"next", "previous", "results"}
            seen += [row["id"] for row in page["results"]]
            path, pages = page["next"], pages + 1
        assert (seen, pages) == (ids, 3)

    def test_tells_what_became_of_each(self, api: APIClient, running: Campaign) -> None:
        first = DeliveryLog.objects.filter(campaign=running).order_by("id")[0]
        (row, *_) = api.get(f"{LOG}?campaign={running.pk}").json()["results"]
        assert row == {
            "id": first.pk,
            "campaign": running.pk,
            "batch": first.batch_id,
            "recipient": first.recipient_id,
            "email": "p0@example.com",
            "message_id": first.message_id,
            "status": "pending",
            "attempts": 0,
            "doubts": 0,
            "not_before": None,
            "provider": "",
            "provider_message_id": "",
            "reason": "",
            "attempted_at": None,
            "sent_at": None,
            "settlements": [],
        }
        assert api.get(path_of("deliveries", first.pk)).json() == row

    def test_filters_by_status_and_address(self, api: APIClient, running: Campaign) -> None:
        assert len(api.get(f"{LOG}?campaign={running.pk}&status=pending").json()["results"]) == 5
        assert api.get(f"{LOG}?campaign={running.pk}&status=sent").json()["results"] == []
        assert len(api.get(f"{LOG}?campaign={running.pk}&search=p3@").json()["results"]) == 1

    def test_is_empty_before_the_start(self, api: APIClient, campaign: Campaign) -> None:
        assert api.get(f"{LOG}?campaign={campaign.pk}").json() == {
            "next": None,
            "previous": None,
            "results": [],
        }

    def test_needs_to_know_the_campaign(self, api: APIClient, running: Campaign) -> None:
        for query in ("", "?campaign=", "?campaign=99999", "?campaign=99999999999999999999", "?campaign=%00"):
            assert faults(api.get(f"{LOG}{query}")).keys() == {"campaign"}
        assert faults(api.get(f"{LOG}?campaign={running.pk}&status=lost")).keys() == {"status"}

    @pytest.mark.parametrize("cursor", ["p=abc", "p=99999999999999999999", "p=\0", "o=-1", "r=x"])
    def test_refuses_a_cursor_that_it_did_not_make(
        self, api: APIClient, running: Campaign, cursor: str
    ) -> None:
        made_up = b64encode(cursor.encode()).decode()
        answer = api.get(LOG, {"campaign": str(running.pk), "cursor": made_up})
        problem(answer, 404)

    def test_is_read_only(self, api: APIClient, running: Campaign) -> None:
        first = DeliveryLog.objects.order_by("id")[0]
        problem(api.post(LOG, {"status": "sent"}), 405)
        problem(api.patch(path_of("deliveries", first.pk), {"status": "sent"}), 405)
        problem(api.delete(path_of("deliveries", first.pk)), 405)
        first.refresh_from_db()
        assert first.status == "pending"
