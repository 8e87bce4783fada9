"""An account that is deleted: what was sent to it stays counted, and its address is in no table."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from psycopg import sql
from pytest_django import Settings

from campaigns import outbound
from campaigns.mail import send_email
from campaigns.models import (
    Batch,
    Campaign,
    DeliveryLog,
    EmailTemplate,
    OutboundEmail,
    OutboundPart,
    OutboundRecipient,
)
from campaigns.outbound.steps import MailLease
from campaigns.providers import Line
from schedules import sweeping
from tests.campaign_helpers import clock, counts, send
from tests.mail_servers import SmtpServer
from tests.schedule_helpers import MONDAY, schedule, user
from users.models import User

pytestmark = pytest.mark.django_db(transaction=True)

FILES = [("notes.txt", "more of it", "text/plain")]


@pytest.fixture
def asha(db: None) -> User:
    return user()


def tables_with(text: str) -> list[str]:
    """Return the tables of the database that have this text anywhere, however it is capitalised."""
    names = connection.introspection.table_names()
    with connection.cursor() as cursor:
        found = []
        for name in names:
            asked = sql.SQL("SELECT EXISTS (SELECT FROM {} AS each WHERE each::text ILIKE %s)")
            cursor.execute(asked.format(sql.Identifier(name)), [f"%{text}%"])
            found += [name for (is_there,) in cursor.fetchall() if is_there]
    return found


class TestDeletedAccount:
    def test_leaves_its_address_nowhere_and_counts_as_they_were(
        self, asha: User, admin_client: Client, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        letter = EmailTemplate.objects.create(name="Daily", subject="Good morning", text="It is time.")
        schedule(asha, letter, now=MONDAY)
        sweeping.sweep(now=MONDAY + timedelta(hours=3))
        campaign = Campaign.objects.get()
        send(Batch.objects.get().pk, smtp_line)
        own = send_email(
            "My secret", "for me", ["Asha <ASHA@example.com>"], created_by=asha, attachments=FILES
        )
        both = send_email("The two of you", "shared", ["ravi@example.com"], cc=["asha@example.com"])
        for mail in (own, both):
            outbound.post(mail.id, owner="tests", line=smtp_line)
        before = counts(campaign)
        gone = f"user-{asha.pk}@deleted.invalid"
        page = f"/admin/users/user/{asha.pk}/delete/"
        assert admin_client.post(page, {"post": "yes"}).status_code == 302
        assert DeliveryLog.objects.get().email == gone
        assert (counts(campaign), before) == ({"sent": 1}, {"sent": 1})
        assert tables_with("asha@example.com") == []
        mails = OutboundEmail.objects.order_by("id").values_list("subject", "text", "status")
        assert list(mails) == [
            ("(to an account that was deleted)", "", "sent"),
            ("The two of you", "shared", "sent"),
        ]
        assert not OutboundPart.objects.exists()
        recipients = OutboundRecipient.objects.order_by("id").values_list("email", "name", "status")
        assert list(recipients) == [(gone, "", "sent"), ("ravi@example.com", "", "sent"), (gone, "", "sent")]

    def test_is_written_to_no_more(self, asha: User, smtp: SmtpServer, smtp_line: Line) -> None:
        own = send_email("Mine", "for me", [asha.email], created_by=asha)
        both = send_email("The two of you", "shared", ["ravi@example.com"], cc=["asha@example.com"])
        asha.delete()
        for mail in (own, both):
            outbound.post(mail.id, owner="tests", line=smtp_line)
        assert smtp.recipients == ["ravi@example.com"]
        assert OutboundEmail.objects.get(id=own.id).status == "cancelled"
        assert OutboundRecipient.objects.filter(status="cancelled").count() == 2

    def test_leaves_what_a_worker_has_in_hand_to_it(self, asha: User) -> None:
        own = send_email("Mine", "for me", [asha.email], created_by=asha)
        assert outbound.steps.claim(own.id, "a worker") is not None
        asha.delete()
        mail = OutboundEmail.objects.get()
        assert (mail.subject, mail.text, mail.status) == ("Mine", "for me", "pending")

    def test_is_not_written_to_by_the_worker_that_gives_the_mail_back(
        self, asha: User, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        own = send_email("Mine", "for me", [asha.email], created_by=asha, attachments=FILES)
        both = send_email("The two of you", "shared", ["ravi@example.com"], cc=["asha@example.com"])
        leases = [outbound.steps.claim(each.id, "a worker") for each in (own, both)]
        asha.delete()
        for lease in leases:
            assert lease is not None
            outbound.steps.release(lease)
        for each in (own, both):
            outbound.post(each.id, owner="tests", line=smtp_line)
        assert smtp.recipients == ["ravi@example.com"]
        assert _mails() == [(outbound.steps.GONE, "", "cancelled"), ("The two of you", "shared", "cancelled")]
        assert not OutboundPart.objects.exists()
        assert _outcomes() == ["cancelled", "sent", "cancelled"]

    def test_is_not_written_to_by_the_worker_that_goes_on(
        self, asha: User, smtp: SmtpServer, smtp_line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = send_email("Mine", "for me", [asha.email], created_by=asha)
        both = send_email("The two of you", "shared", ["ravi@example.com"], cc=["asha@example.com"])
        find_due = outbound.steps.due_recipients

        def find_due_before_the_account_goes(lease: MailLease) -> list[OutboundRecipient]:
            found = find_due(lease)
            User.objects.filter(email="asha@example.com").delete()
            return found

        monkeypatch.setattr(outbound.steps, "due_recipients", find_due_before_the_account_goes)
        for each in (own, both):
            outbound.post(each.id, owner="tests", line=smtp_line)
        assert smtp.recipients == ["ravi@example.com"]
        assert _mails()[0] == (outbound.steps.GONE, "", "cancelled")
        assert _outcomes() == ["cancelled", "sent", "cancelled"]

    @pytest.mark.parametrize("policy", ["hold", "resend"])
    def test_is_in_doubt_where_the_mail_was_leaving_and_is_not_written_to_again(
        self, asha: User, smtp: SmtpServer, smtp_line: Line, settings: Settings, policy: str
    ) -> None:
        settings.UNCONFIRMED_POLICY = policy
        own = send_email("Mine", "for me", [asha.email], created_by=asha)
        lease = outbound.steps.claim(own.id, "a worker that dies")
        assert lease is not None
        outbound.steps.declare(lease, [OutboundRecipient.objects.get().pk], "smtp")
        asha.delete()
        OutboundEmail.objects.update(lease_until=clock() - timedelta(days=1))
        assert outbound.take_back_expired() == [own.id]
        assert _mails() == [(outbound.steps.GONE, "", "unconfirmed")]
        boss = user("boss@example.com", is_staff=True)
        outbound.decide([own.id], outbound.Verb.SEND_AGAIN, by=boss, now=clock())
        assert outbound.post(own.id, owner="tests", line=smtp_line) is None
        assert (smtp.recipients, _outcomes()) == ([], ["cancelled"])

    def test_leaves_no_text_to_deleted_accounts_alone(self, asha: User, smtp_line: Line) -> None:
        ravi = user("ravi@example.com")
        both = send_email("The two of you", "shared", [asha.email, ravi.email])
        outbound.post(both.id, owner="tests", line=smtp_line)
        asha.delete()
        assert _mails() == [("The two of you", "shared", "sent")]
        ravi.delete()
        assert _mails() == [(outbound.steps.GONE, "", "sent")]


def _mails() -> list[tuple[str, str, str]]:
    return list(OutboundEmail.objects.order_by("id").values_list("subject", "text", "status"))


def _outcomes() -> list[str]:
    return list(OutboundRecipient.objects.order_by("id").values_list("status", flat=True))
