"""Single mails through the API."""

from base64 import b64encode
from typing import Any

import pytest
from rest_framework.test import APIClient

from campaigns import outbound
from campaigns.models import OutboundEmail, OutboundRecipient
from campaigns.providers import Line
from tests.api_helpers import client_of, faults, operator, path_of, problem
from tests.mail_servers import SmtpServer
from users.models import User

pytestmark = pytest.mark.django_db

MAIL = {"subject": "Hello", "body": "Hi", "recipient_list": ["Asha <asha@example.com>", "ben@example.com"]}


def send(api: APIClient, **changes: Any) -> Any:
    return api.post(path_of("emails"), MAIL | changes)


class TestPost:
    def test_stores_the_mail_and_answers_at_once(self, api: APIClient, boss: User) -> None:
        answer = send(api, cc=["cy@example.com"])
        assert answer.status_code == 202
        document = answer.json()
        assert answer["Location"].endswith(path_of("emails", document["id"]))
        assert (document["status"], document["created_by"]) == ("pending", boss.pk)
        assert [(each["kind"], each["name"], each["email"]) for each in document["recipients"]] == [
            ("to", "Asha", "asha@example.com"),
            ("to", "", "ben@example.com"),
            ("cc", "", "cy@example.com"),
        ]

    def test_takes_files(self, api: APIClient) -> None:
        content = b64encode(b"%PDF").decode()
        answer = send(
            api,
            html="<img src='cid:pic'>",
            attachments=[
                {"name": "a.pdf", "content": content, "content_type": "application/pdf"},
                {"name": "p.png", "content": content, "content_type": "image/png", "content_id": "pic"},
            ],
        )
        assert answer.status_code == 202
        parts = OutboundEmail.objects.get().parts.order_by("id")
        assert [(part.kind, part.name, bytes(part.content)) for part in parts] == [
            ("attachment", "a.pdf", b"%PDF"),
            ("inline", "p.png", b"%PDF"),
        ]

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"recipient_list": []}, "recipient_list"),
            ({"recipient_list": ["a@example.com", "a\n@example.com"]}, "recipient_list.1"),
            ({"recipient_list": [f"p{n}@example.com" for n in range(10_000)]}, "recipient_list"),
            ({"headers": {"Bcc": "x@example.com"}}, "headers.Bcc"),
            ({"headers": {"X-A": 1}}, "headers"),
            ({"subject": "Hello\nthere"}, "subject"),
            ({"attachments": [{"name": "a", "content": "?"}]}, "attachments.0.content"),
            ({"to": ["x@example.com"]}, "to"),
            ({"body": "\0"}, "body"),
        ],
    )
    def test_names_what_is_wrong_and_stores_nothing(
        self, api: APIClient, changes: dict[str, Any], field: str
    ) -> None:
        assert list(faults(send(api, **changes))) == [field]
        assert not OutboundEmail.objects.exists()

    def test_is_for_operators_with_the_permission(self, db: None) -> None:
        problem(send(client_of(User.objects.create_user("somebody@example.com"))), 403)
        problem(send(client_of(operator(may=("view_outboundemail",)))), 403)
        assert send(client_of(operator("o@example.com", may=("add_outboundemail",)))).status_code == 202


class TestGet:
    def test_says_what_became_of_each(self, api: APIClient, smtp: SmtpServer, smtp_line: Line) -> None:
        smtp.rcpt = {"ben@example.com": "550 5.1.1 no such user"}
        mail_id = send(api).json()["id"]
        outbound.post(mail_id, owner="a test", line=smtp_line)
        document = api.get(path_of("emails", mail_id)).json()
        assert document["status"] == "failed"
        assert {each["email"]: (each["status"], each["reason"]) for each in document["recipients"]} == {
            "asha@example.com": ("sent", ""),
            "ben@example.com": ("failed", "RCPT TO: 550 5.1.1 no such user"),
        }
        assert "body" not in document

    def test_calls_a_mail_what_its_recipients_are_while_a_worker_writes(self, api: APIClient) -> None:
        """The answers are written first, and what follows from them when the worker gives the mail back."""
        made = send(api, recipient_list=["a@example.com", "b@example.com"]).json()["id"]
        for status, said in (("sent", "pending"), ("failed", "failed")):
            recipient = OutboundRecipient.objects.filter(status="pending").order_by("id")[:1]
            OutboundRecipient.objects.filter(id__in=recipient).update(status=status)
            assert api.get(path_of("emails", made)).json()["status"] == said

    def test_costs_little_while_nothing_changes(self, api: APIClient) -> None:
        mail_id = send(api).json()["id"]
        etag = api.get(path_of("emails", mail_id))["ETag"]
        assert api.get(path_of("emails", mail_id), headers={"If-None-Match": etag}).status_code == 304
        OutboundRecipient.objects.update(status="sent")
        assert api.get(path_of("emails", mail_id), headers={"If-None-Match": etag}).status_code == 200

    def test_lists_by_status_and_address(self, api: APIClient) -> None:
        send(api)
        found = api.get(path_of("emails"), {"status": "pending", "search": "ben@"}).json()
        assert found["count"] == 1
        assert api.get(path_of("emails"), {"status": "sent"}).json()["count"] == 0


