"""This system as a contestant: campaigns straight into its tables, real workers, its own ledger."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from django.conf import settings
from django.db import connection

from campaigns.models import Audience, Campaign, CampaignStatus, EmailTemplate
from tests.bench import newsletter
from tests.bench.sizes import PROCESSES
from tests.bench.timing import Timing, watch
from tests.figures.system import start, workers
from tests.sinks import Sink
from tests.workers import environment

ENDED = (CampaignStatus.COMPLETED, CampaignStatus.FAILED, CampaignStatus.CANCELLED)


class NotAllSent(Exception):
    """A campaign of the bench ended with less than everybody written to: its figure would mean nothing."""


def audience_of(recipients: int, name: str) -> Audience:
    """Write an audience straight into the table with COPY."""
    audience = Audience.objects.create(name=name)
    with connection.cursor() as cursor:
        copying = "COPY campaigns_recipient (audience_id, email, name, timezone, attributes) FROM STDIN"
        with cursor.copy(copying) as copy:
            for number in range(recipients):
                fields = newsletter.fields(number)
                email, person = fields.pop("email"), fields.pop("name")
                copy.write_row((audience.pk, email, person, "", json.dumps(fields)))
        cursor.execute("ANALYZE campaigns_recipient")
    return audience


def campaign_to(audience: Audience) -> Campaign:
    """Return a draft of the newsletter to this audience."""
    number = Campaign.objects.count()
    template = EmailTemplate.objects.create(
        name=f"Newsletter {number}",
        subject=newsletter.SUBJECT,
        html=newsletter.html(),
        text=newsletter.TEXT,
    )
    return Campaign.objects.create(name=f"Campaign {number}", audience=audience, template=template)


def status_of(campaign: Campaign) -> str:
    """Ask for the status alone, which costs the database next to nothing."""
    return Campaign.objects.values_list("status", flat=True).get(pk=campaign.pk)


def forget_ledger() -> None:
    """Empty the ledger, so that one round does not leave its rows to the next."""
    Campaign.objects.exclude(status__in=ENDED).update(status=CampaignStatus.CANCELLED)
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE campaigns_deliverylog, campaigns_batch CASCADE")


@dataclass(slots=True)
class Senders:
    """Running workers and the sink that they send to."""

    sink: Sink
    processes: list[psutil.Process]  # those that send
    mails_each: int  # that one acceptance of the sink stands for

    def send(self, audience: Audience) -> Timing:
        """Send the newsletter to the audience, from the operator's start to `completed`."""
        forget_ledger()
        campaign = campaign_to(audience)
        timing = watch(self.sink, lambda: start(campaign), lambda _: status_of(campaign) in ENDED)
        sent, asked = campaign.deliveries.filter(status="sent").count(), audience.recipients.count()
        if sent != asked or timing.accepted != asked // self.mails_each + bool(asked % self.mails_each):
            raise NotAllSent(f"{sent:,} of {asked:,} were sent, and the sink took {timing.accepted:,}")
        return timing

    def cpu_seconds(self) -> float:
        """Return what the sending processes have used so far."""
        return sum(times.user + times.system for times in (p.cpu_times() for p in self.processes))

    def forget_peak(self) -> None:
        """Let the kernel measure the processes' largest resident set anew (proc(5), clear_refs)."""
        for process in self.processes:
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")

    def peak_mib(self) -> float:
        """Return the largest resident set that any of the processes had since `forget_peak`."""
        return max(peak_mib(process.pid) for process in self.processes)


def peak_mib(pid: int) -> float:
    """Return the largest resident set that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@contextmanager
def senders(sink: Sink, provider: str) -> Iterator[Senders]:
    """Run a scheduler worker and one sender node that have sent something already."""
    with workers(nodes=1, processes=PROCESSES, env=settings_for(sink.port, provider)) as (_, node):
        running = Senders(sink, [], 1 if provider == "smtp" else settings.CAMPAIGN_BATCH_SIZE)
        running.send(audience_of(200 * 2 * PROCESSES, f"Warm-up {time.monotonic_ns()}"))
        running.processes = psutil.Process(node.pid).children()
        yield running


def settings_for(port: int, provider: str) -> dict[str, str]:
    """Return the environment of workers that send through `provider` to this port."""
    return environment(
        EMAIL_PROVIDERS=provider,
        EMAIL_PORT=str(port),
        SMTP_MAILS_PER_CONNECTION="1000000",  # smtp-source keeps its connections, too
        SENDGRID_API_KEY="SG.bench",
        SENDGRID_API_HOST=f"http://127.0.0.1:{port}",
        SENDGRID_RATE_LIMIT_PER_SEC="0",
        LOG_LEVEL="ERROR",
    )
