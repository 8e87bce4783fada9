"""How long a caller waits who sends one mail: `send_email` beside Django's own `send_mail`."""

import time
from collections.abc import Callable
from itertools import count

from celery import current_app
from django.core.mail import get_connection, send_mail

from campaigns.mail import send_email
from campaigns.models import OutboundEmail
from tests.bench import newsletter
from tests.bench.arithmetic import interleaved, quantile
from tests.bench.report import Table
from tests.bench.sizes import Sizes
from tests.sinks import smtp_sink

WARM_UP = 10  # calls
_numbers = count()


def measure(sizes: Sizes) -> Table:
    """Return the table."""
    with smtp_sink() as sink:
        contestants = {
            "this system, send_email: stored and queued": _ours,
            "Django, send_mail to smtp-sink on this machine": lambda: _djangos(sink.port),
        }
        for call in contestants.values():
            _timed(call, WARM_UP)
        found = interleaved(
            {name: lambda call=call: _timed(call, sizes.calls) for name, call in contestants.items()},  # type: ignore[misc]  # mypy cannot read a default of a lambda
            sizes.rounds,
        )
    _forget()
    table = Table(
        f"One mail of {len(newsletter.html()):,} characters of HTML: milliseconds until the call returns",
        ("what", "calls", "p50", "p99", "longest"),
    )
    for name, rounds in found.items():
        milliseconds = [1_000 * each for one in rounds for each in one]
        p50, p99 = quantile(milliseconds, 0.5), quantile(milliseconds, 0.99)
        longest = max(milliseconds)
        table.rows.append((name, f"{len(milliseconds):,}", f"{p50:.1f}", f"{p99:.1f}", f"{longest:.1f}"))
    table.notes.append(
        "`send_email` has committed the mail, with a wait for the disk, when it returns; `send_mail` has "
        "handed it to a server that stores nothing and is as near as a server can be."
    )
    return table


def _timed(call: Callable[[], object], calls: int) -> list[float]:
    took = []
    for _ in range(calls):
        since = time.perf_counter()
        call()
        took.append(time.perf_counter() - since)
    return took


def _ours() -> None:
    send_email(newsletter.SUBJECT, newsletter.TEXT, [_reader()], html=newsletter.html())


def _djangos(port: int) -> None:
    connection = get_connection("django.core.mail.backends.smtp.EmailBackend", host="127.0.0.1", port=port)
    send_mail(
        newsletter.SUBJECT,
        newsletter.TEXT,
        "sender@example.com",
        [_reader()],
        html_message=newsletter.html(),
        connection=connection,
    )


def _reader() -> str:
    return f"reader{next(_numbers)}@example.com"


def _forget() -> None:
    """Leave neither mails nor hints to the rows that follow."""
    OutboundEmail.objects.all().delete()
    with current_app.connection_for_write() as connection:
        queue = connection.SimpleQueue("transactional")
        queue.clear()
        queue.close()
