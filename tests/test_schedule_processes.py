"""Schedules and tasks with real Beats and workers: the mails arrive at the right seconds, and once."""

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from pytest_django import Settings
from redis import Redis

from campaigns.models import EmailTemplate
from campaigns.tasks import check_scheduled_campaigns
from schedules import assigning, outcomes, planning, reading
from schedules.models import Schedule, ScheduleRun, Task, TaskRun
from schedules.tasks import check_schedules, publish_runs
from tests.campaign_helpers import clock
from tests.mail_servers import SmtpServer
from tests.schedule_helpers import user
from tests.workers import celery, environment, kill, wait_until
from users.models import User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("empty_queues")]

WORKER = ("worker", "-Q", "senders,scheduler,transactional,imports", "-c", "2", "--loglevel", "warning")
BEAT = ("beat", "--loglevel", "info", "--pidfile=")
MINUTE = timedelta(minutes=1)


@pytest.fixture
def letter(db: None) -> EmailTemplate:
    return EmailTemplate.objects.create(name="Daily", subject="Good morning, {{ name }}", text="It is time.")


@pytest.fixture
def media(settings: Settings, tmp_path: Path) -> str:
    settings.MEDIA_ROOT = str(tmp_path)
    return str(tmp_path)


def once_at(moment: datetime) -> dict[str, str]:
    return {"kind": "once", "at": moment.isoformat()}


def schedule(owner: User, letter: EmailTemplate, recurrence: dict[str, Any]) -> Schedule:
    when = reading.read(recurrence, now=clock(), default_timezone="UTC")
    return planning.create(owner, when, {"template": letter}, now=clock())


def task(owner: User, title: str, payload: dict[str, Any], kind: str, at: datetime | None = None) -> Task:
    fields = {"title": title, "kind": kind, "payload": payload}
    when = reading.read(once_at(at), now=clock(), default_timezone="UTC") if at else None
    return assigning.create(owner, fields, when=when, now=clock())


def soon_after_a_tick() -> datetime:
    """A quarter of a minute after the next tick that is not too close to be met for certain."""
    now = clock()
    tick = now.replace(second=0, microsecond=0) + MINUTE
    if tick - now < timedelta(seconds=10):
        tick += MINUTE
    return tick + timedelta(seconds=15)


def next_tick(moment: datetime) -> datetime:
    """The tick after this moment, which would bring what nobody brought at its second."""
    return moment.replace(second=0) + MINUTE


def subjects(smtp: SmtpServer) -> Counter[str]:
    lines = (line for _, mail in smtp.accepted for line in mail.decode().splitlines())
    return Counter(line.removeprefix("Subject: ") for line in lines if line.startswith("Subject: "))


def arrival(smtp: SmtpServer, subject: str) -> datetime:
    wait_until(lambda: subject in subjects(smtp), seconds=240, what=f"{subject!r} arrived")
    return clock()


def wait_for_processes(redis: Redis, *beats: Path) -> None:
    """Wait until a worker takes tasks and the Beats that write to these files have come up."""
    check_scheduled_campaigns.delay()
    wait_until(lambda: redis.exists("mailer:tick") == 1, what="a worker at work")
    wait_until(lambda: all("beat: Starting" in beat.read_text() for beat in beats), what="every Beat up")


class TestTwoBeats:
    def test_bring_each_mail_once_and_at_its_second_and_one_that_was_stopped_makes_up_for_it(
        self, letter: EmailTemplate, smtp: SmtpServer, redis: Redis, media: str, tmp_path: Path
    ) -> None:
        asha, ravi = user(), user("ravi@example.com", name="Ravi")
        env = environment(EMAIL_PORT=str(smtp.port), MEDIA_ROOT=media)
        logs = tmp_path / "first", tmp_path / "second"
        with (
            celery(*WORKER, env=env),
            celery(*BEAT, env=env, output=logs[0]) as first,
            celery(*BEAT, env=env, output=logs[1]) as second,
        ):
            wait_for_processes(redis, *logs)
            at = soon_after_a_tick()
            schedule(asha, letter, once_at(at))
            schedule(ravi, letter, once_at(at + timedelta(seconds=6)))
            task(asha, "Remind", {"subject": "The plants", "body": "are thirsty"}, "send_email",
                 at + timedelta(seconds=12))  # fmt: skip
            task(asha, "Count", {"content": "email\na@example.com\n"}, "process_data")
            task(asha, "Broken", {"content": "<html></html>"}, "process_data")
            for subject, moment in (
                ("Good morning, Asha", at),
                ("Good morning, Ravi", at + timedelta(seconds=6)),
                ("The plants", at + timedelta(seconds=12)),
            ):
                seen = arrival(smtp, subject)
                assert moment <= seen < next_tick(moment), (subject, seen - moment)
            for subject in ("Done: Remind", "Done: Count", "Failed: Broken"):
                arrival(smtp, subject)
            kill(first)
            kill(second)
            expected = outcomes.Outcomes(2, 0, 2, 0, 0, 0, 0, 0)
            wait_until(lambda: outcomes.of() == expected, what="both schedules' mails sent")

            late = schedule(asha, letter, {"kind": "interval", "interval_seconds": 3600})
            ten_minutes_ago = clock() - timedelta(minutes=10)
            Schedule.objects.filter(id=late.pk).update(next_run_at=ten_minutes_ago)
            with celery(*BEAT, env=env):
                wait_until(lambda: outcomes.of().sent == 3, seconds=240, what="the late one was sent")
        assert set(subjects(smtp).values()) == {1, 2}
        assert subjects(smtp)["Good morning, Asha"] == 2
        assert ScheduleRun.objects.filter(schedule=late).count() == 1
        assert sorted(Task.objects.values_list("title", "status")) == [
            ("Broken", "failed"), ("Count", "completed"), ("Remind", "completed"),
        ]  # fmt: skip


class TestKillMinusNine:
    def test_of_a_worker_in_the_middle_of_a_task_leads_to_another_try(
        self, smtp: SmtpServer, media: str
    ) -> None:
        rows = "".join(f"n{n},u{n}@example.com,{n}\n" for n in range(400_000))
        owned = assigning.create(
            user(),
            {"title": "Count", "kind": "process_data", "payload": {}},
            when=None,
            file=ContentFile(f"name,email,n\n{rows}".encode(), "people.csv"),
            now=clock(),
        )
        env = environment(EMAIL_PORT=str(smtp.port), MEDIA_ROOT=media, LEASE_SECONDS="10")
        run = TaskRun.objects.filter(task=owned)
        with celery(*WORKER, env=env) as victim:
            publish_runs()
            wait_until(lambda: run.get().state == "running", what="the run began")
            kill(victim)
        assert run.get().state == "running"
        with celery(*WORKER, env=env):
            wait_until(lambda: _has_run_out(run.get()), what="the dead worker's lease run out")
            check_schedules()
            wait_until(lambda: run.get().state == "completed", what="the run was completed")
            arrival(smtp, "Done: Count")
        ended = run.get()
        assert (ended.attempts, ended.lease_until) == (2, None)
        assert ended.result is not None
        assert (ended.result["rows"], ended.result["duplicates"]) == (400_000, 0)
        assert subjects(smtp) == {"Done: Count": 1}


def _has_run_out(run: TaskRun) -> bool:
    return run.lease_until is not None and run.lease_until < clock()
