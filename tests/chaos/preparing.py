"""Prepares the database of a run, in a process of its own; prints the campaign's id and a token as JSON.

python -m tests.chaos.preparing RECIPIENTS SEED

An earlier campaign of one batch has been before, and PostgreSQL's statistics are of that time, as when
autovacuum has seen a small campaign and a large one follows.
"""

import json
import os
import sys

import django
from django.core.management import call_command

TICK_SECONDS = 2  # between two ticks of Beat, beside the one every minute


def main(recipients: int, seed: int) -> None:
    """Create tables, an administrator, a faster tick, an audience and its campaign."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mailer_project.settings")
    django.setup()
    from rest_framework_simplejwt.tokens import RefreshToken  # Django is ready only now

    from users.models import User

    call_command("migrate", interactive=False, verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    _hasten()
    _earlier_campaign()
    administrator = User.objects.create_superuser("chaos@example.com", "chaos")
    token = str(RefreshToken.for_user(administrator).access_token)
    sys.stdout.write(
        json.dumps({"campaign": _campaign("Chaos", recipients=recipients, seed=seed), "token": token})
    )


def _hasten() -> None:
    """Let Beat tick every few seconds, so that what waits for the next minute does not take one."""
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    every, _ = IntervalSchedule.objects.get_or_create(every=TICK_SECONDS, period=IntervalSchedule.SECONDS)
    PeriodicTask.objects.create(
        name="a faster tick",
        task="campaigns.tasks.check_scheduled_campaigns",
        interval=every,
        expire_seconds=5 * TICK_SECONDS,
    )


def _earlier_campaign() -> None:
    from django.db import connection
    from django.utils import timezone

    from campaigns import dispatch, lifecycle

    campaign = _campaign("Earlier", recipients=1, seed=0)
    lifecycle.start(campaign, now=timezone.now())
    dispatch.build_ledger(campaign, now=timezone.now())
    lifecycle.cancel(campaign, now=timezone.now())
    dispatch.finalize(campaign, now=timezone.now())
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE campaigns_batch, campaigns_deliverylog")


def _campaign(name: str, *, recipients: int, seed: int) -> int:
    from campaigns.importing.samples import sample_recipients
    from campaigns.models import Audience, Campaign, EmailTemplate, Recipient

    audience = Audience.objects.create(name=name)
    people = sample_recipients(recipients, seed=seed)
    Recipient.objects.bulk_create(
        (Recipient(audience=audience, email=person.email, name=person.name) for person in people),
        batch_size=5000,
    )
    template = EmailTemplate.objects.create(
        name=name,
        subject="Hello {{ name }}",
        html="<p>Dear {{ name }}, <a href='{{ unsubscribe_url }}'>no more</a></p>",
    )
    return Campaign.objects.create(name=name, audience=audience, template=template).pk


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
