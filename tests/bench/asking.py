"""The status endpoint, over HTTP through gunicorn, while nothing is sent and while much is."""

import http.client
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rest_framework_simplejwt.tokens import RefreshToken

from campaigns import actions
from campaigns.models import Campaign
from mailer_project.local.process import spawn
from tests.bench import ours
from tests.bench.arithmetic import quantile
from tests.bench.report import Table
from tests.bench.sizes import Sizes
from tests.campaign_helpers import clock
from tests.figures.system import start
from tests.sinks import free_port, nginx, wait_for_port
from users.models import User

WARM_UP = 2.0  # seconds, in which gunicorn's processes import what they need
PAUSE = 0.02  # seconds between two questions, as of many screens that look at the same campaign


def measure(sizes: Sizes) -> Table:
    """Return the table."""
    token = _token()
    with nginx() as sink, ours.senders(sink, "sendgrid") as senders, _web(senders) as port:
        campaign = ours.campaign_to(ours.audience_of(sizes.status, "Status"))
        ask(port, token, campaign, WARM_UP)
        idle = ask(port, token, campaign, sizes.seconds / 2)
        start(campaign)
        _wait_until_sending(campaign)
        busy = ask(port, token, campaign, sizes.seconds)
        still = ours.status_of(campaign)
        if still not in ours.ENDED:
            actions.cancel(campaign.pk, now=clock())
    table = Table(
        f"Status endpoint of a campaign to {sizes.status:,}, milliseconds",
        ("while", "questions", "p50", "p99", "longest"),
    )
    for name, seconds in (("nothing is sent", idle), ("it is being sent", busy)):
        milliseconds = [1_000 * each for each in seconds]
        p50, p99 = quantile(milliseconds, 0.5), quantile(milliseconds, 0.99)
        table.rows.append((name, f"{len(seconds):,}", f"{p50:.1f}", f"{p99:.1f}", f"{max(milliseconds):.1f}"))
    if still in ours.ENDED:
        table.notes.append("The campaign ended before the last question.")
    return table


def ask(port: int, token: str, campaign: Campaign, seconds: float) -> list[float]:
    """Ask over one kept connection, one question after the other; return the seconds of each answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    answers = []
    end = time.monotonic() + seconds
    while (since := time.monotonic()) < end:
        connection.request(
            "GET", f"/api/v1/campaigns/{campaign.pk}/status/", headers={"Authorization": f"Bearer {token}"}
        )
        answer = connection.getresponse()
        answer.read()
        answers.append(time.monotonic() - since)
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"the status was answered with {answer.status}")
        time.sleep(PAUSE)  # a pace, not a flood
    connection.close()
    return answers


def _wait_until_sending(campaign: Campaign) -> None:
    end = time.monotonic() + 120
    while not campaign.batches.filter(sent__gt=0).exists():
        if time.monotonic() > end:
            raise TimeoutError("nothing was sent within two minutes")
        time.sleep(PAUSE)  # the workers are at it


def _token() -> str:
    administrator = User.objects.create_superuser("bench@example.com", "bench")
    return str(RefreshToken.for_user(administrator).access_token)


@contextmanager
def _web(senders: ours.Senders) -> Iterator[int]:
    """Run gunicorn as `manage.py up` does."""
    port = free_port()
    options = ["--workers=2", "--worker-class=gthread", "--threads=4", "--no-control-socket"]
    options.append("--log-level=error")
    command = [sys.executable, "-m", "gunicorn", "mailer_project.wsgi", f"--bind=127.0.0.1:{port}", *options]
    process = spawn(command, env=ours.settings_for(senders.sink.port, "sendgrid"))
    try:
        wait_for_port(port)
        yield port
    finally:
        process.terminate()
        process.wait()
