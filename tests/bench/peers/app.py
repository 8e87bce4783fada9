"""The peers' Celery application, with tasks as the guides of Django and Celery write them."""

import json
import os
from email.utils import formataddr
from typing import Any

import django
from celery import Celery

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.bench.peers.settings"
django.setup()

from django.core.mail import EmailMultiAlternatives, get_connection, send_mail  # noqa: E402  # only now
from django.db import connection  # noqa: E402
from django.template.loader import render_to_string  # noqa: E402
from sendgrid import SendGridAPIClient  # noqa: E402
from sendgrid.helpers.mail import Mail  # noqa: E402

from tests.bench.peers.settings import SENDGRID_HOST  # noqa: E402

SENDER = "news@example.com"

app = Celery("peers", broker=os.environ["BENCH_BROKER"])
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
if reuse := os.environ.get("BENCH_DB_REUSE_MAX"):  # else Celery closes the connection after each task
    app.conf["CELERY_DB_REUSE_MAX"] = int(reuse)


def fields_of(numbers: list[int]) -> list[dict[str, Any]]:
    """Read what is known of these recipients."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT fields::text FROM bench_recipient WHERE id = ANY(%s)", [numbers])
        return [json.loads(row[0]) for row in cursor.fetchall()]


def written(fields: dict[str, Any]) -> tuple[str, str, str]:
    """Render subject, text and HTML for one recipient."""
    return (
        render_to_string("subject.txt", fields).strip(),
        render_to_string("newsletter.txt", fields),
        render_to_string("newsletter.html", fields),
    )


@app.task
def send_one(number: int) -> None:
    """Send one mail: the task of Celery's and Django's guides."""
    [fields] = fields_of([number])
    subject, text, html = written(fields)
    to = formataddr((fields["name"], fields["email"]))
    send_mail(subject, text, SENDER, [to], html_message=html)


@app.task
def send_together(numbers: list[int]) -> None:
    """Send many over one connection (Django's documentation, "Sending multiple emails")."""
    mailer, messages = get_connection(), []
    for fields in fields_of(numbers):
        subject, text, html = written(fields)
        to = formataddr((fields["name"], fields["email"]))
        message = EmailMultiAlternatives(subject, text, SENDER, [to], connection=mailer)
        message.attach_alternative(html, "text/html")
        messages.append(message)
    mailer.send_messages(messages)


@app.task
def send_by_sendgrid(number: int) -> None:
    """Send one mail with SendGrid's own client, as its README does."""
    [fields] = fields_of([number])
    subject, text, html = written(fields)
    mail = Mail(
        from_email=SENDER,
        to_emails=(fields["email"], fields["name"]),
        subject=subject,
        plain_text_content=text,
        html_content=html,
    )
    SendGridAPIClient("SG.bench", host=SENDGRID_HOST).send(mail)
