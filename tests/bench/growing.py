"""What one mail costs and what a sender holds in memory, as campaigns grow: both should stay as they are."""

from dataclasses import dataclass
from functools import partial

from campaigns.models import Audience
from tests.bench import ours
from tests.bench.arithmetic import Figures, interleaved
from tests.bench.report import Table
from tests.bench.sizes import Sizes
from tests.sinks import nginx


@dataclass(frozen=True, slots=True)
class Cost:
    """One campaign: recipients a second, µs of processor time of the senders for each, their peak in MiB."""

    rate: float
    cpu: float
    peak: float


def measure(sizes: Sizes) -> Table:
    """Return the table, measured on the SendGrid path, where the ledger's share is the largest."""
    with nginx() as sink, ours.senders(sink, "sendgrid") as senders:
        audiences = {str(size): ours.audience_of(size, f"Growth {size}") for size in sizes.growth}
        found = interleaved(
            {name: partial(_cost, senders, audience) for name, audience in audiences.items()}, sizes.rounds
        )
        for size in sizes.once:
            found[str(size)] = [_cost(senders, ours.audience_of(size, f"Growth {size}"))]
    table = Table(
        "Growth, on the SendGrid path",
        ("recipients", "recipients/s", "µs each", "of it senders' CPU, µs", "largest sender, MiB"),
    )
    for size in (*sizes.growth, *sizes.once):
        costs = found[str(size)]
        rate = Figures(tuple(cost.rate for cost in costs)).median
        cpu = Figures(tuple(cost.cpu for cost in costs)).median
        peak = Figures(tuple(cost.peak for cost in costs)).median
        table.rows.append((f"{size:,}", f"{rate:,.0f}", f"{1e6 / rate:.0f}", f"{cpu:.0f}", f"{peak:.1f}"))
    if sizes.once:
        table.notes.append("The last one is sent once, the others in each round.")
    table.notes.append("The peak is the resident set (VmHWM) of the largest of the sender processes.")
    return table


def _cost(senders: ours.Senders, audience: Audience) -> Cost:
    size = audience.recipients.count()
    senders.forget_peak()
    before = senders.cpu_seconds()
    timing = senders.send(audience)
    return Cost(
        rate=size / timing.ended,
        cpu=(senders.cpu_seconds() - before) / size * 1e6,
        peak=senders.peak_mib(),
    )
