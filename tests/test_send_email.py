"""One call that queues any mail: what it stores, what it refuses, what it costs."""

from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.mime.image import MIMEImage
from email.policy import default
from typing import Any

import pytest
from django.core import mail as django_mail
from django.db import connection, transaction
from kombu import Connection
from pytest_django import Settings

from campaigns import broker, outbound
from campaigns.mail import KeyReused, MailRefused, QueuedEmailBackend, draft_of, queue, send_email
from campaigns.models import OutboundEmail, OutboundRecipient, Suppression
from campaigns.providers import Line
from tests.mail_servers import SendGridServer, SmtpServer

pytestmark = pytest.mark.django_db

PIXEL = b"\x89PNG not really a picture"


def post(mail_id: int, line: Line) -> outbound.Posted | None:
    return outbound.post(mail_id, owner="a test", line=line)


def received(content: bytes) -> Any:
    return message_from_bytes(content.replace(b"\r\n", b"\n"), policy=default)


def outcomes(mail_id: int) -> dict[str, str]:
    return dict(OutboundRecipient.objects.filter(mail=mail_id).values_list("email", "status"))


class TestSendEmail:
    def test_sends_one_mail_to_all_who_may_see_each_other(self, smtp: SmtpServer, smtp_line: Line) -> None:
        stored = send_email(
            "Grüße",
            "Dear all,\nhello.\n",
            ["Asha, Dr. <asha@example.com>", "ben@example.com"],
            html="<p>Dear <b>all</b></p>",
            cc=["cy@example.com"],
            bcc=["dora@example.com"],
            reply_to=["desk@example.com", "Shop <shop@example.com>"],
            headers={"X-Order": "17", "List-Unsubscribe": "<https://example.com/" + "u" * 100 + ">"},
        )
        assert post(stored.id, smtp_line) == outbound.Posted(None)
        assert smtp.recipients == [f"{name}@example.com" for name in ("asha", "ben", "cy", "dora")]
        assert len({content for _, content in smtp.accepted}) == 1
        mail = received(smtp.accepted[0][1])
        assert [(each.display_name, each.addr_spec) for each in mail["To"].addresses] == [
            ("Asha, Dr.", "asha@example.com"),
            ("", "ben@example.com"),
        ]
        assert str(mail["Cc"]) == "cy@example.com"
        assert str(mail["Reply-To"]) == "desk@example.com, Shop <shop@example.com>"
        assert (str(mail["Subject"]), str(mail["From"])) == ("Grüße", "sender@example.com")
        assert str(mail["Message-ID"]) == f"<{stored.message_id}>"
        assert (mail["X-Order"], len(mail["List-Unsubscribe"])) == ("17", 122)
        assert b"dora" not in smtp.accepted[0][1]
        assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
        assert mail.get_body(("plain",)).get_content() == "Dear all,\nhello.\n"

    def test_records_what_became_of_each(self, smtp: SmtpServer, smtp_line: Line) -> None:
        smtp.rcpt = {"no@example.com": "550 5.1.1 no such user", "later@example.com": "451 4.3.0 later"}
        stored = send_email("Hello", "Hi", [f"{name}@example.com" for name in ("no", "yes", "later")])
        post(stored.id, smtp_line)
        assert outcomes(stored.id) == {
            "no@example.com": "failed",
            "yes@example.com": "sent",
            "later@example.com": "deferred",
        }
        mail = OutboundEmail.objects.get()
        assert (mail.status, mail.finished_at, mail.lease_until, mail.leaving) == ("deferred", None, None, [])
        assert mail.not_before is not None

    def test_tries_again_those_who_were_refused_for_now(self, smtp: SmtpServer, smtp_line: Line) -> None:
        smtp.rcpt = {"later@example.com": "451 4.3.0 later"}
        stored = send_email("Hello", "Hi", ["yes@example.com", "later@example.com"])
        post(stored.id, smtp_line)
        assert post(stored.id, smtp_line) is None
        smtp.rcpt = {}
        OutboundEmail.objects.update(not_before=None)
        OutboundRecipient.objects.update(not_before=None)
        post(stored.id, smtp_line)
        assert smtp.recipients == ["yes@example.com", "later@example.com"]
        assert len({received(content)["Message-ID"] for _, content in smtp.accepted}) == 1
        assert smtp.accepted[0][1] == smtp.accepted[1][1]
        assert OutboundEmail.objects.get().status == "sent"

    def test_names_all_of_them_in_one_request(self, sendgrid: SendGridServer, sendgrid_line: Line) -> None:
        stored = send_email(
            "Hello",
            "Hi",
            ["Asha <asha@example.com>", "ben@example.com"],
            html="<img src='cid:pic'>",
            cc=["cy@example.com"],
            bcc=["dora@example.com"],
            reply_to=["desk@example.com"],
            headers={"X-Order": "17", "To": "the team"},
            attachments=[("a.txt", "text", "text/plain")],
        )
        post(stored.id, sendgrid_line)
        assert not sendgrid.faults
        (request,) = sendgrid.accepted
        (together,) = request["personalizations"]
        assert together["to"] == [
            {"email": "asha@example.com", "name": "Asha"},
            {"email": "ben@example.com"},
        ]
        assert (together["cc"], together["bcc"]) == (
            [{"email": "cy@example.com"}],
            [{"email": "dora@example.com"}],
        )
        assert together["headers"] == {"X-Order": "17", "Message-ID": f"<{stored.message_id}>"}
        assert request["reply_to_list"] == [{"email": "desk@example.com"}]
        assert request["attachments"][0]["filename"] == "a.txt"
        assert set(outcomes(stored.id).values()) == {"sent"}

    def test_never_shows_one_hidden_recipient_to_another(
        self, sendgrid: SendGridServer, sendgrid_line: Line
    ) -> None:
        stored = send_email("Hello", "Hi", [], bcc=["a@example.com", "b@example.com"])
        post(stored.id, sendgrid_line)
        (request,) = sendgrid.accepted
        assert [sorted(each) for each in request["personalizations"]] == [
            ["custom_args", "headers", "to"]
        ] * 2
        assert [each["to"] for each in request["personalizations"]] == [
            [{"email": "a@example.com"}],
            [{"email": "b@example.com"}],
        ]

    def test_writes_to_an_address_once_wherever_it_stands(self) -> None:
        stored = send_email("Hello", "Hi", ["a@example.com", "A@example.com"], bcc=["a@EXAMPLE.com"])
        assert outcomes(stored.id) == {"a@example.com": "pending"}


