"""The transactional worker dies by kill -9 at each step of a single mail; the mails are counted."""

import subprocess
import sys
from collections import Counter
from datetime import timedelta

import pytest
from django.db.models import F
from pytest_django import Settings

from campaigns import outbound
from campaigns.ledger import LeaseLost
from campaigns.mail import send_email
from campaigns.models import OutboundEmail, OutboundRecipient
from campaigns.providers import Line
from tests.mail_servers import SendGridServer, SmtpServer
from tests.workers import environment

pytestmark = pytest.mark.django_db(transaction=True)

EVERYBODY = ["a@example.com", "b@example.com", "c@example.com"]

# Two of the three are declared at a time, and the process dies at its second group (at the first and only
# call of claim and release). So (mails that were accepted by then, mails then in doubt):
SMTP = {
    "before claim": (0, 0),
    "after claim": (0, 0),
    "before declare": (2, 2),
    "after declare": (2, 1),
    "before send": (2, 1),
    "after send": (3, 1),
    "before release": (3, 1),
    "after release": (3, 0),
}
# One request carries all three.
SENDGRID = {
    "before claim": (0, 0),
    "after claim": (0, 0),
    "before declare": (0, 0),
    "after declare": (0, 3),
    "before send": (0, 3),
    "after send": (3, 3),
    "before release": (3, 3),
    "after release": (3, 0),
}


def _die(mail_id: int, point: str, times: int, **settings: str) -> None:
    died = subprocess.run(
        [sys.executable, "-m", "tests.chaos.crashing_mail", str(mail_id), point, str(times)],
        env=environment(**settings),
        stderr=subprocess.PIPE,
        check=False,
        timeout=300,
    )
    assert died.returncode == -9, f"it did not come to {point!r}: {died.stderr.decode()[-500:]}"


def recover() -> list[int]:
    """Do what the ticks of the next minutes do."""
    OutboundEmail.objects.filter(lease_until__isnull=False).update(
        lease_until=F("lease_until") - timedelta(days=1)
    )
    outbound.take_back_expired()
    return outbound.due(limit=10, older_than=timedelta(0))


def _check(recipients: list[str], *, in_doubt: int) -> None:
    rows = list(OutboundRecipient.objects.values_list("email", "status"))
    assert Counter(status for _, status in rows) == Counter(sent=3 - in_doubt, unconfirmed=in_doubt)
    assert set(Counter(recipients).values()) == {1}
    assert set(EVERYBODY) - set(recipients) <= {email for email, status in rows if status == "unconfirmed"}
    mail = OutboundEmail.objects.get()
    assert (mail.status, mail.leaving, mail.lease_until) == (
        "unconfirmed" if in_doubt else "sent",
        [],
        None,
    )


class TestSmtp:
    @pytest.mark.parametrize("point", SMTP)
    def test_loses_nobody_and_writes_to_nobody_twice(
        self, smtp: SmtpServer, smtp_line: Line, point: str
    ) -> None:
        accepted, in_doubt = SMTP[point]
        mail_id = send_email("Hello", "Hi", EVERYBODY).id
        times = 1 if point.endswith(("claim", "release")) else 2
        _die(mail_id, point, times, EMAIL_PORT=str(smtp.port), SMTP_DECLARE_WINDOW="2")
        assert len(smtp.recipients) == accepted
        for due in recover():
            outbound.post(due, owner="a test", line=smtp_line)
        _check(smtp.recipients, in_doubt=in_doubt)


class TestSendGrid:
    @pytest.mark.parametrize("point", SENDGRID)
    def test_loses_nobody_and_writes_to_nobody_twice(
        self, sendgrid: SendGridServer, sendgrid_line: Line, point: str
    ) -> None:
        accepted, in_doubt = SENDGRID[point]
        mail_id = send_email("Hello", "Hi", EVERYBODY).id
        settings = {
            "EMAIL_PROVIDERS": "sendgrid",
            "SENDGRID_API_KEY": "SG.test",
            "SENDGRID_API_HOST": sendgrid.url,
        }
        _die(mail_id, point, 1, **settings)
        taken = [each["email"] for request in sendgrid.accepted for each in _to(request)]
        assert len(taken) == accepted
        for due in recover():
            outbound.post(due, owner="a test", line=sendgrid_line)
        taken = [each["email"] for request in sendgrid.accepted for each in _to(request)]
        if in_doubt == 3 and not accepted:
            assert taken == []
            return
        _check(taken, in_doubt=in_doubt)


def _to(request: dict[str, list[dict[str, list[dict[str, str]]]]]) -> list[dict[str, str]]:
    return request["personalizations"][0]["to"]


class TestPolicy:
    def test_may_be_to_send_again(self, smtp: SmtpServer, smtp_line: Line, settings: Settings) -> None:
        settings.UNCONFIRMED_POLICY = "resend"
        mail_id = send_email("Hello", "Hi", EVERYBODY).id
        _die(mail_id, "after send", 1, EMAIL_PORT=str(smtp.port), SMTP_DECLARE_WINDOW="10")
        recover()
        assert set(OutboundRecipient.objects.values_list("status", "doubts")) == {("deferred", 1)}
        OutboundRecipient.objects.update(not_before=None)
        OutboundEmail.objects.update(not_before=None)
        outbound.post(mail_id, owner="a test", line=smtp_line)
        assert Counter(smtp.recipients) == Counter(EVERYBODY * 2)
        assert len({content for _, content in smtp.accepted}) == 1
        assert OutboundEmail.objects.get().status == "sent"


class TestZombie:
    def test_can_write_nothing_when_it_wakes_up(self, smtp: SmtpServer, smtp_line: Line) -> None:
        mail_id = send_email("Hello", "Hi", EVERYBODY).id
        lease = outbound.steps.claim(mail_id, "a worker that sleeps")
        assert lease is not None
        ids = [each.pk for each in outbound.steps.due_recipients(lease)]
        outbound.steps.declare(lease, ids, "smtp")
        recover()
        before = list(OutboundRecipient.objects.order_by("id").values())
        for step in (
            lambda: outbound.steps.record(lease),
            lambda: outbound.steps.renew(lease),
            lambda: outbound.steps.release(lease),
            lambda: outbound.steps.declare(lease, ids, "smtp"),
        ):
            with pytest.raises(LeaseLost):
                step()
        assert list(OutboundRecipient.objects.order_by("id").values()) == before
        assert {each["status"] for each in before} == {"unconfirmed"}
