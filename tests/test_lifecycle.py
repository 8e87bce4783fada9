"""Which change of state is allowed from where, and what must be right before a start."""

from datetime import UTC, datetime, timedelta

import pytest
from pytest_django import Settings

from campaigns import lifecycle
from campaigns.lifecycle import TRANSITIONS, TransitionRefused
from campaigns.models import Audience, Campaign, CampaignStatus, EmailTemplate
from campaigns.preflight import CampaignNotReady
from campaigns.providers import configured_line

pytestmark = pytest.mark.django_db

_S = CampaignStatus

ALLOWED = {
    (_S.DRAFT, "schedule"): _S.SCHEDULED,
    (_S.DRAFT, "start"): _S.IN_PROGRESS,
    (_S.DRAFT, "cancel"): _S.CANCELLED,
    (_S.DRAFT, "fail"): _S.FAILED,
    (_S.SCHEDULED, "schedule"): _S.SCHEDULED,
    (_S.SCHEDULED, "unschedule"): _S.DRAFT,
    (_S.SCHEDULED, "start"): _S.IN_PROGRESS,
    (_S.SCHEDULED, "cancel"): _S.CANCELLED,
    (_S.SCHEDULED, "fail"): _S.FAILED,
    (_S.IN_PROGRESS, "pause"): _S.PAUSED,
    (_S.IN_PROGRESS, "cancel"): _S.CANCELLED,
    (_S.IN_PROGRESS, "complete"): _S.COMPLETED,
    (_S.IN_PROGRESS, "fail"): _S.FAILED,
    (_S.COMPLETED, "reopen"): _S.IN_PROGRESS,
    (_S.FAILED, "reopen"): _S.IN_PROGRESS,
    (_S.PAUSED, "resume"): _S.IN_PROGRESS,
    (_S.PAUSED, "cancel"): _S.CANCELLED,
}


def _ask(action: str, campaign: Campaign, now: datetime) -> None:
    later = now + timedelta(hours=1)
    match action:
        case "schedule":
            lifecycle.schedule(campaign.pk, scheduled_at=later, timezone=None, now=now)
        case "fail":
            lifecycle.fail(campaign.pk, reason="no", now=now)
        case "start" | "cancel" | "complete":
            getattr(lifecycle, action)(campaign.pk, now=now)
        case _:
            getattr(lifecycle, action)(campaign.pk)


def _put(campaign: Campaign, status: CampaignStatus, now: datetime) -> None:
    Campaign.objects.filter(id=campaign.pk).update(status=status, scheduled_at=now, started_at=now)


class TestTransitions:
    @pytest.mark.parametrize("action", TRANSITIONS)
    @pytest.mark.parametrize("status", CampaignStatus)
    def test_each_is_made_or_refused_as_drawn(
        self, campaign: Campaign, status: CampaignStatus, action: str, now: datetime
    ) -> None:
        _put(campaign, status, now)
        target = ALLOWED.get((status, action))
        assert lifecycle.allows(action, status) == (target is not None)
        if target:
            _ask(action, campaign, now)
        else:
            with pytest.raises(TransitionRefused) as refusal:
                _ask(action, campaign, now)
            assert (refusal.value.from_status, refusal.value.to_status) == (status, TRANSITIONS[action][1])
        campaign.refresh_from_db()
        assert campaign.status == (target or status)

    def test_a_refusal_names_both_states(self, campaign: Campaign) -> None:
        with pytest.raises(TransitionRefused, match=r"^A campaign that is draft cannot become paused\.$"):
            lifecycle.pause(campaign.pk)