class TestSuppression:
    @pytest.mark.parametrize(
        ("reason", "status"),
        [("bounce", "suppressed"), ("complaint", "suppressed"), ("unsubscribe", "sent"), ("manual", "sent")],
    )
    def test_stops_what_would_bounce_or_be_called_spam(
        self, smtp: SmtpServer, smtp_line: Line, reason: str, status: str
    ) -> None:
        Suppression.objects.create(email="asha@example.com", reason=reason)
        stored = send_email("Your new password", "Here", ["Asha@example.com", "ben@example.com"])
        post(stored.id, smtp_line)
        assert outcomes(stored.id) == {"Asha@example.com": status, "ben@example.com": "sent"}
        assert ("Asha@example.com" in smtp.recipients) is (status == "sent")


class TestRefusals:
    @pytest.mark.parametrize(
        ("asked", "field", "words"),
        [
            ({"recipient_list": []}, "recipient_list", "at least one"),
            ({"recipient_list": ["a\n@example.com"]}, "recipient_list.0", "line break"),
            ({"recipient_list": ["a@example.com", "b"]}, "recipient_list.1", "no @-sign"),
            ({"recipient_list": [f"p{n}@example.com" for n in range(10_000)]}, "recipient_list", "10,000"),
            ({"cc": ["x <y>"]}, "cc.0", "no @-sign"),
            ({"subject": "Hello\nBcc: x@example.com"}, "subject", "line break"),
            ({"subject": "x" * 2001}, "subject", "2,001"),
            ({"body": "\0"}, "body", "NUL"),
            ({"from_email": "nobody"}, "from_email", "no @-sign"),
            ({"headers": {"Bcc": "x@example.com"}}, "headers.Bcc", "made from the other fields"),
            ({"headers": {"X-\u00dc": "x"}}, "headers.X-\u00dc", "visible ASCII"),
            ({"recipient_list": "a@example.com"}, "recipient_list", "a list of addresses"),
            ({"cc": "a@example.com"}, "cc", "a list of addresses"),
            ({"headers": {"X-A": "b\r\nBcc: c@d.com"}}, "headers.X-A", "line break"),
            ({"headers": {"X-SMTPAPI": "{}"}}, "headers.X-SMTPAPI", "Leave it out"),
            ({"attachments": [("a", b"x", "a\r\nb/c")]}, "attachments.0", "media type"),
            ({"attachments": [("a", b"x" * 5_242_881, "a/b")]}, "attachments.0", "5,242,881"),
            ({"idempotency_key": "k" * 256}, "idempotency_key", "255"),
        ],
    )
    def test_name_the_field_and_store_nothing(self, asked: dict[str, Any], field: str, words: str) -> None:
        call: dict[str, Any] = {"subject": "Hello", "body": "Hi", "recipient_list": ["a@example.com"]}
        with pytest.raises(MailRefused) as refused:
            send_email(**(call | asked))
        assert list(refused.value.problems) == [field]
        assert words in refused.value.problems[field][0]
        assert not OutboundEmail.objects.exists()

    def test_tell_where_there_is_no_sender(self, settings: Settings) -> None:
        settings.DEFAULT_FROM_EMAIL = settings.SENDGRID_FROM_EMAIL = ""
        with pytest.raises(MailRefused, match="DEFAULT_FROM_EMAIL"):
            send_email("Hello", "Hi", ["a@example.com"])


