"""Accounts: who registers, who gets a new password, what stays of one that is deleted."""

import re
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Permission
from django.core import mail
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django import Settings
from rest_framework.test import APIClient

from campaigns.models import (
    Audience,
    Campaign,
    Decision,
    DeliveryLog,
    OutboundEmail,
    OutboundRecipient,
    Settlement,
)
from schedules import mirrors
from tests.api_helpers import API, PASSWORD, client_of, faults, problem
from tests.campaign_helpers import clock, started
from users import accounts
from users.models import User

pytestmark = pytest.mark.django_db

NEW = "a whole new sentence"
REGISTER, TOKEN, USERS = f"{API}/auth/register/", f"{API}/auth/token/", f"{API}/users/"
RESET = f"{API}/auth/password/reset/"


@pytest.fixture(autouse=True)
def _nobody_has_tried() -> None:
    cache.clear()


@pytest.fixture
def asha(db: None) -> User:
    return User.objects.create_user("asha@example.com", PASSWORD, name="Asha")


def post(address: str, body: dict[str, Any], api: APIClient | None = None) -> Any:
    return (api or APIClient(raise_request_exception=False)).post(address, body)


def bearer(token: str) -> APIClient:
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def tokens(password: str = PASSWORD, status: int = 200) -> dict[str, str]:
    answer = post(TOKEN, {"email": "asha@example.com", "password": password})
    assert answer.status_code == status
    found: dict[str, str] = answer.json()
    return found


class TestRegister:
    BODY = {"email": "asha@Example.com", "password": PASSWORD, "timezone": "Europe/Paris"}

    def test_makes_an_account_that_can_sign_in_at_once(self) -> None:
        answer = post(REGISTER, self.BODY)
        assert answer.status_code == 201
        assert answer.json() == {
            "id": User.objects.get().pk,
            "email": "asha@example.com",
            "name": "",
            "timezone": "Europe/Paris",
            "notify_completed": True,
            "notify_failed": True,
            "is_staff": False,
        }
        assert tokens().keys() == {"access", "refresh"}

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"email": "ASHA@example.com"}, "email"),
            ({"email": "a\n@example.com"}, "email"),
            ({"email": ""}, "email"),
            ({"password": "12345678"}, "password"),
            ({"password": "x" * 1001}, "password"),
            ({"timezone": "Mars/Olympus"}, "timezone"),
            ({"name": "Asha\nBcc: all@example.com"}, "name"),
            ({"is_staff": True}, "is_staff"),
        ],
    )
    def test_names_what_is_wrong(self, asha: User, changes: dict[str, Any], field: str) -> None:
        body = {"email": "new@example.com", "password": PASSWORD} | changes
        assert list(faults(post(REGISTER, body))) == [field]
        assert User.objects.count() == 1

    def test_is_refused_where_it_is_closed(self, settings: Settings) -> None:
        settings.REGISTRATION_OPEN = False
        problem(post(REGISTER, self.BODY), 403)
        assert not User.objects.exists()

    def test_is_throttled(self) -> None:
        statuses = [post(REGISTER, {}).status_code for _ in range(21)]
        assert statuses == [400] * 20 + [429]


@pytest.mark.parametrize("email", ["adm\u0131n@example.com", "\u017fam@example.com", "a@localhost", "a@b.c"])
class TestBadAddress:
    """A dotless i and a long s are I and S in upper case: they looked like somebody else's address."""

    def test_locks_nobody_out(self, email: str) -> None:
        for name in ("admin", "sam"):
            User.objects.create_user(f"{name}@example.com", PASSWORD)
        # as if it had been stored before addresses were held to the rules
        User.objects.bulk_create([User(email=email)])
        for name in ("admin", "sam"):
            answer = post(TOKEN, {"email": f"{name.upper()}@example.com", "password": PASSWORD})
            assert answer.status_code == 200
            post(RESET, {"email": f"{name}@example.com"})
        assert [each.to for each in mail.outbox] == [["admin@example.com"], ["sam@example.com"]]

    def test_is_refused_wherever_accounts_are_made_or_changed(
        self, api: APIClient, asha: User, email: str
    ) -> None:
        before = set(User.objects.values_list("email", flat=True))
        address = f"{USERS}{asha.pk}/"
        assert faults(post(REGISTER, {"email": email, "password": PASSWORD})).keys() == {"email"}
        assert faults(post(USERS, {"email": email}, api)).keys() == {"email"}
        assert faults(api.patch(address, {"email": email})).keys() == {"email"}
        with pytest.raises(CommandError):
            call_command("createsuperuser", email=email, interactive=False, stdout=StringIO())
        assert set(User.objects.values_list("email", flat=True)) == before

    def test_is_refused_by_the_admin(self, admin_client: Client, asha: User, email: str) -> None:
        new = {"email": email, "timezone": "UTC", "usable_password": "false"}
        changed = {"email": email, "timezone": "UTC", "is_active": "on"}
        for address, body in (("add/", new), (f"{asha.pk}/change/", changed)):
            answer = admin_client.post(f"/admin/users/user/{address}", body)
            assert list(answer.context["adminform"].form.errors) == ["email"]
        asha.refresh_from_db()
        assert asha.email == "asha@example.com"


