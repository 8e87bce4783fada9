"""/u/{token}: a GET changes nothing, a POST unsubscribes at once, nobody else can do it."""

from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from campaigns import tracking
from campaigns.models import (
    Audience,
    Campaign,
    CampaignStatus,
    DeliveryLog,
    Recipient,
    Suppression,
    SuppressionReason,
)
from tests.campaign_helpers import started
from tests.schedule_helpers import user

pytestmark = pytest.mark.django_db


@pytest.fixture
def path(campaign: Campaign) -> str:
    """The unsubscribe address of P2@Example.com."""
    campaign.audience.recipients.filter(email="p2@example.com").update(email="P2@Example.com")
    started(campaign)
    delivery = DeliveryLog.objects.get(email="P2@Example.com")
    return tracking.unsubscribe_url(delivery.pk).removeprefix(settings.PUBLIC_URL)


class TestGet:
    def test_asks_and_changes_nothing(self, path: str) -> None:
        for answer in (Client().get(path), Client().head(path)):
            assert answer.status_code == 200
            assert answer["Referrer-Policy"] == "no-referrer"
            assert "no-store" in answer["Cache-Control"]
        page = Client().get(path).content.decode()
        assert "P2@Example.com" in page
        assert '<form method="post"><button>Unsubscribe</button></form>' in page
        assert not Suppression.objects.exists()

    @pytest.mark.parametrize("reason", SuppressionReason.values)
    def test_says_so_where_it_is_done_already(self, path: str, reason: str) -> None:
        Suppression.objects.create(email="p2@example.com", reason=reason)
        page = Client().get(path).content.decode()
        assert "You are already unsubscribed" in page
        assert "<button" not in page
        assert "P2@Example.com" in page

    def test_asks_whoever_is_not_the_one_that_did(self, path: str) -> None:
        Suppression.objects.create(email="p1@example.com")
        assert "<button" in Client().get(path).content.decode()


class TestPost:
    @pytest.mark.parametrize(
        "body",
        [
            {"data": {"List-Unsubscribe": "One-Click"}},  # multipart, RFC 8058 §3.1
            {"data": "List-Unsubscribe=One-Click", "content_type": "application/x-www-form-urlencoded"},
            {"data": "", "content_type": "application/x-www-form-urlencoded"},
            {"data": b"\xff\0 nothing of the kind", "content_type": "multipart/form-data; boundary=x"},
        ],
    )
    def test_unsubscribes_without_cookie_or_redirect(
        self, path: str, campaign: Campaign, body: dict[str, Any]
    ) -> None:
        answer = Client(enforce_csrf_checks=True).post(path, **body)
        assert answer.status_code == 200
        assert "You are unsubscribed" in answer.content.decode()
        row = Suppression.objects.get()
        assert (row.email, row.reason, row.campaign) == (
            "p2@example.com",
            SuppressionReason.UNSUBSCRIBE,
            campaign,
        )

    def test_twice_is_once(self, path: str) -> None:
        assert [Client().post(path).status_code for _ in range(2)] == [200, 200]
        assert Suppression.objects.count() == 1

    def test_leaves_a_complaint_a_complaint(self, path: str) -> None:
        Suppression.objects.create(email="p2@example.com", reason=SuppressionReason.COMPLAINT)
        assert Client().post(path).status_code == 200
        assert Suppression.objects.get().reason == SuppressionReason.COMPLAINT


class TestDeletedAccount:
    @pytest.fixture
    def gone(self, path: str) -> str:
        """The unsubscribe address of P2@Example.com, whose account was deleted since."""
        asha = user("p2@example.com")
        Recipient.objects.filter(email="P2@Example.com").update(user=asha)
        asha.delete()
        return path

    @pytest.mark.parametrize("method", ["get", "post"])
    def test_is_410_says_what_to_do_and_stops_nobody(self, gone: str, method: str) -> None:
        answer = getattr(Client(), method)(gone)
        page = answer.content.decode()
        assert answer.status_code == 410
        assert "We no longer know this address" in page
        assert "please unsubscribe with the" in page
        assert "<button" not in page
        assert "deleted.invalid" not in page
        assert not Suppression.objects.exists()

    def test_that_is_in_an_imported_list_too_unsubscribes_by_the_link_in_its_mails(
        self, gone: str, campaign: Campaign
    ) -> None:
        imported = Audience.objects.create(name="Imported")
        Recipient.objects.create(audience=imported, email="p2@example.com", attributes={"city": "Delft"})
        campaign.pk, campaign.audience, campaign.status = None, imported, CampaignStatus.DRAFT
        campaign.save()
        started(campaign)
        delivery = DeliveryLog.objects.get(campaign=campaign)
        path = tracking.unsubscribe_url(delivery.pk).removeprefix(settings.PUBLIC_URL)
        assert [Client().post(each).status_code for each in (gone, path)] == [410, 200]
        assert Suppression.objects.get().email == "p2@example.com"


class TestUnknown:
    def test_token_is_404_and_changes_nothing(self, path: str) -> None:
        number, _, signature = path.removeprefix("/u/").partition(".")
        other = DeliveryLog.objects.exclude(pk=number)[0].pk
        for token in ("x", number, f"{number}.", f"{other}.{signature}", f"{path[3:]}x", "%00", "9" * 3_000):
            for method in ("get", "post"):
                answer = getattr(Client(), method)(f"/u/{token}")
                assert answer.status_code == 404
                assert "not known here" in answer.content.decode()
        assert not Suppression.objects.exists()

    def test_method_is_405(self, path: str) -> None:
        assert Client().put(path).status_code == 405
        assert not Suppression.objects.exists()