class TestKey:
    def test_stores_the_same_call_once(self) -> None:
        first = send_email("Hello", "Hi", ["a@example.com"], idempotency_key="run-17")
        second = send_email("Hello", "Hi", ["a@example.com"], idempotency_key="run-17")
        assert (second.id, second.message_id, second.is_new) == (first.id, first.message_id, False)
        assert OutboundEmail.objects.count() == 1

    def test_is_refused_for_another_mail(self) -> None:
        send_email("Hello", "Hi", ["a@example.com"], idempotency_key="run-17")
        with pytest.raises(KeyReused):
            send_email("Hello", "Hi", ["b@example.com"], idempotency_key="run-17")
        assert OutboundEmail.objects.count() == 1


class TestBackend:
    @pytest.fixture(autouse=True)
    def _as_in_production(self, settings: Settings) -> None:
        settings.EMAIL_BACKEND = "campaigns.mail.QueuedEmailBackend"  # the test runner puts another one there

    def test_keeps_what_a_message_of_djangos_has(self, smtp: SmtpServer, smtp_line: Line) -> None:
        message = django_mail.EmailMultiAlternatives(
            "Hello",
            "text",
            "Desk <desk@example.com>",
            ["a@example.com"],
            bcc=["b@example.com"],
            cc=["c@example.com"],
            headers={"X-A": "1", "Message-ID": "<mine@example.com>", "To": "the whole team:;"},
            reply_to=["r@example.com"],
        )
        message.attach_alternative("<img src='cid:pic'>", "text/html")
        message.attach_alternative("BEGIN:VCALENDAR", "text/calendar; method=REQUEST")
        message.attach("naïve.csv", "a,b\n1,2\n", "text/csv")
        message.attach("doc.pdf", b"%PDF", "application/pdf")
        picture = MIMEImage(PIXEL, "png")
        picture.add_header("Content-ID", "<pic>")
        message.attach(picture)
        forwarded = EmailMessage()
        forwarded["Subject"] = "the first"
        forwarded.set_content("line\n.dots\n")
        message.attach("first.eml", forwarded.as_string(), "message/rfc822")
        assert message.send() == 1
        mail = OutboundEmail.objects.get()
        assert (mail.message_id, mail.from_email) == ("mine@example.com", '"Desk" <desk@example.com>')
        post(mail.pk, smtp_line)
        assert smtp.recipients == ["a@example.com", "c@example.com", "b@example.com"]
        got = received(smtp.accepted[0][1])
        assert (str(got["To"]), str(got["X-A"])) == ("the whole team:;", "1")
        assert [
            (part.get_content_type(), part.get_filename(), part.get("Content-ID"))
            for part in got.walk()
            if not part.is_multipart() or part.get_content_type() == "message/rfc822"
        ] == [
            ("text/plain", None, None),
            ("text/html", None, None),
            ("image/png", None, "<pic>"),
            ("text/calendar", None, None),
            ("text/csv", "naïve.csv", None),
            ("application/pdf", "doc.pdf", None),
            ("message/rfc822", None, None),
            ("text/plain", None, None),
        ]
        parts = list(got.walk())
        assert [part.get_content() for part in parts if part.get_content_type() == "image/png"] == [PIXEL]
        assert parts[-1].get_content() == "line\n.dots\n"

    def test_is_what_send_mail_uses(self, smtp: SmtpServer, smtp_line: Line) -> None:
        assert django_mail.send_mail("Hello", "Hi", None, ["a@example.com"]) == 1
        mail = OutboundEmail.objects.get()
        assert (mail.from_email, mail.status) == ("", "pending")
        post(mail.pk, smtp_line)
        assert smtp.recipients == ["a@example.com"]

    def test_refuses_unless_told_to_be_silent(self) -> None:
        with pytest.raises(MailRefused):
            django_mail.send_mail("Hello", "Hi", None, ["a@exa mple.com"])
        assert django_mail.send_mail("Hello", "Hi", None, ["a@exa mple.com"], fail_silently=True) == 0
        assert not OutboundEmail.objects.exists()

    def test_sends_html_that_is_the_body(self) -> None:
        message = django_mail.EmailMessage("Hello", "<p>Hi</p>", None, ["a@example.com"])
        message.content_subtype = "html"
        assert (draft_of(message).text, draft_of(message).html) == ("", "<p>Hi</p>")

    def test_sends_nothing_to_nobody(self) -> None:
        assert QueuedEmailBackend().send_messages([django_mail.EmailMessage("Hello", "Hi")]) == 0