class TestInternationalAddress:
    def test_is_stored_and_found_as_it_is_mailed_to(self, api: APIClient) -> None:
        made = post(REGISTER, {"email": "asha@ex\u00e4mple.com", "password": PASSWORD})
        assert made.json()["email"] == "asha@xn--exmple-cua.com"
        for email in ("asha@EX\u00c4MPLE.com", "asha@xn--exmple-cua.com"):
            assert post(TOKEN, {"email": email, "password": PASSWORD}).status_code == 200
            assert faults(post(USERS, {"email": email}, api)).keys() == {"email"}


class TestMirroredAudience:
    def test_is_not_taken_for_one_that_looks_alike(self, db: None) -> None:
        other = Audience.objects.create(name="U\u017fers with schedules")
        assert mirrors.audience().pk != other.pk
        assert mirrors.audience() == mirrors.audience()


class TestSignOut:
    def test_ends_the_refresh_token(self, asha: User) -> None:
        given = tokens()
        answer = post(f"{API}/auth/logout/", {"refresh": given["refresh"]}, bearer(given["access"]))
        assert answer.status_code == 204
        problem(post(f"{TOKEN}refresh/", {"refresh": given["refresh"]}), 401)
        problem(post(f"{API}/auth/logout/", {"refresh": given["refresh"]}), 401)

    def test_needs_a_token_or_a_session(self, asha: User) -> None:
        assert faults(post(f"{API}/auth/logout/", {})).keys() == {"refresh"}
        problem(post(f"{API}/auth/logout/", {"refresh": "nonsense"}), 401)


class TestOldTokens:
    def test_are_forgotten_when_they_have_run_out(self, asha: User) -> None:
        post(f"{TOKEN}refresh/", {"refresh": tokens()["refresh"]})
        assert accounts.forget_old_tokens(now=clock()) == 0
        assert accounts.forget_old_tokens(now=clock() + timedelta(days=8)) == 1


class TestRefresh:
    def test_is_good_once(self, asha: User) -> None:
        first = tokens()["refresh"]
        second = post(f"{TOKEN}refresh/", {"refresh": first}).json()
        assert second.keys() == {"access", "refresh"}
        problem(post(f"{TOKEN}refresh/", {"refresh": first}), 401)
        assert post(f"{TOKEN}refresh/", {"refresh": second["refresh"]}).status_code == 200


class TestSession:
    def test_is_begun_and_ended(self, asha: User) -> None:
        browser = APIClient(enforce_csrf_checks=True)
        answer = browser.post(f"{API}/auth/session/", {"email": "Asha@example.com", "password": PASSWORD})
        assert (answer.status_code, answer.json()["email"]) == (200, "asha@example.com")
        assert browser.get(f"{API}/auth/me/").status_code == 200
        problem(browser.post(f"{API}/auth/logout/", {}), 403)
        csrf = browser.cookies["csrftoken"].value
        assert browser.post(f"{API}/auth/logout/", {}, headers={"X-CSRFToken": csrf}).status_code == 204
        problem(browser.get(f"{API}/auth/me/"), 401)

    def test_is_refused_for_a_wrong_password(self, asha: User) -> None:
        answer = post(f"{API}/auth/session/", {"email": "asha@example.com", "password": "wrong"})
        assert problem(answer, 401)["code"] == "no_active_account"

    def test_counts_with_the_other_logins(self, asha: User) -> None:
        wrong = {"email": "asha@example.com", "password": "wrong"}
        statuses = [post(f"{API}/auth/session/", wrong).status_code for _ in range(5)]
        statuses += [post(TOKEN, wrong).status_code for _ in range(5)]
        assert statuses == [401] * 10
        page = Client().post("/admin/login/", {"username": "asha@example.com", "password": "wrong"})
        assert (page.status_code, page["Retry-After"].isdecimal()) == (429, True)
        assert b"too often" in page.content


