"""`manage.py send_campaign ID`: start or schedule a campaign from the command line."""

from argparse import ArgumentParser
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from campaigns import actions
from campaigns.lifecycle import TransitionRefused
from campaigns.management.following import follow
from campaigns.models import Campaign
from campaigns.preflight import CampaignNotReady


class Command(BaseCommand):
    """Start a campaign now, or at a time."""

    help = "Start a campaign now, or at a time given with --at."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", type=int, help="the campaign's number, as the admin shows it")
        parser.add_argument(
            "--at",
            metavar="ISO",
            help="start then, such as 2026-12-24T09:00 (in the campaign's zone) or ...+05:30",
        )
        parser.add_argument("--wait", action="store_true", help="stay until the campaign has ended")

    def handle(self, *args: Any, id: int, at: str | None, wait: bool, **options: Any) -> None:
        campaign = Campaign.objects.filter(id=id).first()
        if campaign is None:
            raise CommandError(f"There is no campaign {id}.")
        try:
            if at:
                actions.schedule(id, scheduled_at=_moment(at, campaign), now=timezone.now())
            else:
                actions.start(id, now=timezone.now())
        except (TransitionRefused, CampaignNotReady) as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(f"Campaign {id} {'is scheduled' if at else 'has been started'}.")
        if wait:
            follow(id, self.stdout, as_json=False)


def _moment(text: str, campaign: Campaign) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"--at: {text!r} is not a time; write it like 2026-12-24T09:00.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(campaign.timezone))
