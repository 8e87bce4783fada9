"""From an operator's start to the first batches in the queue, whatever the audience's size."""

import time
from functools import partial

from campaigns.models import Audience
from tests.bench import ours
from tests.bench.arithmetic import Figures, interleaved
from tests.bench.report import Table
from tests.bench.sizes import Sizes
from tests.figures.system import start, workers

LOOK = 0.02  # seconds
PATIENCE = 300.0  # seconds


def measure(sizes: Sizes) -> Table:
    """Return the table; a worker of the queue `scheduler` does it, and nobody sends."""
    audiences = {size: ours.audience_of(size, f"Start {size}") for size in sizes.start}
    with workers(nodes=0, processes=0, env=ours.settings_for(1, "smtp")):
        seconds_to_start(next(iter(audiences.values())))  # the worker has now imported everything
        found = interleaved(
            {str(size): partial(seconds_to_start, audience) for size, audience in audiences.items()},
            sizes.rounds,
        )
    table = Table(
        "Start: ledger written and first batches published",
        ("recipients", "seconds", "least to most", "µs each"),
    )
    for size in sizes.start:
        figures = Figures(tuple(found[str(size)]))
        low, high = figures.span
        each = figures.median / size * 1e6
        table.rows.append((f"{size:,}", f"{figures.median:.2f}", f"{low:.2f} to {high:.2f}", f"{each:.1f}"))
    return table


def seconds_to_start(audience: Audience) -> float:
    """Start a campaign, wait for its first published batch, and forget it."""
    ours.forget_ledger()
    campaign = ours.campaign_to(audience)
    since = time.monotonic()
    start(campaign)
    while not campaign.batches.filter(published_at__isnull=False).exists():
        if time.monotonic() - since > PATIENCE:
            raise TimeoutError(f"nothing was published within {PATIENCE:.0f} s")
        time.sleep(LOOK)  # the worker is at it
    seconds = time.monotonic() - since
    ours.forget_ledger()
    return seconds