class TestProfile:
    def test_says_of_what_to_be_told(self, asha: User) -> None:
        client_of(asha).patch(f"{API}/auth/me/", {"notify_completed": False})
        asha.refresh_from_db()
        assert (asha.notify_completed, asha.notify_failed) == (False, True)

    def test_has_a_name_of_one_line(self, asha: User) -> None:
        answer = client_of(asha).patch(f"{API}/auth/me/", {"name": "Asha\r\nof the hills"})
        assert faults(answer).keys() == {"name"}


class TestChange:
    def test_ends_every_token(self, asha: User) -> None:
        given = tokens()
        body = {"current_password": PASSWORD, "password": NEW}
        answer = post(f"{API}/auth/password/change/", body, bearer(given["access"]))
        assert answer.status_code == 204
        problem(bearer(given["access"]).get(f"{API}/auth/me/"), 401)
        problem(post(f"{TOKEN}refresh/", {"refresh": given["refresh"]}), 401)
        fresh = tokens(NEW)["refresh"]
        assert post(f"{TOKEN}refresh/", {"refresh": fresh}).status_code == 200

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"current_password": "wrong", "password": NEW}, "current_password"),
            ({"current_password": PASSWORD, "password": "asha@example.com"}, "password"),
        ],
    )
    def test_names_what_is_wrong(self, asha: User, body: dict[str, str], field: str) -> None:
        assert list(faults(post(f"{API}/auth/password/change/", body, client_of(asha)))) == [field]
        tokens()


def link(text: str) -> tuple[str, str, str]:
    """Return the address in the mail, with what the API takes instead."""
    found = re.search(r"(http\S+)/accounts/password/([^/]+)/([^/]+)/", text)
    assert found
    return f"/accounts/password/{found[2]}/{found[3]}/", found[2], found[3]


class TestReset:
    def test_by_mail_sets_a_new_password_and_ends_everything(self, asha: User) -> None:
        before = tokens()
        answer = post(RESET, {"email": "Asha@Example.com"})
        assert answer.status_code == 202
        (sent,) = mail.outbox
        assert sent.to == ["asha@example.com"]
        _, uid, token = link(str(sent.body))
        body = {"uid": uid, "token": token, "password": NEW}
        assert post(f"{RESET}confirm/", body).status_code == 204
        problem(bearer(before["access"]).get(f"{API}/auth/me/"), 401)
        tokens(NEW)
        assert faults(post(f"{RESET}confirm/", body)).keys() == {"token"}

    def test_answers_the_same_for_an_address_without_an_account(self, asha: User) -> None:
        answers = [post(RESET, {"email": f"{name}@example.com"}) for name in ("asha", "none")]
        assert [(answer.status_code, answer.json()["email"]) for answer in answers] == [
            (202, "asha@example.com"),
            (202, "none@example.com"),
        ]
        assert len(mail.outbox) == 1

    def test_answers_the_same_when_the_address_cannot_be_mailed(self, settings: Settings) -> None:
        settings.EMAIL_BACKEND = "campaigns.mail.QueuedEmailBackend"
        User.objects.bulk_create([User(email="asha..b@example.com", password=make_password(PASSWORD))])
        accounts.send_reset_link("asha..b@example.com")
        assert not OutboundEmail.objects.exists()

    def test_mails_an_account_once_a_minute(self, asha: User) -> None:
        for _ in range(3):
            post(RESET, {"email": "asha@example.com"})
        assert len(mail.outbox) == 1

    @pytest.mark.parametrize("changes", [{"uid": "x"}, {"uid": "////"}, {"token": "x"}, {"uid": "OTk5OTk5"}])
    def test_takes_no_made_up_link(self, asha: User, changes: dict[str, str]) -> None:
        post(RESET, {"email": "asha@example.com"})
        _, uid, token = link(str(mail.outbox[0].body))
        body = {"uid": uid, "token": token, "password": NEW} | changes
        assert faults(post(f"{RESET}confirm/", body)).keys() == {"token"}
        tokens()

    def test_takes_no_weak_password(self, asha: User) -> None:
        post(RESET, {"email": "asha@example.com"})
        _, uid, token = link(str(mail.outbox[0].body))
        answer = post(f"{RESET}confirm/", {"uid": uid, "token": token, "password": "12345678"})
        assert faults(answer).keys() == {"password"}

    def test_mails_nobody_who_is_switched_off(self, asha: User) -> None:
        User.objects.update(is_active=False)
        post(RESET, {"email": "asha@example.com"})
        assert not mail.outbox

    def test_is_queued_like_any_mail(self, asha: User, settings: Settings) -> None:
        settings.EMAIL_BACKEND = "campaigns.mail.QueuedEmailBackend"
        post(RESET, {"email": "asha@example.com"})
        stored = OutboundEmail.objects.get()
        assert (stored.subject, stored.status) == ("Set a new password", "pending")
        assert "Set a new password</a>" in stored.html
        assert stored.recipients.get().email == "asha@example.com"


