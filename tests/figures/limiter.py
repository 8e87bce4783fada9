"""Prints what the shared rate limit of 600/s comes to over eight processes.

    python -m tests.figures.limiter [SECONDS] [BATCH]

First bare reservations, then mails through eight sender processes in batches of BATCH (200), as the
provider's side sees them: the average, and the largest count in any second, wherever it begins.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from django.conf import settings

from campaigns import throttle
from campaigns.throttle import Limit
from tests.chaos.accounting import Accounts, serve
from tests.figures.system import beside, campaign_to, say, start, workers
from tests.sinks import free_port, wait_for_port
from tests.workers import environment

RATE, PROCESSES = 600, 8
WARM_UP = 3.0  # seconds that are not counted: the burst of an idle limit, processes that start


class Stamped(Accounts):
    """Writes down when how many mails were accepted, on the machine's monotonic clock."""

    def accept(self, mails: Iterable[tuple[str, str]]) -> None:
        os.write(self._log, f"{time.monotonic()} {len(list(mails))}\n".encode())


def reserve_and_wait(log: Path, end: float) -> None:
    """Book one place after the other and write down when it was used."""
    redis, limit = throttle.connect(settings.REDIS_URL), Limit("figures", RATE)
    with log.open("a") as lines:
        while time.monotonic() < end:
            time.sleep(limit.reserve(redis, 1, max_wait=30).wait)  # as a sender does
            lines.write(f"{time.monotonic()} 1\n")


def largest_in_a_second(moments: list[tuple[float, int]]) -> int:
    """Return the largest sum of counts in any second."""
    largest = current = first = 0
    for at, count in moments:
        current += count
        while moments[first][0] <= at - 1.0:
            current -= moments[first][1]
            first += 1
        largest = max(largest, current)
    return largest


def tell(what: str, logs: list[Path], begin: float, seconds: float, burst: int) -> None:
    """Print the figures of one run."""
    lines = [line.split() for log in logs for line in log.read_text().splitlines()]
    everything = sorted((float(at), int(count)) for at, count in lines)
    moments = [(at, count) for at, count in everything if begin <= at < begin + seconds]
    total = sum(count for _, count in moments)
    allowed = f"{RATE} + burst {burst} = {RATE + burst}"
    say(
        f"{what}: {total:,} in {seconds:.0f} s = {total / seconds:.1f}/s; "
        f"largest in any second {largest_in_a_second(moments)} (limit {allowed})"
    )


def bare(directory: Path, seconds: float) -> None:
    """Let eight processes reserve one place after the other."""
    begin = time.monotonic() + WARM_UP
    logs = [directory / f"bare-{n}" for n in range(PROCESSES)]
    booking = [beside(reserve_and_wait, log, begin + seconds) for log in logs]
    for process in booking:
        process.join()
    tell(f"{PROCESSES} processes, bare reservations", logs, begin, seconds, RATE // 10)


def through_senders(directory: Path, seconds: float, batch: int) -> None:
    """Let eight sender processes send to a server that stamps what it accepts."""
    log, port = directory / "stamped", free_port()
    beside(serve_stamped, log, port)
    wait_for_port(port)
    campaign = campaign_to(int((seconds + 20) * RATE), "limited")
    env = environment(
        EMAIL_PROVIDERS="sendgrid",
        SENDGRID_API_KEY="SG.test",
        SENDGRID_API_HOST=f"http://127.0.0.1:{port}",
        SENDGRID_RATE_LIMIT_PER_SEC=str(RATE),
        CAMPAIGN_BATCH_SIZE=str(batch),
        LOG_LEVEL="ERROR",
    )
    with workers(nodes=2, processes=PROCESSES // 2, env=env):
        start(campaign)
        while not log.exists() or not log.stat().st_size:
            time.sleep(0.1)  # the workers are starting
        begin = time.monotonic() + WARM_UP
        time.sleep(WARM_UP + seconds)  # what is measured
    what = f"{PROCESSES} sender processes, batches of {batch}"
    tell(what, [log], begin, seconds, max(batch, RATE // 10))


def serve_stamped(log: Path, port: int) -> None:
    """Speak SendGrid's API on `port` and stamp into `log`."""
    asyncio.run(serve(Stamped(log), smtp=0, http=port, control=0))


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    batch = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    with tempfile.TemporaryDirectory() as directory:
        bare(Path(directory), seconds)
        through_senders(Path(directory), seconds, batch)


if __name__ == "__main__":
    main()