class TestDecide:
    def test_tries_again_where_it_failed(self, api: APIClient, smtp: SmtpServer, smtp_line: Line) -> None:
        smtp.rcpt = {"ben@example.com": "550 5.1.1 no such user"}
        mail_id = send(api).json()["id"]
        outbound.post(mail_id, owner="a test", line=smtp_line)
        smtp.rcpt = {}
        answer = api.post(path_of("emails", mail_id, "decide/"), {"decision": "retry", "note": "mended"})
        assert answer.json()["status"] == "pending"
        outbound.post(mail_id, owner="a test", line=smtp_line)
        assert smtp.recipients == ["asha@example.com", "ben@example.com"]
        (decision,) = OutboundRecipient.objects.get(email="ben@example.com").decisions
        assert (decision["by"], decision["decision"], decision["note"]) == (
            "boss@example.com",
            "retry",
            "mended",
        )

    @pytest.mark.parametrize(
        ("decision", "status"), [("sent", "sent"), ("give_up", "failed"), ("send_again", "pending")]
    )
    def test_settles_what_is_unconfirmed(self, api: APIClient, decision: str, status: str) -> None:
        mail_id = send(api).json()["id"]
        OutboundRecipient.objects.update(status="unconfirmed", doubts=1)
        OutboundEmail.objects.update(status="unconfirmed")
        answer = api.post(path_of("emails", mail_id, "decide/"), {"decision": decision})
        assert answer.json()["status"] == status

    def test_is_the_last_word_on_what_was_in_doubt(
        self, api: APIClient, smtp: SmtpServer, smtp_line: Line
    ) -> None:
        mail_id = send(api, recipient_list=["ben@example.com"]).json()["id"]
        OutboundRecipient.objects.update(status="unconfirmed", doubts=1)
        OutboundEmail.objects.update(status="unconfirmed")
        api.post(path_of("emails", mail_id, "decide/"), {"decision": "send_again"})
        smtp.rcpt = {"ben@example.com": "550 5.1.1 no such user"}
        outbound.post(mail_id, owner="a test", line=smtp_line)
        assert api.get(path_of("emails", mail_id)).json()["status"] == "failed"

    def test_tries_nobody_again_to_whom_it_may_have_arrived(self, api: APIClient, smtp: SmtpServer) -> None:
        mail_id = send(api, recipient_list=["asha@example.com", "ben@example.com"]).json()["id"]
        OutboundRecipient.objects.update(status="failed")
        OutboundRecipient.objects.filter(email="ben@example.com").update(status="unconfirmed", doubts=1)
        OutboundEmail.objects.update(status="unconfirmed")
        address = path_of("emails", mail_id, "decide/")
        api.post(address, {"decision": "give_up"})
        assert api.post(address, {"decision": "retry"}).status_code == 200
        statuses = OutboundRecipient.objects.order_by("email").values_list("status", flat=True)
        assert list(statuses) == ["pending", "failed"]
        assert problem(api.post(address, {"decision": "retry"}), 409)["code"] == "nothing_to_decide"
        assert smtp.recipients == []

    def test_is_refused_where_there_is_nothing_to_decide(self, api: APIClient) -> None:
        mail_id = send(api).json()["id"]
        answer = api.post(path_of("emails", mail_id, "decide/"), {"decision": "sent"})
        assert problem(answer, 409)["code"] == "nothing_to_decide"
