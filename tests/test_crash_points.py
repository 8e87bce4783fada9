"""A sender dies by kill -9 at each step of a batch, one after the other; the mails are counted."""

import subprocess
import sys
from collections import Counter
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.db.models import F

from campaigns import ledger
from campaigns.models import Batch, Campaign
from campaigns.providers import Line
from tests.campaign_helpers import counts, send, started
from tests.chaos.crashing import POINTS
from tests.mail_servers import SendGridServer, SmtpServer
from tests.workers import environment, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

EVERYBODY = [f"p{n}@example.com" for n in range(5)]

# Two messages are declared at a time, and the process dies at its second pair (at the first and only call
# of claim and release). The answers of a pair are written when the next one is declared, when a rate limit
# is waited for, or with the release. So (mails that were accepted by then, mails then in doubt):
SMTP = {
    "before claim": (0, 0),
    "after claim": (0, 0),
    "before compose": (2, 2),
    "after compose": (2, 2),
    "before declare": (2, 2),
    "after declare": (2, 2),
    "before send": (2, 2),
    "after send": (4, 2),
    "before record": (4, 2),
    "after record": (4, 0),
    "before release": (5, 1),
    "after release": (5, 0),
}
# One request carries all five; everything happens once, and there is no wait in which to record.
SENDGRID = {
    "before claim": (0, 0),
    "after claim": (0, 0),
    "before compose": (0, 0),
    "after compose": (0, 0),
    "before declare": (0, 0),
    "after declare": (0, 5),
    "before send": (0, 5),
    "after send": (5, 5),
    "before release": (5, 5),
    "after release": (5, 0),
}


def _die(batch_id: int, point: str, times: int, **settings: str) -> None:
    died = subprocess.run(
        [sys.executable, "-m", "tests.chaos.crashing", str(batch_id), point, str(times)],
        env=environment(**settings),
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=300,
    )
    assert died.returncode == -9, f"it did not come to {point!r}"


def _recover_and_finish(batch_id: int, line: Line) -> None:
    Batch.objects.filter(lease_until__isnull=False).update(lease_until=F("lease_until") - timedelta(days=1))
    ledger.take_back_expired()
    send(batch_id, line)


def _check(campaign: Campaign, recipients: list[str], *, in_doubt: int) -> None:
    expected = {"sent": 5 - in_doubt, "unconfirmed": in_doubt}
    assert counts(campaign) == {status: count for status, count in expected.items() if count}
    assert set(Counter(recipients).values()) <= {1}
    unconfirmed = set(campaign.deliveries.filter(status="unconfirmed").values_list("email", flat=True))
    assert set(EVERYBODY) - set(recipients) <= unconfirmed


class TestSmtp:
    @pytest.mark.parametrize("point", POINTS)
    def test_loses_nobody_and_writes_to_nobody_twice(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, point: str
    ) -> None:
        accepted, in_doubt = SMTP[point]
        (batch_id,) = started(campaign)
        times = 1 if point.endswith(("claim", "release")) else 2
        settings = {
            "SMTP_DECLARE_WINDOW": "2",
            "SMTP_CONNECTIONS": "1",
            "RECORD_EACH_GROUP": "1" if point.endswith("record") else "",
        }
        _die(batch_id, point, times, EMAIL_PORT=str(smtp.port), **settings)
        assert len(smtp.recipients) == accepted
        _recover_and_finish(batch_id, smtp_line)
        _check(campaign, smtp.recipients, in_doubt=in_doubt)


class TestSeveralConnections:
    """One message alone, then two at a time, each on a connection of its own; it dies at these two."""

    @pytest.mark.parametrize(
        ("point", "accepted", "in_doubt"),
        [("before declare", 1, 0), ("after declare", 1, 2), ("before send", 1, 2), ("after send", 3, 2)],
    )
    def test_lose_nobody_and_write_to_nobody_twice(
        self,
        campaign: Campaign,
        smtp: SmtpServer,
        smtp_line: Line,
        point: str,
        accepted: int,
        in_doubt: int,
    ) -> None:
        (batch_id,) = started(campaign)
        settings = {"SMTP_DECLARE_WINDOW": "1", "SMTP_CONNECTIONS": "2"}
        _die(batch_id, point, 2, EMAIL_PORT=str(smtp.port), **settings)
        assert (len(smtp.recipients), smtp.connections) == (accepted, 2)
        _recover_and_finish(batch_id, smtp_line)
        _check(campaign, smtp.recipients, in_doubt=in_doubt)


class TestPostgresToo:
    @pytest.mark.parametrize(
        ("point", "accepted", "in_doubt"),
        [("after declare", 2, 2), ("after send", 4, 2), ("after record", 4, 0)],
    )
    def test_loses_nobody_and_writes_to_nobody_twice(
        self,
        campaign: Campaign,
        smtp: SmtpServer,
        smtp_line: Line,
        point: str,
        accepted: int,
        in_doubt: int,
    ) -> None:
        (batch_id,) = started(campaign)
        settings = {
            "EMAIL_PORT": str(smtp.port),
            "SMTP_DECLARE_WINDOW": "2",
            "SMTP_CONNECTIONS": "1",
            "CRASH_POSTGRES": "1",
            "RECORD_EACH_GROUP": "1" if point.endswith("record") else "",
        }
        _die(batch_id, point, 2, **settings)
        assert len(smtp.recipients) == accepted
        connection.close()
        wait_until(_postgres_answers, what="PostgreSQL back")
        _recover_and_finish(batch_id, smtp_line)
        _check(campaign, smtp.recipients, in_doubt=in_doubt)


def _postgres_answers() -> bool:
    try:
        connection.ensure_connection()
    except OperationalError:
        return False
    return True


class TestSendGrid:
    @pytest.mark.parametrize("point", SENDGRID)
    def test_loses_nobody_and_writes_to_nobody_twice(
        self, campaign: Campaign, sendgrid: SendGridServer, sendgrid_line: Line, point: str
    ) -> None:
        accepted, in_doubt = SENDGRID[point]
        (batch_id,) = started(campaign)
        _die(
            batch_id,
            point,
            1,
            EMAIL_PROVIDERS="sendgrid",
            SENDGRID_API_KEY="SG.test",
            SENDGRID_API_HOST=sendgrid.url,
        )
        assert len(sendgrid.recipients) == accepted
        _recover_and_finish(batch_id, sendgrid_line)
        _check(campaign, sendgrid.recipients, in_doubt=in_doubt)
