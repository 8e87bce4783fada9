"""What every figure begins with: an audience of any size, workers, servers in processes of their own."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from django.db import connection

from campaigns import actions
from campaigns.models import Audience, Campaign, EmailTemplate
from tests.campaign_helpers import clock
from tests.workers import celery

_forking = get_context("fork")  # Django is ready in the child, too


def say(text: str = "") -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def campaign_to(recipients: int, name: str) -> Campaign:
    """Return a draft to as many recipients of its own."""
    audience = Audience.objects.create(name=name)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO campaigns_recipient (audience_id, email, name, timezone, attributes)
            SELECT %s, %s || n || '@example.com', 'P ' || n, '', '{}' FROM generate_series(1, %s) AS n
            """,
            [audience.pk, f"a{audience.pk}-", recipients],
        )
        cursor.execute("ANALYZE campaigns_recipient")
    template = EmailTemplate.objects.create(
        name=name, subject="Hello {{ name }}", html="<p>Dear {{ name }}</p>"
    )
    return Campaign.objects.create(name=name, audience=audience, template=template)


def start(campaign: Campaign) -> None:
    """Start it as an operator does."""
    actions.start(campaign.pk, now=clock())


@contextmanager
def workers(*, nodes: int, processes: int, env: dict[str, str]) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Run a scheduler worker and so many sender nodes, and give their main processes in that order."""
    started = []
    with ExitStack() as stack:
        for name, queue, count in [
            ("scheduler", "scheduler", 1),
            *((f"sender-{n}", "senders", processes) for n in range(nodes)),
        ]:
            options = f"-Q {queue} -c {count} -n {name}@%h --without-gossip --without-mingle".split()
            started.append(stack.enter_context(celery("worker", *options, "--loglevel", "error", env=env)))
        yield started


def beside(work: Callable[..., object], *arguments: object) -> BaseProcess:
    """Run `work` in a process of its own, which ends with the program."""
    process = _forking.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


def accepted_in(log: Path) -> Counter[str]:
    """Return how often each address stands in a log of tests.chaos.accounting."""
    return (
        Counter(line.split("\t")[0] for line in log.read_text().splitlines()) if log.exists() else Counter()
    )
