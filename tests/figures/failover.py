"""Prints what happens when SendGrid dies during a campaign and comes back: a timeline and the accounts.

    python -m tests.figures.failover [RECIPIENTS]

EMAIL_PROVIDERS=sendgrid,smtp; two servers that write each acceptance to the disk before they answer stand
for them (tests.chaos.accounting). The first is killed with -9 when a quarter has been accepted, and started
again AWAY seconds later.
"""

import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from django.conf import settings

from campaigns import progress, throttle
from campaigns.breaker import Breaker
from campaigns.models import Campaign, DeliveryLog
from campaigns.tasks import check_scheduled_campaigns
from tests.chaos.accounting import Accounts, serve
from tests.figures.system import (
    accepted_in,
    beside,
    campaign_to,
    say,
    start,
    workers,
)
from tests.sinks import free_port, wait_for_port
from tests.workers import environment

AWAY = 15.0  # seconds
TICK = 10.0  # seconds; Beat's minute, shortened
LONGEST = 300.0  # seconds


def run_server(log: Path, smtp: int, http: int, control: int) -> None:
    """Speak SMTP and SendGrid's API and keep the accounts in `log`."""
    asyncio.run(serve(Accounts(log), smtp=smtp, http=http, control=control))


@dataclass
class Stand:
    """One accounting server that can be killed and started again on the same ports."""

    log: Path
    ports: tuple[int, int, int] = field(default_factory=lambda: (free_port(), free_port(), free_port()))
    process: BaseProcess | None = None

    def start(self) -> None:
        self.process = beside(run_server, self.log, *self.ports)
        for port in self.ports:
            wait_for_port(port)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()

    @property
    def count(self) -> int:
        return accepted_in(self.log).total()


class Story:
    """Watches the campaign, does what is to be done to SendGrid, and prints each change."""

    def __init__(self, campaign: Campaign, sendgrid: Stand, smtp: Stand, size: int) -> None:
        self.campaign, self.sendgrid, self.smtp, self.size = campaign, sendgrid, smtp, size
        self.breaker = Breaker("sendgrid", throttle.connect(settings.REDIS_URL))
        self.began = self.ticked = self.told = time.monotonic()
        self.killed = self.back = 0.0
        self.at_sendgrid = self.at_smtp = 0  # what each had accepted at the kill
        self.when: dict[str, float] = {}
        self.position = ""

    def watch(self) -> None:
        """Follow the campaign to its end."""
        while progress.of(self.campaign.pk).status == "in_progress":
            now = time.monotonic()
            if now - self.began > LONGEST:
                say("it did not end in time")
                break
            self._act(now)
            self._tell_changes(now)
            if now - self.ticked > TICK:
                check_scheduled_campaigns()
                self.ticked = now
            time.sleep(0.1)  # the workers are at it
        self._line("the campaign is " + progress.of(self.campaign.pk).status)

    def _act(self, now: float) -> None:
        if not self.killed and self.sendgrid.count >= self.size // 4:
            self.sendgrid.kill()
            self.killed = now
            self.at_sendgrid, self.at_smtp = self.sendgrid.count, self.smtp.count
            self._line("SendGrid is killed (-9)")
        elif self.killed and not self.back and now - self.killed > AWAY:
            self.sendgrid.start()
            self.back = now
            self._line("SendGrid is back")
        if self.killed and "over" not in self.when and self.smtp.count > self.at_smtp:
            self.when["over"] = now - self.killed
            self._line("SMTP takes over")
        if self.back and "again" not in self.when and self.sendgrid.count > self.at_sendgrid:
            self.when["again"] = now - self.back
            self._line("SendGrid is used again")

    def _tell_changes(self, now: float) -> None:
        state = self.breaker.look()
        if state.position.value != self.position:
            self.position = state.position.value
            self._line(f"breaker {self.position}" + (f": {state.why[:60]}" if state.why else ""))
        elif now - self.told > 5:
            self._line("")

    def _line(self, what: str) -> None:
        self.told = time.monotonic()
        found = progress.of(self.campaign.pk)
        say(
            f"{self.told - self.began:7.1f} s   SendGrid {self.sendgrid.count:6,}   "
            f"SMTP {self.smtp.count:6,}   open {found.open:6,}   unconfirmed {found.unconfirmed:4}   {what}"
        )


def tell_accounts(campaign: Campaign, sendgrid: Stand, smtp: Stand, size: int) -> None:
    """Print who was lost, who was written to twice, and who is in doubt."""
    accepted = accepted_in(sendgrid.log) + accepted_in(smtp.log)
    rows = dict(DeliveryLog.objects.filter(campaign=campaign).values_list("email", "status"))
    unconfirmed = {email for email, status in rows.items() if status == "unconfirmed"}
    lost = [email for email in rows if email not in accepted and email not in unconfirmed]
    twice = [email for email, count in accepted.items() if count > 1]
    say(
        f"{size:,} recipients: {len(accepted):,} accepted, {len(lost)} lost, {len(twice)} written to twice, "
        f"{len(unconfirmed)} unconfirmed (of them {sum(email in accepted for email in unconfirmed)} accepted)"
    )


def main() -> None:
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory() as directory:
        sendgrid, smtp = (Stand(Path(directory) / name) for name in ("sendgrid", "smtp"))
        for stand in (sendgrid, smtp):
            stand.start()
        env = environment(
            EMAIL_PROVIDERS="sendgrid,smtp",
            SENDGRID_API_KEY="SG.test",
            SENDGRID_API_HOST=f"http://127.0.0.1:{sendgrid.ports[1]}",
            SENDGRID_RATE_LIMIT_PER_SEC="400",
            EMAIL_PORT=str(smtp.ports[0]),
            SMTP_RATE_LIMIT_PER_SEC="200",
            LOG_LEVEL="ERROR",
        )
        campaign = campaign_to(size, "failing")
        with workers(nodes=2, processes=2, env=env):
            start(campaign)
            story = Story(campaign, sendgrid, smtp, size)
            story.watch()
        say(
            f"SMTP took over {story.when.get('over', float('nan')):.1f} s after the kill; "
            f"SendGrid was used again {story.when.get('again', float('nan')):.1f} s after it was back"
        )
        tell_accounts(campaign, sendgrid, smtp, size)


if __name__ == "__main__":
    main()
