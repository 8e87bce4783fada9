"""Recipients a second, ledger on, beside the usual ways to send and what Postfix itself can do."""

import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from math import inf

from django.conf import settings

from tests.bench import composing, ours, rivals
from tests.bench.arithmetic import Figures, interleaved, times
from tests.bench.report import Table
from tests.bench.sizes import PROCESSES, Sizes
from tests.bench.timing import Timing, watch
from tests.sinks import SmtpSink, nginx, smtp_sink

WARM_UP = 20  # mails
Contestant = Callable[[], Timing]
HEAD = ("what", "mails", "mails/s", "least to most", "first to last acceptance", "this system is")


def over_smtp(sizes: Sizes, python: str | None) -> Table:
    """Measure sending to smtp-sink."""
    table = Table("SMTP, to Postfix smtp-sink: recipients a second, from start to completion", HEAD)
    with ExitStack() as stack:
        sink = stack.enter_context(smtp_sink())
        senders = stack.enter_context(ours.senders(sink, "smtp"))
        audience = ours.audience_of(sizes.smtp, "SMTP")
        contestants: dict[str, tuple[int, Contestant]] = {
            f"this system, {PROCESSES} sender processes": (sizes.smtp, lambda: senders.send(audience)),
        }
        for sessions in (PROCESSES, PROCESSES * settings.SMTP_CONNECTIONS):
            name = f"Postfix smtp-source -d -s {sessions}"
            contestants[name] = sizes.smtp, partial(smtp_source, sink, sizes.smtp, sessions)
        if python:
            peers = stack.enter_context(rivals.peers(python, sink, sizes.batched))
            slow = {
                "one Celery task per mail, send_mail": "one task each",
                "the same, database connection kept": "one task each, kept",
                "django-mailer, send_mail": "django-mailer",
            }
            batched = {
                "one Celery task per 200 mails, send_messages": "one task for 200",
                "django-post_office, send_queued_mail": "post_office",
            }
            contestants |= _peers(peers, sizes.slow, slow) | _peers(peers, sizes.batched, batched)
        _fill(table, contestants, sizes.rounds)
    table.notes.append(
        f"A mail is {composing.message_size():,} bytes on its way; smtp-source's body is as large. Both keep "
        "their connections throughout."
    )
    return table


def over_http(sizes: Sizes, python: str | None) -> Table:
    """Measure the SendGrid path, to nginx."""
    table = Table(
        "SendGrid path, to nginx answering 202: recipients a second, from start to completion", HEAD
    )
    with ExitStack() as stack:
        sink = stack.enter_context(nginx())
        senders = stack.enter_context(ours.senders(sink, "sendgrid"))
        audience = ours.audience_of(sizes.sendgrid, "SendGrid")
        contestants: dict[str, tuple[int, Contestant]] = {
            f"this system, {PROCESSES} sender processes": (sizes.sendgrid, lambda: senders.send(audience)),
        }
        if python:
            peers = stack.enter_context(rivals.peers(python, sink, sizes.slow))
            slow = {
                "one Celery task per mail, the official client": "one SendGrid task each",
                "the same, database connection kept": "one SendGrid task each, kept",
            }
            contestants |= _peers(peers, sizes.slow, slow)
        _fill(table, contestants, sizes.rounds)
    return table


def smtp_source(sink: SmtpSink, messages: int, sessions: int) -> Timing:
    """Let Postfix's own generator send mails of the same size over so many connections, which it keeps."""
    command = ["smtp-source", "-d", "-s", str(sessions), "-m", str(messages)]
    size, target = str(composing.message_size()), f"127.0.0.1:{sink.port}"
    running: list[subprocess.Popen[bytes]] = []
    try:
        return watch(
            sink,
            lambda: running.append(subprocess.Popen([*command, "-l", size, target])),
            lambda accepted: accepted >= messages,
        )
    finally:
        for process in running:
            process.wait(10)


def _peers(peers: rivals.Peers, mails: int, named: dict[str, str]) -> dict[str, tuple[int, Contestant]]:
    for name in named.values():
        peers.send(name, WARM_UP)
    return {title: (mails, partial(peers.send, name, mails)) for title, name in named.items()}


def _fill(table: Table, contestants: dict[str, tuple[int, Contestant]], rounds: int) -> None:
    found = interleaved({name: send for name, (_, send) in contestants.items()}, rounds)
    rates, flows = {}, {}
    for name, timings in found.items():
        mails = contestants[name][0]
        rates[name] = Figures(tuple(mails / timing.ended for timing in timings))
        flows[name] = Figures(tuple(mails / timing.flowing if timing.flowing else inf for timing in timings))
    first = next(iter(rates))
    for name, figures in rates.items():
        low, high = figures.span
        table.rows.append(
            (
                name,
                f"{contestants[name][0]:,}",
                f"{figures.median:,.0f}",
                f"{low:,.0f} to {high:,.0f}",
                f"{flows[name].median:,.0f}" if flows[name].median < inf else "-",
                "" if name == first else times(rates[first].median, figures.median),
            )
        )
