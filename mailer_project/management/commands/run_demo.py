"""`manage.py run_demo`: one campaign into the local mailbox, and the proof that it is all there."""

import csv
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

from campaigns import actions, progress, watchdog
from campaigns.models import Audience, Campaign, DeliveryLog, DeliveryStatus, EmailTemplate
from campaigns.progress import Progress
from mailer_project.local import mailbox

SAMPLE = settings.BASE_DIR / "campaigns" / "samples" / "sample_recipients.csv"
TEMPLATE = "newsletter"
WIDTH = 30  # characters of the progress bar


def addresses_in(file: Path) -> list[str]:
    """The e-mail addresses of a CSV file as it stands, one a row, in lower case; no import is asked."""
    with file.open(encoding="utf-8", newline="") as lines:
        return [row["email"].strip().lower() for row in csv.DictReader(lines)]


def problems_of(campaign: Campaign, addresses: list[str], directory: Path) -> list[str]:
    """What keeps a finished campaign from being one mail in the mailbox for each of these addresses.

    `addresses` are in lower case, `directory` is the Maildir. Empty if each has exactly one mail there, with
    the Message-ID of the ledger, and the accounting equation holds.
    """
    final, rows, accepted = progress.of(campaign.pk), len(addresses), _accepted(campaign)
    found = mailbox.count(directory, accepted)
    wanted = [
        (rows > 0, "the file has no rows"),
        (final.status == "completed", f"the campaign is {final.status}, not completed"),
        (final.adds_up, f"the seven statuses do not sum up to {final.total:,}"),
        (final.total == rows, f"the file has {rows:,} rows, the campaign {final.total:,}"),
        (final.sent == rows, f"the file has {rows:,} rows, {final.sent:,} mails were sent"),
        (
            sorted(email for email, _ in accepted) == sorted(addresses),
            "the addresses in the file are not those that were sent to",
        ),
        (
            len({message_id for _, message_id in accepted}) == rows,
            f"the mails sent do not have {rows:,} different Message-IDs",
        ),
        (found.distinct == rows, f"{found.distinct:,} of {rows:,} mails are in the mailbox"),
        (found.copies == 0, f"the mailbox has {found.copies:,} second copies"),
    ]
    return [problem for holds, problem in wanted if not holds]


def _accepted(campaign: Campaign) -> set[tuple[str, str]]:
    """The address in lower case and the Message-ID of each mail that counts as sent."""
    sent = DeliveryLog.objects.filter(campaign=campaign, status=DeliveryStatus.SENT)
    return {(email.lower(), message_id) for email, message_id in sent.values_list("email", "message_id")}


class Command(BaseCommand):
    """Exits 0 only if everybody in the sample file has their mail in the mailbox, once."""

    help = "Import the sample recipients, send them a campaign, and check the mailbox; part of `up --demo`."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--mailbox", type=Path, required=True, help="the local mailbox's Maildir")
        parser.add_argument("--timeout", type=float, default=300.0, help="seconds until it gives up")

    def handle(self, *args: Any, **options: Any) -> None:
        deadline = time.monotonic() + options["timeout"]
        name = f"Demo {timezone.localtime():%Y-%m-%d %H:%M:%S}"
        self._import(name)
        campaign = Campaign.objects.create(
            name=name,
            audience=Audience.objects.get(name=name),
            template=EmailTemplate.objects.get(name=TEMPLATE),
        )
        actions.start(campaign.pk, now=timezone.now())
        final = self._follow(campaign, deadline)
        found = mailbox.count(options["mailbox"], _accepted(campaign))
        self._show(final, found)
        problems = problems_of(campaign, addresses_in(SAMPLE), options["mailbox"])
        if problems:
            raise CommandError("The counts do not add up:\n  " + "\n  ".join(problems))
        self.stdout.write(self.style.SUCCESS("Everything adds up."))

    def _import(self, audience: str) -> None:
        output = io.StringIO()
        call_command("import_recipients", str(SAMPLE), audience=audience, json=True, stdout=output)
        report = json.loads(output.getvalue().splitlines()[-1])
        self.stdout.write(
            f"Imported {report['created']:,} recipients in {report['seconds']:.1f} s "
            f"into the audience {audience!r}"
        )

    def _follow(self, campaign: Campaign, deadline: float) -> Progress:
        while True:
            now = watchdog.of(campaign.pk)
            self.stdout.write(_line(now))
            self.stdout.flush()
            if now.finished_at is not None or not now.adds_up:
                return now
            if time.monotonic() > deadline:
                raise CommandError(f"The campaign has not ended in time. {now.trouble}".rstrip())
            time.sleep(1)  # one line of progress a second

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
