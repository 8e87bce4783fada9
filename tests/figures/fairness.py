"""Prints how long a campaign of 1,000 takes that is started while one of 200,000 is being sent.

    python -m tests.figures.fairness [LARGE]

Once with the default CAMPAIGN_WINDOW, once with one so wide that all of the large campaign is queued at once.
Two sender nodes of two processes each, through SMTP to Postfix's smtp-sink, which must be installed.
"""

import sys
import time
from collections.abc import Callable

from campaigns import actions, progress
from campaigns.models import Campaign
from tests.campaign_helpers import clock
from tests.figures.system import campaign_to, say, start, workers
from tests.sinks import smtp_sink
from tests.workers import environment

SMALL = 1_000
PATIENCE = 90.0  # seconds


def measure(port: int, large: int, label: str, **window: str) -> None:
    """Print one run."""
    env = environment(EMAIL_PORT=str(port), LOG_LEVEL="ERROR", **window)
    big, small = campaign_to(large, f"Large{label}"), campaign_to(SMALL, f"Small{label}")
    with workers(nodes=2, processes=2, env=env):
        start(big)
        _wait(lambda: progress.of(big.pk).sent >= 4_000)
        before, since = progress.of(big.pk).sent, time.monotonic()
        start(small)
        finished = _wait(lambda: progress.of(small.pk).status == "completed")
        seconds, after = time.monotonic() - since, progress.of(big.pk).sent
        answer = f"completed after {seconds:.1f} s" if finished else f"not completed after {seconds:.0f} s"
        say(
            f"CAMPAIGN_WINDOW {label}: {SMALL:,} started after {before:,} of {large:,} were sent: {answer}; "
            f"the large one went on at {(after - before) / seconds:,.0f}/s"
        )
        _stop(big, small)


def _wait(condition: Callable[[], bool]) -> bool:
    """Wait until it is so, at most PATIENCE; say whether it is."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)  # the workers are at it
    return True


def _stop(*campaigns: Campaign) -> None:
    for campaign in campaigns:
        if progress.of(campaign.pk).status == "in_progress":
            actions.cancel(campaign.pk, now=clock())


def main() -> None:
    large = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    with smtp_sink() as sink:
        measure(sink.port, large, "32, the default")
        measure(sink.port, large, "100000", CAMPAIGN_WINDOW="100000")


if __name__ == "__main__":
    main()
