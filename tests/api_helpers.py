"""Clients of the API and what its refusals look like."""

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import Permission
from rest_framework.test import APIClient

from users.models import User

API = "/api/v1"
PASSWORD = "correct horse battery staple"


def operator(email: str = "operator@example.com", *, may: tuple[str, ...] = ()) -> User:
    """Store an operator who may do what `may` names, such as "view_campaign"."""
    user = User.objects.create_user(email, PASSWORD, is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label__in=["campaigns", "schedules"], codename__in=may)
    )
    return user


def client_of(user: User) -> APIClient:
    """Return a client that is signed in; what the server raises is answered, as in production."""
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(user)
    return client


def problem(answer: Any, status: int) -> dict[str, Any]:
    """Return the problem document of a refusal, after checking its form."""
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document.keys() >= {"type", "title", "status", "detail", "code", "errors"}
    assert document["status"] == status
    return document


def faults(answer: Any, status: int = 400) -> dict[str | None, str]:
    """Return the refusal's message for each field."""
    return {fault["field"]: fault["message"] for fault in problem(answer, status)["errors"]}


def path_of(name: str, pk: object = None, then: str = "") -> str:
    return f"{API}/{name}/" if pk is None else f"{API}/{name}/{pk}/{then}"


def without(document: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in keys}
