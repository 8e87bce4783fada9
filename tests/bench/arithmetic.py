"""What is done with the figures of a run; nothing here measures."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one contestant, one for each round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def span(self) -> tuple[float, float]:
        """The smallest and the largest."""
        return min(self.values), max(self.values)


def interleaved(contestants: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Call A B C A B C ..., and return each one's answers in their order.

    What disturbs the machine for a while then disturbs all of them, and not one.
    """
    answers: dict[str, list[T]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, measure in contestants.items():
            answers[name].append(measure())
    return answers


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` (above 0, at most 1) of all do not exceed: the nearest rank.

    Raises ValueError when there are no values.
    """
    if not values:
        raise ValueError("there is no quantile of nothing")
    return sorted(values)[math.ceil(share * len(values)) - 1]


def times(ours: float, theirs: float) -> str:
    """Say how many times theirs ours is, in two digits: `0.62 x`, `7.3 x`, `120 x`."""
    ratio = ours / theirs
    if ratio >= 100:
        return f"{round(ratio, -1):,.0f} x"
    return f"{ratio:.0f} x" if ratio >= 9.95 else f"{ratio:.1f} x" if ratio >= 0.995 else f"{ratio:.2f} x"
