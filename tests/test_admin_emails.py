"""Single mails in the admin."""

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from campaigns.mail import send_email
from campaigns.models import OutboundEmail, OutboundRecipient
from tests.admin_helpers import client_of, operator, said
from users.models import User

pytestmark = pytest.mark.django_db

LIST = "/admin/campaigns/outboundemail/"
BECOMES = {"sent": "sent", "send_again": "pending", "give_up": "failed"}


@pytest.fixture
def client(boss: User) -> Client:
    return client_of(boss)


@pytest.fixture
def mail(db: None) -> OutboundEmail:
    stored = send_email("Your new password", "a secret link", ["Asha <asha@example.com>", "ben@example.com"])
    return OutboundEmail.objects.get(pk=stored.id)


def put(mail: OutboundEmail, email: str, status: str) -> None:
    mail.recipients.filter(email=email).update(status=status)
    OutboundEmail.objects.update(status=status)


class TestList:
    def test_shows_status_and_recipients(self, client: Client, mail: OutboundEmail) -> None:
        page = client.get(LIST).text
        assert "asha@example.com, ben@example.com" in page
        assert '<span class="mailer-label mailer-neutral">pending</span>' in page

    def test_is_searched_by_address_and_subject(self, client: Client, mail: OutboundEmail) -> None:
        for words, found in (("BEN@", True), ("new pass", True), ("nobody", False)):
            assert ("Your new password" in client.get(LIST, {"q": words}).text) is found

    def test_is_filtered_by_status(self, client: Client, mail: OutboundEmail) -> None:
        assert "Your new password" not in client.get(LIST, {"status__exact": "sent"}).text
        assert "Your new password" in client.get(LIST, {"status__exact": "pending"}).text


class TestMail:
    def test_shows_what_became_of_each(self, client: Client, mail: OutboundEmail) -> None:
        put(mail, "ben@example.com", "failed")
        OutboundRecipient.objects.filter(email="ben@example.com").update(reason="550 no such user")
        page = client.get(f"{LIST}{mail.pk}/change/").text
        assert "550 no such user" in page
        assert "Try again…" in page
        assert "Give up…" not in page
        assert client.get(f"{LIST}{mail.pk}/content/").text.count("a secret link") == 1

    def test_is_read_by_superusers_and_its_sender_alone(self, mail: OutboundEmail) -> None:
        viewer = operator("view_outboundemail")
        page = client_of(viewer).get(f"{LIST}{mail.pk}/change/").text
        assert "Superusers, and whoever had it sent, can read it" in page
        assert "secret" not in page
        assert client_of(viewer).get(f"{LIST}{mail.pk}/content/").status_code == 403
        OutboundEmail.objects.update(created_by=viewer)
        assert client_of(viewer).get(f"{LIST}{mail.pk}/content/").status_code == 200


class TestDeciding:
    def test_tries_again_where_it_failed(self, client: Client, mail: OutboundEmail, boss: User) -> None:
        put(mail, "ben@example.com", "failed")
        answer = client.post(LIST, {"action": "retry", "_selected_action": [mail.pk]})
        asked = client.get(answer["Location"])
        assert "Try again: 1 mail" in asked.text
        done = client.post(f"{LIST}decide/", {"decision": "retry", "mail": [mail.pk], "note": "mended"})
        assert said(done) == ["Try again: 1 mail."]
        recipient = mail.recipients.get(email="ben@example.com")
        assert (recipient.status, recipient.attempts) == ("pending", 0)
        assert (recipient.decisions[0]["by"], recipient.decisions[0]["note"]) == (boss.email, "mended")

    @pytest.mark.parametrize("decision", BECOMES)
    def test_settles_what_is_unconfirmed(self, client: Client, mail: OutboundEmail, decision: str) -> None:
        put(mail, "ben@example.com", "unconfirmed")
        client.post(f"{LIST}decide/", {"decision": decision, "mail": [mail.pk]})
        assert mail.recipients.get(email="ben@example.com").status == BECOMES[decision]
        assert mail.recipients.get(email="asha@example.com").status == "pending"

    def test_says_when_there_is_nothing_to_decide(self, client: Client, mail: OutboundEmail) -> None:
        nothing = client.get(f"{LIST}confirm/?decision=sent&mail={mail.pk}")
        assert said(nothing) == ["None of these mails has a recipient that is unconfirmed."]
        answer = client.post(f"{LIST}decide/", {"decision": "sent", "mail": [mail.pk]})
        assert said(answer)[-1] == "None of these mails has a recipient that is unconfirmed."
        unreadable = client.get(f"{LIST}confirm/?decision=x")
        assert said(unreadable)[-1] == "Choose mails, and what is to become of them."

    def test_is_for_those_with_the_permission(self, mail: OutboundEmail) -> None:
        viewer = operator("view_outboundemail")
        put(mail, "ben@example.com", "failed")
        body = {"decision": "retry", "mail": [mail.pk]}
        assert client_of(viewer).post(f"{LIST}decide/", body).status_code == 403
        viewer.user_permissions.add(Permission.objects.get(codename="change_outboundemail"))
        assert client_of(User.objects.get(pk=viewer.pk)).post(f"{LIST}decide/", body).status_code == 302
