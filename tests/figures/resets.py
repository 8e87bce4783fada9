"""Prints how soon a password reset leaves while a campaign is being sent.

    python -m tests.figures.resets [RECIPIENTS]

Two sender nodes of two processes each send a campaign of 200,000 through SMTP to Postfix's smtp-sink, which
must be installed; once as fast as they can, once with the default rate limit booked out. The transactional
worker has one process. A reset has left when the provider's answer is recorded.
"""

import sys
import time

from campaigns import actions
from campaigns.models import Campaign, DeliveryStatus, OutboundEmail
from tests.bench.arithmetic import quantile
from tests.campaign_helpers import clock
from tests.figures.system import campaign_to, say, start, workers
from tests.sinks import smtp_sink
from tests.workers import celery, environment
from users import accounts
from users.models import User

RESETS = 30
PATIENCE = 60.0  # seconds
POST = (
    "worker",
    *["-Q", "transactional", "-c", "1", "-n", "post@%h", "--without-gossip", "--without-mingle"],
)


def measure(port: int, recipients: int, label: str, **rate: str) -> None:
    """Print one run."""
    env = environment(EMAIL_PORT=str(port), LOG_LEVEL="ERROR", **rate)
    campaign = campaign_to(recipients, label)
    with workers(nodes=2, processes=2, env=env), celery(*POST, "--loglevel", "error", env=env):
        start(campaign)
        _wait_until_sending(campaign)
        first = _sent(campaign)
        since = time.monotonic()
        took = [_reset(f"{label}{number}@example.com".replace(" ", "-")) for number in range(RESETS)]
        seconds, last = time.monotonic() - since, _sent(campaign)
        actions.cancel(campaign.pk, now=clock())
    say(
        f"{label}: {RESETS} resets left after {quantile(took, 0.5):.2f} s at the median, {max(took):.2f} s "
        f"at most; meanwhile the campaign of {recipients:,} went on at {(last - first) / seconds:,.0f}/s"
    )


def _reset(address: str) -> float:
    """Ask for a reset and return the seconds until it had left."""
    User.objects.create_user(address, "only for this figure")
    since = time.monotonic()
    accounts.send_reset_link(address)
    mail = OutboundEmail.objects.get(recipients__email=address)
    while OutboundEmail.objects.values_list("status", flat=True).get(pk=mail.pk) != DeliveryStatus.SENT:
        if time.monotonic() - since > PATIENCE:
            raise TimeoutError(f"the reset for {address} has not left")
        time.sleep(0.01)  # the worker is at it
    return time.monotonic() - since


def _sent(campaign: Campaign) -> int:
    return sum(campaign.batches.values_list("sent", flat=True))


def _wait_until_sending(campaign: Campaign) -> None:
    end = time.monotonic() + PATIENCE
    while _sent(campaign) < 100:
        if time.monotonic() > end:
            raise TimeoutError("the campaign is not being sent")
        time.sleep(0.1)  # the workers are at it


def main() -> None:
    recipients = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    with smtp_sink() as sink:
        measure(sink.port, recipients, "without a rate limit", SMTP_RATE_LIMIT_PER_SEC="0")
        measure(sink.port, recipients, "at 20 a second", SMTP_RATE_LIMIT_PER_SEC="20")


if __name__ == "__main__":
    main()