class TestWithoutBroker:
    pytestmark = pytest.mark.django_db(transaction=True)

    def test_costs_one_try(self, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
        nobody = "redis://127.0.0.1:1/0"
        tries: list[float] = []

        def try_nobody(patience: float) -> Connection:
            tries.append(patience)
            return Connection(nobody)

        monkeypatch.setattr(broker, "_rest_until", 0.0)
        monkeypatch.setattr(broker, "REST", 3600.0)
        monkeypatch.setattr(broker, "_here", lambda: (0, nobody))
        monkeypatch.setattr(broker, "_impatient", try_nobody)
        for number in range(20):
            send_email("Hello", "Hi", [f"p{number}@example.com"])
        assert len(tries) == 1
        monkeypatch.setattr(broker, "_rest_until", 0.0)
        assert len(outbound.due(limit=100, older_than=timedelta(0))) == 20


class TestTransaction:
    pytestmark = pytest.mark.django_db(transaction=True)

    def test_that_is_rolled_back_takes_the_mail_with_it(self) -> None:
        with transaction.atomic():
            send_email("Hello", "Hi", ["a@example.com"])
            transaction.set_rollback(True)
        assert not OutboundEmail.objects.exists()
        assert connection.in_atomic_block is False


def test_queue_takes_drafts() -> None:
    assert queue(outbound.Draft("Hello", "Hi", ["a@example.com"])).is_new
