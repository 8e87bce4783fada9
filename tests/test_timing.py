"""Campaigns whose mails leave at a moment of each recipient's own."""

from datetime import UTC, datetime, time, timedelta

import pytest
from django.db.models import F
from pytest_django import Settings
from rest_framework.test import APIClient

from campaigns import dispatch, lifecycle, preflight
from campaigns.models import Audience, Batch, Campaign, DeliveryLog, EmailTemplate, Recipient, Timing
from campaigns.providers import Line
from tests.api_helpers import faults, path_of
from tests.campaign_helpers import clock, counts, send
from tests.mail_servers import SmtpServer
from users.models import User

pytestmark = pytest.mark.django_db(transaction=True)

START = datetime(2026, 5, 4, 6, 0, tzinfo=UTC)


@pytest.fixture
def by_zone(audience: Audience, template: EmailTemplate) -> Campaign:
    """09:00 in two zones, and in the campaign's own for those without one."""
    for email, zone in [
        ("p0@example.com", "Europe/Paris"),
        ("p1@example.com", "Europe/Paris"),
        ("p2@example.com", "Asia/Kolkata"),
        ("p3@example.com", "America/New_York"),
    ]:
        Recipient.objects.filter(email=email).update(timezone=zone)
    return Campaign.objects.create(
        name="Morning",
        audience=audience,
        template=template,
        timezone="Asia/Kolkata",
        timing=Timing.RECIPIENT_LOCAL,
        local_time=time(9),
    )


class TestRecipientLocal:
    def test_holds_each_mail_until_that_time_of_day_in_its_zone(self, by_zone: Campaign) -> None:
        lifecycle.start(by_zone.pk, now=START)
        dispatch.build_ledger(by_zone.pk, now=START)
        nine_in = {
            "p0@example.com": datetime(2026, 5, 4, 7, 0, tzinfo=UTC),
            "p1@example.com": datetime(2026, 5, 4, 7, 0, tzinfo=UTC),
            "p2@example.com": datetime(2026, 5, 5, 3, 30, tzinfo=UTC),
            "p3@example.com": datetime(2026, 5, 4, 13, 0, tzinfo=UTC),
            "p4@example.com": datetime(2026, 5, 5, 3, 30, tzinfo=UTC),
        }
        assert dict(DeliveryLog.objects.values_list("email", "not_before")) == nine_in
        batches = Batch.objects.order_by("number").values_list("number", "size", "not_before")
        assert list(batches) == [
            (1, 2, nine_in["p0@example.com"]),
            (2, 1, nine_in["p3@example.com"]),
            (3, 2, nine_in["p2@example.com"]),
        ]
        assert counts(by_zone) == {"pending": 5}

    def test_shows_what_is_pending_and_sent_in_each_zone(
        self, by_zone: Campaign, smtp: SmtpServer, smtp_line: Line, api: APIClient
    ) -> None:
        lifecycle.start(by_zone.pk, now=START)
        dispatch.build_ledger(by_zone.pk, now=START)
        first = Batch.objects.get(number=1)
        DeliveryLog.objects.filter(batch=first).update(not_before=None)
        Batch.objects.filter(id=first.pk).update(not_before=None)
        send(first.pk, smtp_line)
        assert smtp.recipients == ["p0@example.com", "p1@example.com"]
        answer = api.get(path_of("campaigns", by_zone.pk, "zones/"))
        assert answer.json() == [
            {"timezone": "Europe/Paris", "starts_at": "2026-05-04T07:00:00Z",
             "total": 2, "pending": 0, "sent": 2, "other": 0},
            {"timezone": "America/New_York", "starts_at": "2026-05-04T13:00:00Z",
             "total": 1, "pending": 1, "sent": 0, "other": 0},
            {"timezone": "Asia/Kolkata", "starts_at": "2026-05-05T03:30:00Z",
             "total": 2, "pending": 2, "sent": 0, "other": 0},
        ]  # fmt: skip

    def test_follows_the_clocks_when_they_change(self, by_zone: Campaign) -> None:
        Campaign.objects.update(local_time=time(2, 30))
        lifecycle.start(by_zone.pk, now=datetime(2026, 3, 28, 12, 0, tzinfo=UTC))
        by_zone.refresh_from_db()
        dispatch.build_ledger(by_zone.pk, now=START)
        moments = dict(DeliveryLog.objects.values_list("email", "not_before"))
        assert moments["p0@example.com"] == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)  # 03:30 in Paris

    def test_takes_no_mail_before_its_moment(self, by_zone: Campaign, smtp_line: Line) -> None:
        now = clock()
        lifecycle.start(by_zone.pk, now=now)
        Campaign.objects.update(local_time=(now + timedelta(hours=2)).time().replace(microsecond=0))
        Recipient.objects.update(timezone="UTC")
        dispatch.build_ledger(by_zone.pk, now=now)
        (batch,) = Batch.objects.all()
        assert send(batch.pk, smtp_line) is None
        assert dispatch.next_batches(by_zone.pk) == []
        assert dispatch.soon_batches(by_zone.pk) == {}

    def test_needs_a_time_of_day(self, by_zone: Campaign) -> None:
        by_zone.local_time = None
        with pytest.raises(preflight.CampaignNotReady) as refusal:
            preflight.check(by_zone)
        assert list(refusal.value.problems) == ["local_time"]


