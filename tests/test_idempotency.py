"""A POST that is repeated under its Idempotency-Key is done once."""

import subprocess
import sys
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from campaigns.models import Audience, Campaign, EmailTemplate, ImportJob, OutboundEmail
from tests.api_helpers import client_of, faults, path_of, problem
from tests.workers import environment
from users import idempotency
from users.models import KeptAnswer, User

pytestmark = pytest.mark.django_db


def create(api: APIClient, key: str = "k-1", name: str = "Friends") -> Any:
    return api.post(path_of("audiences"), {"name": name}, headers={"Idempotency-Key": key})


class TestReplay:
    def test_gives_the_first_answer_again(self, api: APIClient) -> None:
        first, again = create(api), create(api)
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.content == again.content
        assert first["Location"] == again["Location"]
        assert first["Content-Type"] == again["Content-Type"]
        assert ("Idempotent-Replayed" in first, again["Idempotent-Replayed"]) == (False, "true")
        assert Audience.objects.count() == 1

    def test_takes_a_key_in_quotes_for_the_same(self, api: APIClient) -> None:
        create(api, "k-1")
        assert create(api, '"k-1"')["Idempotent-Replayed"] == "true"

    def test_takes_the_short_address_for_the_same(self, api: APIClient) -> None:
        create(api)
        again = api.post("/api/audiences/", {"name": "Friends"}, headers={"Idempotency-Key": "k-1"})
        assert again["Idempotent-Replayed"] == "true"

    def test_keeps_nothing_that_a_body_could_be_guessed_by(self, api: APIClient, settings: Settings) -> None:
        create(api, "k-1")
        settings.SECRET_KEY = "another"
        create(api, "k-2", name="Others")
        Audience.objects.all().delete()
        KeptAnswer.objects.filter(key="k-2").delete()
        create(api, "k-2")
        first, second = KeptAnswer.objects.order_by("key")
        assert first.fingerprint != second.fingerprint

    def test_ends_after_a_day(self, api: APIClient) -> None:
        create(api)
        KeptAnswer.objects.update(kept_at=timezone.now() - idempotency.KEPT_FOR - timedelta(seconds=1))
        problem(create(api), 400)  # the name is taken
        assert idempotency.forget_old(now=timezone.now()) == 1
        assert create(api, name="Others").status_code == 201

    def test_is_for_the_same_user_only(self, api: APIClient) -> None:
        create(api)
        other = client_of(User.objects.create_superuser("other@example.com"))
        assert create(other, name="Others").status_code == 201
        assert Audience.objects.count() == 2


class TestRefusal:
    def test_of_another_body(self, api: APIClient) -> None:
        create(api)
        assert problem(create(api, name="Others"), 422)["code"] == "idempotency_key_reused"
        assert Audience.objects.count() == 1

    def test_of_another_address(self, api: APIClient) -> None:
        create(api)
        answer = api.post(path_of("suppressions"), {"name": "Friends"}, headers={"Idempotency-Key": "k-1"})
        problem(answer, 422)

    @pytest.mark.parametrize("key", ["", '""', "k" * 256, "naïve", "a\tb"])
    def test_of_what_is_no_key(self, api: APIClient, key: str) -> None:
        answer = api.post(path_of("audiences"), {"name": "Friends"}, HTTP_IDEMPOTENCY_KEY=key)
        assert faults(answer).keys() == {"Idempotency-Key"}
        assert not Audience.objects.exists()

    def test_is_not_kept_itself(self, api: APIClient) -> None:
        problem(create(api, name=""), 400)
        assert create(api).status_code == 201


