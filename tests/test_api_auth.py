"""Who gets in, how often they may try, and what strangers are told."""

from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from rest_framework.test import APIClient

from campaigns.models import Campaign, CampaignStatus
from tests.api_helpers import API, PASSWORD, client_of, faults, operator, path_of, problem
from users.models import User

pytestmark = pytest.mark.django_db

TOKEN = f"{API}/auth/token/"


@pytest.fixture(autouse=True)
def _nobody_has_tried() -> None:
    cache.clear()


@pytest.fixture
def user(db: None) -> User:
    return User.objects.create_user("Asha@Example.com", PASSWORD, is_staff=True, is_superuser=True)


def sign_in(email: str = "asha@example.com", password: str = PASSWORD) -> Any:
    return APIClient().post(TOKEN, {"email": email, "password": password})


def bearer(token: str) -> APIClient:
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


class TestToken:
    def test_is_given_whatever_the_case_of_the_address(self, user: User) -> None:
        for email in ("asha@example.com", "ASHA@EXAMPLE.COM", "Asha@Example.com"):
            answer = sign_in(email)
            assert answer.status_code == 200
            assert answer.json().keys() == {"access", "refresh"}

    def test_opens_the_api(self, user: User) -> None:
        answer = bearer(sign_in().json()["access"]).get(f"{API}/auth/me/")
        assert answer.json() == {
            "id": user.pk,
            "email": "Asha@example.com",
            "name": "",
            "timezone": "Asia/Kolkata",
            "notify_completed": True,
            "notify_failed": True,
            "is_staff": True,
        }

    def test_is_refused_for_a_wrong_password(self, user: User) -> None:
        answer = sign_in(password="wrong")
        assert problem(answer, 401)["code"] == "no_active_account"
        assert answer["WWW-Authenticate"] == 'Bearer realm="api"'

    def test_is_refused_to_an_account_that_is_switched_off(self, user: User) -> None:
        User.objects.update(is_active=False)
        problem(sign_in(), 401)

    def test_names_the_field_that_is_missing(self, user: User) -> None:
        assert faults(APIClient().post(TOKEN, {"email": "asha@example.com"})) == {
            "password": "This field is required."
        }

    def test_is_worth_nothing_after_a_new_password(self, user: User) -> None:
        tokens = sign_in().json()
        user.set_password("another one entirely")
        user.save()
        problem(bearer(tokens["access"]).get(f"{API}/auth/me/"), 401)
        renewed = APIClient().post(f"{TOKEN}refresh/", {"refresh": tokens["refresh"]})
        problem(renewed, 401)

    def test_is_refused_when_forged(self, user: User) -> None:
        answer = bearer("not.a.token").get(f"{API}/auth/me/")
        assert problem(answer, 401)["code"] == "token_not_valid"
        assert answer["WWW-Authenticate"] == 'Bearer realm="api"'


class TestRefresh:
    def test_gives_a_new_access_token(self, user: User) -> None:
        answer = APIClient().post(f"{TOKEN}refresh/", {"refresh": sign_in().json()["refresh"]})
        assert bearer(answer.json()["access"]).get(f"{API}/auth/me/").status_code == 200

    def test_is_refused_when_the_account_is_gone(self, user: User) -> None:
        tokens = sign_in().json()
        user.delete()
        answer = APIClient(raise_request_exception=False).post(
            f"{TOKEN}refresh/", {"refresh": tokens["refresh"]}
        )
        assert problem(answer, 401)["code"] == "token_not_valid"


