"""`manage.py campaign_status`: the counts, and what hinders them."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from redis import Redis

from campaigns import lifecycle, vitals
from campaigns.breaker import Breaker
from campaigns.models import Campaign
from tests.campaign_helpers import clock, started

pytestmark = pytest.mark.django_db(transaction=True)


def said(campaign_id: int, **options: bool) -> tuple[str, str]:
    """What the command writes to its two outputs."""
    out, err = StringIO(), StringIO()
    call_command("campaign_status", str(campaign_id), stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


class TestStatus:
    def test_says_why_the_campaign_does_not_move(self, campaign: Campaign, redis: Redis) -> None:
        vitals.note_tick(redis, now=clock())
        started(campaign)
        lifecycle.pause(campaign.pk)
        out, err = said(campaign.pk)
        assert out.startswith("paused: 5 pending of 5 - Paused since ")
        assert err == ""

    def test_names_a_provider_that_is_open_and_a_tick_that_is_late(
        self, campaign: Campaign, redis: Redis
    ) -> None:
        vitals.note_tick(redis, now=clock() - timedelta(minutes=5))
        Breaker("smtp", redis).paused(90, "smtp: 421 closing")
        out, err = said(campaign.pk)
        assert out == "draft: 5 pending of 5\n"
        opened, tick = err.splitlines()
        assert opened.startswith("smtp: open since ")
        assert ", 5 minutes ago: Beat, the scheduler's worker" in tick

    def test_as_json_is_the_document_of_the_api_alone(self, campaign: Campaign, redis: Redis) -> None:
        out, err = said(campaign.pk, json=True)
        document = json.loads(out)
        assert (document["total"], document["trouble"], err) == (5, "", "")
        assert "standing" not in document

    def test_of_none_is_refused(self, redis: Redis, db: None) -> None:
        with pytest.raises(CommandError, match="There is no campaign 0"):
            said(0)