class TestPages:
    def test_lead_from_the_login_to_a_new_password(self, asha: User) -> None:
        browser = Client()
        assert b'href="/accounts/password/"' in browser.get("/admin/login/").content
        assert b"Forgotten password" in browser.get("/accounts/password/").content
        answer = browser.post("/accounts/password/", {"email": "asha@example.com"}, follow=True)
        assert b"Look into your mailbox" in answer.content
        address, _, _ = link(str(mail.outbox[0].body))
        page = browser.get(address, follow=True)
        assert b"New password" in page.content
        form = page.redirect_chain[-1][0]
        weak = browser.post(form, {"new_password1": "12345678", "new_password2": "12345678"})
        assert b"too common" in weak.content
        done = browser.post(form, {"new_password1": NEW, "new_password2": NEW}, follow=True)
        assert b"Your new password is set" in done.content
        tokens(NEW)
        assert b"This link is good no more" in Client().get(address, follow=True).content

    def test_say_the_same_for_an_address_without_an_account(self, db: None) -> None:
        answer = Client().post("/accounts/password/", {"email": "none@example.com"}, follow=True)
        assert b"Look into your mailbox" in answer.content
        assert not mail.outbox


class TestUsers:
    def test_are_created_found_changed_and_deleted(self, api: APIClient) -> None:
        made = post(USERS, {"email": "New@Example.com", "name": "New"}, api)
        assert made.status_code == 201
        address = made["Location"].removeprefix("http://testserver")
        assert "password" not in made.json()
        assert api.get(USERS, {"search": "new@"}).json()["count"] == 1
        assert api.patch(address, {"is_active": False}).json()["is_active"] is False
        assert api.delete(address).status_code == 204
        problem(api.get(address), 404)

    def test_are_unique_whatever_the_case(self, api: APIClient, asha: User) -> None:
        assert faults(post(USERS, {"email": "ASHA@example.com"}, api)).keys() == {"email"}
        other = User.objects.create_user("other@example.com")
        assert faults(api.patch(f"{USERS}{other.pk}/", {"email": "Asha@example.com"})).keys() == {"email"}

    def test_without_a_password_may_ask_for_a_link(self, api: APIClient) -> None:
        post(USERS, {"email": "new@example.com"}, api)
        post(RESET, {"email": "new@example.com"})
        assert len(mail.outbox) == 1

    def test_are_for_operators_with_the_permission(self, asha: User) -> None:
        problem(client_of(asha).get(USERS), 403)
        problem(APIClient().get(USERS), 401)
        problem(client_of(User.objects.create_user("o@example.com", is_staff=True)).get(USERS), 403)

    def test_with_rights_are_for_superusers(self, boss: User, asha: User) -> None:
        operator = User.objects.create_user("o@example.com", is_staff=True)
        operator.user_permissions.set(
            Permission.objects.filter(codename__in=("view_user", "add_user", "change_user", "delete_user"))
        )
        api = client_of(operator)
        problem(post(USERS, {"email": "new@example.com", "is_staff": True}, api), 403)
        problem(api.patch(f"{USERS}{asha.pk}/", {"is_superuser": True}), 403)
        problem(api.patch(f"{USERS}{operator.pk}/", {"is_superuser": True}), 403)
        problem(api.patch(f"{USERS}{boss.pk}/", {"password": NEW}), 403)
        problem(api.delete(f"{USERS}{boss.pk}/"), 403)
        assert api.patch(f"{USERS}{asha.pk}/", {"name": "A."}).status_code == 200
        assert api.patch(f"{USERS}{operator.pk}/", {"name": "O."}).status_code == 200

    def test_keep_their_last_superuser(self, api: APIClient, boss: User) -> None:
        assert problem(api.delete(f"{USERS}{boss.pk}/"), 409)["code"] == "last_superuser"
        for change in ({"is_superuser": False}, {"is_active": False}, {"is_staff": False}):
            answer = api.patch(f"{USERS}{boss.pk}/", change)
            assert problem(answer, 409)["code"] == "last_superuser"
        other = User.objects.create_superuser("other@example.com")
        assert api.patch(f"{USERS}{other.pk}/", {"is_superuser": False}).status_code == 200
        boss.refresh_from_db()
        assert (boss.is_superuser, boss.is_active, boss.is_staff) == (True, True, True)

    def test_keep_their_last_superuser_in_the_admin(self, admin_client: Client, admin_user: User) -> None:
        page = f"/admin/users/user/{admin_user.pk}/"
        body = {"email": admin_user.email, "timezone": "UTC", "is_active": "on", "is_staff": "on"}
        answer = admin_client.post(f"{page}change/", body)
        assert list(answer.context["adminform"].form.errors) == ["__all__"]
        assert admin_client.post(f"{page}delete/", {"post": "yes"}).status_code == 403
        admin_user.refresh_from_db()
        assert (admin_user.is_superuser, admin_user.is_active) == (True, True)
        User.objects.create_superuser("other@example.com")
        assert admin_client.post(f"{page}change/", body).status_code == 302
        admin_user.refresh_from_db()
        assert admin_user.is_superuser is False

    def test_are_changed_in_nothing_but_what_is_named(self, asha: User) -> None:
        stale = User.objects.get(pk=asha.pk)
        accounts.change(asha, password=NEW, timezone="Europe/Paris")
        accounts.change(stale, name="A.")
        stored = User.objects.get(pk=asha.pk)
        assert (stored.name, stored.timezone, stored.check_password(NEW)) == ("A.", "Europe/Paris", True)


