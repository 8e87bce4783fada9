"""`manage.py campaign_status ID`: the counts of a campaign."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from campaigns import vitals
from campaigns.management.following import follow, write_status


class Command(BaseCommand):
    """Print how far a campaign is."""

    help = "Print how far a campaign is; with --follow, every second until it ends."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", type=int, help="the campaign's number, as the admin shows it")
        parser.add_argument("--follow", action="store_true", help="go on until the campaign has ended")
        parser.add_argument("--json", action="store_true", help="one JSON document per line, as the API's")

    def handle(self, *args: Any, id: int, follow: bool, json: bool, **options: Any) -> None:
        show = _FOLLOW if follow else write_status
        if not json:
            self._warn()
        try:
            show(id, self.stdout, as_json=json)
        except KeyError as error:
            raise CommandError(f"There is no campaign {id}.") from error

    def _warn(self) -> None:
        """Name what hinders every campaign: providers that are not asked now, a tick that does not come."""
        around, now = vitals.look(), timezone.now()
        words = [provider.closed_because(now) for provider in around.providers]
        if around.tick_is_late(now):
            words.append(around.last_tick(now))
        for line in filter(None, words):
            self.stderr.write(self.style.WARNING(line))


_FOLLOW = follow
