"""`manage.py run_demo`: one campaign into the local mailbox, and the proof that it is all there."""

import io
import json
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from campaigns import actions, progress
from campaigns.models import Audience, Campaign, DeliveryLog, DeliveryStatus, EmailTemplate
from campaigns.progress import Progress
from mailer_project.local import mailbox

SAMPLE = settings.BASE_DIR / "campaigns" / "samples" / "sample_recipients.csv"
TEMPLATE = "newsletter"
WIDTH = 30  # characters of the progress bar


class Command(BaseCommand):
    """Exits 0 only if every recipient is accounted for and every accepted mail is in the mailbox once."""

    help = "Import the sample recipients, send them a campaign, and check the mailbox; part of `up --demo`."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--mailbox", type=Path, required=True, help="the local mailbox's Maildir")
        parser.add_argument("--timeout", type=float, default=300.0, help="seconds until it gives up")

    def handle(self, *args: Any, **options: Any) -> None:
        deadline = time.monotonic() + options["timeout"]
        name = f"Demo {timezone.localtime():%Y-%m-%d %H:%M:%S}"
        recipients = self._import(name)
        campaign = Campaign.objects.create(
            name=name,
            audience=Audience.objects.get(name=name),
            template=EmailTemplate.objects.get(name=TEMPLATE),
        )
        actions.start(campaign.pk, now=timezone.now())
        final = self._follow(campaign, deadline)
        problems = self._check(campaign, final, recipients, options["mailbox"])
        if problems:
            raise CommandError("The counts do not add up:\n  " + "\n  ".join(problems))
        self.stdout.write(self.style.SUCCESS("Everything adds up."))

    def _import(self, audience: str) -> int:
        """Import the sample; returns how many recipients the new audience has."""
        output = io.StringIO()
        call_command("import_recipients", str(SAMPLE), audience=audience, json=True, stdout=output)
        report = json.loads(output.getvalue().splitlines()[-1])
        created = int(report["created"])
        self.stdout.write(
            f"Imported {created:,} recipients in {report['seconds']:.1f} s into the audience {audience!r}"
        )
        return created

    def _follow(self, campaign: Campaign, deadline: float) -> Progress:
        while True:
            now = progress.of(campaign.pk)
            self.stdout.write(_line(now))
            self.stdout.flush()
            if now.finished_at is not None or not now.adds_up:
                return now
            if time.monotonic() > deadline:
                raise CommandError(f"The campaign has not ended in time. {now.trouble}".rstrip())
            time.sleep(1)

    def _check(self, campaign: Campaign, final: Progress, recipients: int, directory: Path) -> list[str]:
        accepted = DeliveryLog.objects.filter(campaign=campaign, status=DeliveryStatus.SENT)
        expected = {(row.email.lower(), row.message_id) for row in accepted.only("email", "message_id")}
        found = mailbox.count(directory, expected)
        self._show(final, found)
        wanted = [
            (final.status == "completed", f"the campaign is {final.status}, not completed"),
            (final.adds_up, f"the seven statuses do not sum up to {final.total}"),
            (final.total == recipients, f"{recipients} recipients, but {final.total} rows in the ledger"),
            (final.sent + final.suppressed == final.total, "some mails were neither sent nor suppressed"),
            (len(expected) == final.sent, f"{final.sent} counted as sent, {len(expected)} such rows"),
            (found.missing == 0, f"{found.missing} accepted mails are not in the mailbox"),
            (found.copies == 0, f"{found.copies} mails are in the mailbox more than once"),
        ]
        return [problem for holds, problem in wanted if not holds]

    def _show(self, final: Progress, found: mailbox.Count) -> None:
        parts = ("pending", "deferred", "sent", "failed", "suppressed", "unconfirmed", "cancelled")
        numbers = " + ".join(f"{getattr(final, part):,} {part}" for part in parts)
        self.stdout.write(f"total      {final.total:,} = {numbers}")
        self.stdout.write(f"mailbox    {found.distinct:,} distinct messages")
        self.stdout.write(f"           {found.missing:,} missing, {found.copies:,} second copies")
        if final.started_at and final.finished_at:
            seconds = (final.finished_at - final.started_at).total_seconds()
            self.stdout.write(f"time       {seconds:.1f} s from start to finish")


def _line(now: Progress) -> str:
    done = now.total - now.open
    filled = WIDTH * done // now.total if now.total else 0
    bar = "#" * filled + "." * (WIDTH - filled)
    pace = f"{now.rate_per_second:>6,.0f}/s" if now.rate_per_second else " " * 8
    return f"[{bar}] {done:>6,} of {now.total:,} {pace}  {now.status}  {now.trouble}".rstrip()
