"""One contestant's part of one round, in a process of its own.

    python -m tests.bench.peers.run NAME FIRST LAST

Prints `ready`, waits for a line, then sends to the recipients FIRST to LAST, or publishes their tasks, and
prints `done`. So what it takes to start Python is in no figure.
"""

import sys
from collections.abc import Callable
from functools import partial

from tests.bench.peers.app import SENDER, fields_of, send_by_sendgrid, send_one, send_together, written

from django.core.mail import EmailMultiAlternatives, get_connection  # isort: skip  # app makes Django ready
from django.core.management import call_command  # isort: skip
from django.db import transaction  # isort: skip

BATCH = 200
PROCESSES = 4
KEPT = "kept"  # the queue of the worker that keeps its database connection


def one_task_each(numbers: range, queue: str = "celery") -> None:
    for number in numbers:
        send_one.apply_async((number,), queue=queue)


def one_sendgrid_task_each(numbers: range, queue: str = "celery") -> None:
    for number in numbers:
        send_by_sendgrid.apply_async((number,), queue=queue)


def one_task_for_200(numbers: range) -> None:
    for start in range(0, len(numbers), BATCH):
        send_together.delay(list(numbers[start : start + BATCH]))


def post_office(numbers: range) -> None:
    """Queue with send_many and a template rendered on delivery, then send with the management command."""
    from post_office import mail  # its models want Django ready

    for start in range(0, len(numbers), 1_000):
        mail.send_many(
            {
                "sender": SENDER,
                "recipients": fields["email"],
                "template": "newsletter",
                "context": fields,
                "render_on_delivery": True,
            }
            for fields in fields_of(list(numbers[start : start + 1_000]))
        )
    call_command("send_queued_mail", processes=PROCESSES)


def django_mailer(numbers: range) -> None:
    """Queue through its backend, then send with the management command."""
    queue = get_connection("mailer.backend.DbBackend")
    with transaction.atomic():
        for start in range(0, len(numbers), 1_000):
            queue.send_messages([_message(f) for f in fields_of(list(numbers[start : start + 1_000]))])
    call_command("send_mail")


def _message(fields: dict[str, str]) -> EmailMultiAlternatives:
    subject, text, html = written(fields)
    message = EmailMultiAlternatives(subject, text, SENDER, [fields["email"]])
    message.attach_alternative(html, "text/html")
    return message


def prepare() -> None:
    """Create the tables, and post_office's template."""
    call_command("migrate", verbosity=0)
    from django.template.loader import get_template
    from post_office.models import EmailTemplate

    def source(name: str) -> str:
        return str(get_template(name).template.source)  # type: ignore[attr-defined]  # the engine is Django's

    EmailTemplate.objects.create(
        name="newsletter",
        subject=source("subject.txt"),
        content=source("newsletter.txt"),
        html_content=source("newsletter.html"),
    )


CONTESTANTS: dict[str, Callable[[range], None]] = {
    "one task each": one_task_each,
    "one task each, kept": partial(one_task_each, queue=KEPT),
    "one task for 200": one_task_for_200,
    "post_office": post_office,
    "django-mailer": django_mailer,
    "one SendGrid task each": one_sendgrid_task_each,
    "one SendGrid task each, kept": partial(one_sendgrid_task_each, queue=KEPT),
}


def main() -> None:
    name, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if name == "prepare":
        prepare()
        return
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    CONTESTANTS[name](range(first, last + 1))
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main()