class TestApi:
    def test_sets_the_timing_and_takes_the_time_away_with_it(
        self, api: APIClient, campaign: Campaign
    ) -> None:
        path = path_of("campaigns", campaign.pk)
        answer = api.patch(path, {"timing": "recipient_local", "local_time": "09:00"})
        assert (answer.json()["timing"], answer.json()["local_time"]) == ("recipient_local", "09:00:00")
        answer = api.patch(path, {"timing": "at_once"})
        assert (answer.json()["timing"], answer.json()["local_time"]) == ("at_once", None)

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"timing": "recipient_local"}, "local_time"),
            ({"local_time": "09:00"}, "local_time"),
            ({"timing": "at_once", "local_time": "09:00"}, "local_time"),
            ({"timing": "given"}, "timing"),
            ({"timing": "sometime"}, "timing"),
        ],
    )
    def test_refuses_what_does_not_go_together(
        self, api: APIClient, campaign: Campaign, body: dict[str, str], field: str
    ) -> None:
        assert list(faults(api.patch(path_of("campaigns", campaign.pk), body))) == [field]

    def test_has_no_zones_of_a_campaign_that_goes_at_once(self, api: APIClient, campaign: Campaign) -> None:
        assert api.get(path_of("campaigns", campaign.pk, "zones/")).json() == []


class TestGivenMoments:
    def test_are_kept_by_batches_of_one_moment_each(
        self, audience: Audience, template: EmailTemplate, settings: Settings
    ) -> None:
        settings.CAMPAIGN_BATCH_SIZE = 2
        now = clock()
        campaign = Campaign.objects.create(
            name="Given", audience=audience, template=template, timing=Timing.GIVEN
        )
        ids = list(Recipient.objects.order_by("id").values_list("id", flat=True))
        soon, later = now + timedelta(seconds=20), now + timedelta(hours=1)
        moments = [(ids[0], later), (ids[1], soon), (ids[2], soon), (ids[3], None), (ids[4], soon)]
        dispatch.start_with_moments(campaign, moments, now=now)
        batches = Batch.objects.order_by("number").values_list("size", "not_before")
        assert list(batches) == [(1, None), (2, soon), (1, soon), (1, later)]
        assert counts(campaign) == {"pending": 5}
        assert len(dispatch.next_batches(campaign.pk)) == 1
        published = dispatch.soon_batches(campaign.pk)
        assert len(published) == 2
        assert all(18 <= seconds <= 20 for seconds in published.values())
        assert dispatch.soon_batches(campaign.pk) == {}

        dispatch.start_with_moments(campaign, moments, now=now)
        assert counts(campaign) == {"pending": 5}

    def test_leave_out_recipients_that_are_gone(self, audience: Audience, template: EmailTemplate) -> None:
        campaign = Campaign.objects.create(
            name="Given", audience=audience, template=template, timing=Timing.GIVEN
        )
        first = Recipient.objects.order_by("id")[0]
        dispatch.start_with_moments(campaign, [(first.pk, None), (10**9, None)], now=clock())
        assert counts(campaign) == {"pending": 1}

    def test_are_not_made_up_for_a_campaign_that_waits_for_them(
        self, audience: Audience, template: EmailTemplate
    ) -> None:
        campaign = Campaign.objects.create(
            name="Given", audience=audience, template=template, timing=Timing.GIVEN
        )
        lifecycle.start(campaign.pk, now=clock())
        dispatch.build_ledger(campaign.pk, now=clock())
        assert not DeliveryLog.objects.exists()


class TestUsersRecipient:
    def test_goes_with_the_user_and_what_is_open_is_cancelled(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        user = User.objects.create_user("p0@example.com")
        Recipient.objects.filter(email=user.email).update(user=user)
        lifecycle.start(campaign.pk, now=clock())
        dispatch.build_ledger(campaign.pk, now=clock())
        user.delete()
        assert Recipient.objects.count() == 4
        send(Batch.objects.get().pk, smtp_line)
        assert counts(campaign) == {"sent": 4, "cancelled": 1}


class TestSoon:
    def test_batches_are_counted_in_the_campaign_s_window(
        self, campaign: Campaign, many: list[str], settings: Settings
    ) -> None:
        settings.CAMPAIGN_WINDOW = 2
        lifecycle.start(campaign.pk, now=clock())
        dispatch.build_ledger(campaign.pk, now=clock())
        Batch.objects.update(not_before=clock() + timedelta(seconds=30))
        assert len(dispatch.soon_batches(campaign.pk)) == 2

    def test_a_batch_counts_as_published_when_its_message_arrives(self, campaign: Campaign) -> None:
        lifecycle.start(campaign.pk, now=clock())
        dispatch.build_ledger(campaign.pk, now=clock())
        Batch.objects.update(not_before=clock() + timedelta(seconds=30))
        dispatch.soon_batches(campaign.pk)
        assert Batch.objects.filter(published_at=F("not_before")).count() == 1