class TestRegisteringAgain:
    body = {"email": "new@example.com", "password": PASSWORD}
    key = {"Idempotency-Key": "k-1"}

    def again(self, **changes: str) -> Any:
        api = APIClient(raise_request_exception=False)
        return api.post(REGISTER, {**self.body, **changes}, headers=self.key)

    def test_under_the_same_key_is_answered_as_the_first_time(self) -> None:
        first, second = self.again(), self.again()
        assert (first.status_code, second.status_code) == (201, 201)
        assert (second.content, second["Idempotent-Replayed"]) == (first.content, "true")
        assert User.objects.filter(email="new@example.com").count() == 1

    @pytest.mark.parametrize(
        "changes", [{"password": NEW}, {"name": "Mallory"}, {"email": "NEW@example.com"}]
    )
    def test_with_anything_else_is_refused_as_it_would_be_without_a_key(
        self, changes: dict[str, str]
    ) -> None:
        assert self.again().status_code == 201
        assert faults(self.again(**changes)) == {"email": "A user with this e-mail address exists already."}

    def test_with_what_was_refused_is_judged_anew(self) -> None:
        assert list(faults(self.again(password="short"))) == ["password"]
        assert self.again().status_code == 201

    def test_under_what_is_no_key_makes_nothing(self) -> None:
        api = APIClient(raise_request_exception=False)
        problem(api.post(REGISTER, self.body, headers={"Idempotency-Key": "é"}), 400)
        assert not User.objects.exists()


class TestAddress:
    def test_that_cannot_be_is_told_why(self) -> None:
        body = {"email": "new@example.com\nother@example.com", "password": PASSWORD}
        assert faults(post(REGISTER, body)) == {"email": "The address contains a line break."}


class TestDeleted:
    def test_account_is_forgotten_and_every_count_stays(
        self, api: APIClient, asha: User, campaign: Campaign
    ) -> None:
        started(campaign)
        Campaign.objects.update(created_by=asha)
        DeliveryLog.objects.filter(email="p0@example.com").update(status="sent")
        delivery = DeliveryLog.objects.get(email="p0@example.com")
        Settlement.objects.create(
            delivery=delivery,
            decision=Decision.SENT,
            decided_by=asha,
            decided_by_email=asha.email,
            decided_at=clock(),
        )
        single = OutboundEmail.objects.create(created_by=asha, fingerprint="", message_id="m", subject="s")
        OutboundRecipient.objects.create(
            mail=single,
            kind="to",
            email="x@example.com",
            decisions=[{"decision": "sent", "by": asha.email, "at": "", "note": ""}],
        )
        rows = list(DeliveryLog.objects.order_by("id").values())
        assert api.delete(f"{USERS}{asha.pk}/").status_code == 204
        assert list(DeliveryLog.objects.order_by("id").values()) == rows
        campaign.refresh_from_db()
        single.refresh_from_db()
        assert (campaign.created_by, single.created_by) == (None, None)
        assert Settlement.objects.get().decided_by_email == f"user-{asha.pk}@deleted.invalid"
        (decision,) = OutboundRecipient.objects.get().decisions
        assert decision["by"] == f"user-{asha.pk}@deleted.invalid"