class TestSchedule:
    def test_keeps_the_moment_and_the_zone(self, campaign: Campaign, now: datetime) -> None:
        start_at = datetime(2026, 5, 5, 3, 30, tzinfo=UTC)
        lifecycle.schedule(campaign.pk, scheduled_at=start_at, timezone="Europe/Paris", now=now)
        campaign.refresh_from_db()
        assert (campaign.scheduled_at, campaign.timezone) == (start_at, "Europe/Paris")

    @pytest.mark.parametrize(
        ("start_at", "zone", "problems"),
        [
            (
                datetime(2026, 5, 4, 9, 0, tzinfo=UTC),
                None,
                {"scheduled_at": ["2026-05-04T09:00:00+00:00 is in the past."]},
            ),
            (None, None, {"scheduled_at": ["Say when the campaign shall start."]}),
            (
                datetime(2026, 6, 1, tzinfo=UTC),
                "Mars/Olympus",
                {
                    "timezone": [
                        "'Mars/Olympus' is not a time zone of the IANA database; "
                        "write it like Asia/Kolkata or Europe/Paris."
                    ]
                },
            ),
        ],
    )
    def test_refuses_a_bad_time_and_stays_a_draft(
        self,
        campaign: Campaign,
        now: datetime,
        start_at: datetime | None,
        zone: str | None,
        problems: dict[str, list[str]],
    ) -> None:
        with pytest.raises(CampaignNotReady) as refusal:
            lifecycle.schedule(campaign.pk, scheduled_at=start_at, timezone=zone, now=now)
        assert refusal.value.problems == problems
        campaign.refresh_from_db()
        assert (campaign.status, campaign.scheduled_at, campaign.timezone) == ("draft", None, "Asia/Kolkata")


class TestPreflight:
    def _problems(self, campaign: Campaign, now: datetime) -> dict[str, list[str]]:
        campaign.save()
        with pytest.raises(CampaignNotReady) as refusal:
            lifecycle.start(campaign.pk, now=now)
        campaign.refresh_from_db()
        assert (campaign.status, campaign.started_at) == ("draft", None)
        return refusal.value.problems

    def test_names_an_audience_without_recipients(self, campaign: Campaign, now: datetime) -> None:
        campaign.audience = Audience.objects.create(name="Nobody")
        campaign.template = EmailTemplate.objects.create(name="Plain", subject="Hi", text="Hi {{ name }}")
        assert self._problems(campaign, now) == {"audience": ["The audience 'Nobody' has no recipients."]}

    def test_names_the_line_of_a_template_that_does_not_parse(
        self, campaign: Campaign, now: datetime
    ) -> None:
        campaign.template = EmailTemplate.objects.create(
            name="Broken", subject="Hi", text="Hi\n{% if name %}"
        )
        (problem,) = self._problems(campaign, now)["template"]
        assert problem.startswith("'Broken': text, line 2: ")

    def test_names_a_field_that_nobody_has(self, campaign: Campaign, now: datetime) -> None:
        campaign.template = EmailTemplate.objects.create(name="Odd", subject="Hi", text="{{ shoe_size }}")
        assert self._problems(campaign, now) == {
            "template": [
                "'Odd' names 'shoe_size', which no recipient of 'Friends' has, nor the campaign's variables."
            ]
        }

    def test_takes_a_field_from_the_campaigns_variables(self, campaign: Campaign, now: datetime) -> None:
        campaign.template = EmailTemplate.objects.create(name="Odd", subject="Hi", text="{{ shoe_size }}")
        campaign.variables = {"shoe_size": 42}
        campaign.save()
        lifecycle.start(campaign.pk, now=now)
        campaign.refresh_from_db()
        assert campaign.status == "in_progress"

    def test_names_a_missing_sender(self, campaign: Campaign, now: datetime, settings: Settings) -> None:
        settings.DEFAULT_FROM_EMAIL = ""
        assert list(self._problems(campaign, now)) == ["from_email"]

    @pytest.mark.parametrize(
        ("providers", "problem"),
        [
            (["sendgrid"], "SENDGRID_API_KEY: the API key is empty or has characters"),
            (["pigeon"], "EMAIL_PROVIDERS names 'pigeon'; there are: sendgrid, smtp."),
        ],
    )
    def test_names_what_is_wrong_with_the_providers_settings(
        self, campaign: Campaign, now: datetime, settings: Settings, providers: list[str], problem: str
    ) -> None:
        settings.EMAIL_PROVIDERS = providers
        configured_line.cache_clear()
        try:
            (text,) = self._problems(campaign, now)["providers"]
        finally:
            configured_line.cache_clear()
        assert problem in text