class TestThrottle:
    def test_lets_ten_logins_a_minute_through(self, user: User) -> None:
        assert [sign_in(password="wrong").status_code for _ in range(10)] == [401] * 10
        answer = sign_in()
        assert problem(answer, 429)["code"] == "throttled"
        assert 0 < int(answer["Retry-After"]) <= 60

    def test_cannot_be_evaded_by_a_made_up_forwarded_for(self, user: User) -> None:
        statuses = [
            APIClient(headers={"X-Forwarded-For": f"203.0.113.{n}"})
            .post(TOKEN, {"email": "asha@example.com", "password": "wrong"})
            .status_code
            for n in range(11)
        ]
        assert statuses == [401] * 10 + [429]

    def test_lets_people_in_while_redis_is_away(
        self, user: User, settings: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        nowhere = {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1/0"}
        settings.CACHES = {"default": nowhere}
        assert sign_in().status_code == 200
        assert "Redis is away" in caplog.text


class TestMe:
    def test_changes_name_and_zone(self, user: User) -> None:
        answer = client_of(user).patch(f"{API}/auth/me/", {"name": "Asha", "timezone": "Europe/Paris"})
        assert answer.status_code == 200
        user.refresh_from_db()
        assert (user.name, user.timezone) == ("Asha", "Europe/Paris")

    def test_changes_nothing_else(self, user: User) -> None:
        User.objects.update(is_staff=False, is_superuser=False)
        client_of(User.objects.get()).patch(
            f"{API}/auth/me/", {"is_staff": True, "is_superuser": True, "email": "x@example.com"}
        )
        user.refresh_from_db()
        assert (user.is_staff, user.is_superuser, user.email) == (False, False, "Asha@example.com")

    def test_refuses_an_unknown_zone(self, user: User) -> None:
        answer = client_of(user).patch(f"{API}/auth/me/", {"name": "Asha", "timezone": "Mars/Olympus"})
        assert faults(answer).keys() == {"timezone"}
        user.refresh_from_db()
        assert (user.name, user.timezone) == ("", settings.TIME_ZONE)

    def test_refuses_strangers(self, db: None) -> None:
        answer = APIClient().get(f"{API}/auth/me/")
        assert problem(answer, 401)["code"] == "not_authenticated"
        assert answer["WWW-Authenticate"] == 'Bearer realm="api"'


class TestSession:
    def test_opens_the_api_too(self, user: User) -> None:
        client = APIClient()
        assert client.login(username="asha@example.com", password=PASSWORD)
        assert client.get(path_of("campaigns")).status_code == 200

    def test_needs_the_csrf_token_to_write(self, user: User) -> None:
        client = APIClient(enforce_csrf_checks=True)
        client.login(username="asha@example.com", password=PASSWORD)
        problem(client.post(path_of("audiences"), {"name": "Friends"}), 403)


class TestPermissions:
    def test_keep_everybody_but_operators_out(self, db: None) -> None:
        somebody = client_of(User.objects.create_user("somebody@example.com", PASSWORD))
        names = ("audiences", "recipients", "imports", "templates", "campaigns", "deliveries", "suppressions")
        for name in names:
            problem(somebody.get(path_of(name)), 403)
            problem(APIClient().get(path_of(name)), 401)
        assert somebody.get(f"{API}/auth/me/").status_code == 200

    def test_let_one_who_may_view_read_and_nothing_else(self, campaign: Campaign) -> None:
        viewer = client_of(operator(may=("view_campaign",)))
        assert viewer.get(path_of("campaigns", campaign.pk)).status_code == 200
        assert viewer.get(path_of("campaigns", campaign.pk, "status/")).status_code == 200
        assert viewer.get(path_of("campaigns", "running", "status/")).status_code == 200
        for action in ("schedule", "unschedule", "start", "pause", "resume", "cancel", "test"):
            problem(viewer.post(path_of("campaigns", campaign.pk, f"{action}/")), 403)
        problem(viewer.patch(path_of("campaigns", campaign.pk), {"name": "x"}), 403)
        problem(viewer.delete(path_of("campaigns", campaign.pk)), 403)
        problem(viewer.get(path_of("audiences")), 403)
        campaign.refresh_from_db()
        assert (campaign.name, campaign.status) == ("May", CampaignStatus.DRAFT)

    def test_let_one_who_may_change_campaigns_cancel_them(self, campaign: Campaign) -> None:
        changer = client_of(operator(may=("change_campaign",)))
        assert changer.post(path_of("campaigns", campaign.pk, "cancel/")).status_code == 200
        problem(changer.get(path_of("campaigns", campaign.pk)), 403)

    def test_tell_apart_adding_and_deleting(self, db: None) -> None:
        adder = client_of(operator(may=("add_audience",)))
        made = adder.post(path_of("audiences"), {"name": "Friends"})
        assert made.status_code == 201
        problem(adder.delete(path_of("audiences", made.json()["id"])), 403)