class TestAll:
    def test_that_create_take_the_key(
        self, api: APIClient, audience: Audience, template: EmailTemplate
    ) -> None:
        bodies: dict[str, dict[str, Any]] = {
            "audiences": {"name": "New"},
            "recipients": {"audience": audience.pk, "email": "new@example.com"},
            "templates": {"name": "New", "subject": "Hi", "html": "<p>Hi</p>"},
            "campaigns": {"name": "New", "audience": audience.pk, "template": template.pk},
            "suppressions": {"email": "new@example.com"},
            "emails": {"subject": "Hi", "body": "Hi", "recipient_list": ["a@example.com"]},
        }
        for name, body in bodies.items():
            first, again = (
                api.post(path_of(name), body, headers={"Idempotency-Key": f"k-{name}"}) for _ in range(2)
            )
            assert first.status_code in (201, 202), first.content
            assert (again.content, again["Idempotent-Replayed"]) == (first.content, "true")
        assert (Campaign.objects.count(), OutboundEmail.objects.count()) == (1, 1)

    def test_that_create_or_start_something_say_so(self, api: APIClient) -> None:
        paths = api.get("/api/schema/", headers={"Accept": "application/json"}).json()["paths"]
        posts = {path: each["post"] for path, each in paths.items() if "post" in each}
        without = {
            path
            for path, post in posts.items()
            if {"201", "202"} & post["responses"].keys()
            and "Idempotency-Key" not in [each["name"] for each in post.get("parameters", [])]
        }
        assert without == {
            "/api/v1/auth/password/reset/",  # once a minute for each account, whoever asks
            "/api/v1/campaigns/{id}/test/",
            "/api/v1/imports/{id}/cancel/",  # it makes nothing
        }

    def test_files_too(self, api: APIClient, audience: Audience) -> None:
        def upload(content: bytes) -> Any:
            file = SimpleUploadedFile("people.csv", content)
            form = {"audience": audience.pk, "file": file}
            return api.post(
                path_of("imports"), form, format="multipart", headers={"Idempotency-Key": "k-file"}
            )

        first, again = upload(b"email\na@example.com\n"), upload(b"email\na@example.com\n")
        assert (first.status_code, again.content) == (202, first.content)
        problem(upload(b"email\nb@example.com\n"), 422)
        assert ImportJob.objects.count() == 1


class TestOneTransaction:
    pytestmark = pytest.mark.django_db(transaction=True)

    def test_undoes_what_was_done_when_the_answer_cannot_be_kept(
        self, api: APIClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def crash(*_: object) -> None:
            raise RuntimeError("as if the process had died here")

        monkeypatch.setattr(idempotency, "_keep", crash)
        assert create(api).status_code == 500
        assert not Audience.objects.exists()
        monkeypatch.undo()
        assert create(api).status_code == 201

    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_leaves_both_or_neither_after_kill_minus_nine(self, boss: User, moment: str) -> None:
        command = [sys.executable, "-m", "tests.chaos.crashing_request", str(boss.pk), "k-1", moment]
        died = subprocess.run(command, env=environment(), check=False, capture_output=True, timeout=300)
        assert died.returncode == -9, died.stderr
        kept = 1 if moment == "after" else 0
        assert (Audience.objects.count(), KeptAnswer.objects.count()) == (kept, kept)
        again = create(client_of(boss))
        assert (again.status_code, "Idempotent-Replayed" in again) == (201, moment == "after")
        assert Audience.objects.count() == 1

    def test_refuses_a_second_one_while_the_first_runs(self, boss: User) -> None:
        inside, done = threading.Event(), threading.Event()

        def slowly() -> idempotency.Answer:
            inside.set()
            assert done.wait(120)
            return idempotency.Answer(201, b"{}")

        def first() -> None:
            try:
                idempotency.once(boss, "k-1", "f", slowly, now=timezone.now())
            finally:
                connection.close()

        thread = threading.Thread(target=first)
        thread.start()
        assert inside.wait(120)
        assert problem(create(client_of(boss)), 409)["code"] == "idempotency_key_in_use"
        done.set()
        thread.join()
        assert KeptAnswer.objects.count() == 1
        assert not Audience.objects.exists()
