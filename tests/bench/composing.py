"""Compile and render: how many newsletters one core writes in a second."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, formataddr

from django.core.mail import EmailMultiAlternatives
from django.template import engines
from jinja2 import Environment

from campaigns.composing import Letter, Sender, build_mime, compile_message, prepare_html
from tests.bench import newsletter
from tests.bench.arithmetic import Figures, interleaved, times
from tests.bench.report import Table
from tests.bench.sizes import Sizes

SLOWER = 10  # a builder of whole messages gets this much less to do


def measure(sizes: Sizes) -> Table:
    """Return the table; processor time of this process, so that others on the machine do not count."""
    contestants = {
        "this system: compiled once, slots filled": lambda: ours(_letters(sizes.composed)),
        "Django EmailMultiAlternatives, Django templates": lambda: django(_letters(sizes.composed // SLOWER)),
        "EmailMessage of Python, Jinja2": lambda: standard_library(_letters(sizes.composed // SLOWER)),
    }
    found = {name: Figures(tuple(rates)) for name, rates in interleaved(contestants, sizes.rounds).items()}
    first = next(iter(found.values()))
    table = Table(
        "Compile and render: messages a second and core",
        ("what", "messages/s", "least to most", "this system is"),
    )
    for name, figures in found.items():
        low, high = figures.span
        table.rows.append(
            (
                name,
                f"{figures.median:,.0f}",
                f"{low:,.0f} to {high:,.0f}",
                "" if figures is first else times(first.median, figures.median),
            )
        )
    table.notes.append(
        f"Ours includes making the HTML ready and compiling it, once for {sizes.composed:,} messages."
    )
    return table


def ours(letters: Sequence[Letter]) -> float:
    """Compile the newsletter anew and write it to each; return messages a second of processor time."""
    sender = Sender(newsletter.SENDER, name=f"Compiled at {time.monotonic_ns()}")  # so that no cache has it

    def write_all() -> None:
        now = datetime.now(UTC)
        html = prepare_html(newsletter.html())
        message = compile_message(sender, subject=newsletter.SUBJECT, html=html, text=newsletter.TEXT)
        for letter in letters:
            build_mime(message, letter, now=now)

    return _rate(write_all, len(letters))


def django(letters: Sequence[Letter]) -> float:
    """Write them as Django's documentation does; return messages a second of processor time."""
    engine = engines["django"]
    subject, html, text = map(engine.from_string, (newsletter.SUBJECT, newsletter.html(), newsletter.TEXT))

    def write(letter: Letter) -> None:
        message = EmailMultiAlternatives(
            subject.render(letter.context),
            text.render(letter.context),
            newsletter.SENDER,
            [formataddr((letter.name, letter.email))],
            headers=_headers(letter),
        )
        message.attach_alternative(html.render(letter.context), "text/html")
        message.message().as_bytes()

    return _rate_of_each(write, letters)


def standard_library(letters: Sequence[Letter]) -> float:
    """Write them with Python's EmailMessage; return messages a second of processor time."""
    plain, escaping = Environment(autoescape=False), Environment(autoescape=True)  # noqa: S701  # subject, text
    subject, text = plain.from_string(newsletter.SUBJECT), plain.from_string(newsletter.TEXT)
    html = escaping.from_string(newsletter.html())

    def write(letter: Letter) -> None:
        message = EmailMessage(policy=SMTP)
        message["Subject"] = subject.render(letter.context)
        message["From"] = newsletter.SENDER
        message["To"] = formataddr((letter.name, letter.email))
        message["Date"] = format_datetime(datetime.now(UTC))
        for name, value in _headers(letter).items():
            message[name] = value
        message.set_content(text.render(letter.context))
        message.add_alternative(html.render(letter.context), subtype="html")
        bytes(message)

    return _rate_of_each(write, letters)


def message_size() -> int:
    """Return how many bytes one of our newsletters has on its way."""
    message = compile_message(
        Sender(newsletter.SENDER), subject=newsletter.SUBJECT, html=newsletter.html(), text=newsletter.TEXT
    )
    return len(build_mime(message, _letters(1)[0], now=datetime.now(UTC)))


def _letters(count: int) -> list[Letter]:
    return [_letter(number) for number in range(count)]


def _letter(number: int) -> Letter:
    fields = newsletter.fields(number)
    return Letter(
        delivery_id=number,
        email=fields["email"],
        name=fields["name"],
        message_id=f"{number}.bench@example.com",
        context=dict(fields),
        unsubscribe_url=f"https://example.com/u/{number}",
    )


def _headers(letter: Letter) -> dict[str, str]:
    return {
        "Message-ID": f"<{letter.message_id}>",
        "List-Unsubscribe": f"<{letter.unsubscribe_url}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }


def _rate_of_each(write: Callable[[Letter], None], letters: Sequence[Letter]) -> float:
    def write_all() -> None:
        for letter in letters:
            write(letter)

    return _rate(write_all, len(letters))


def _rate(work: Callable[[], None], count: int) -> float:
    before = time.process_time()
    work()
    return count / (time.process_time() - before)
