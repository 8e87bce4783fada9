"""Who uses the admin in the tests, and what its pages hold."""

from typing import Any

from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.test import Client

from users.models import User

PASSWORD = "long-and-only-for-tests"


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def superuser() -> User:
    return User.objects.create_superuser("boss@example.com", PASSWORD)


def operator(*permissions: str) -> User:
    """An operator with exactly these permissions of the campaigns app, such as view_campaign."""
    user = User.objects.create_user("operator@example.com", PASSWORD, is_staff=True)
    found = Permission.objects.filter(codename__in=permissions, content_type__app_label="campaigns")
    assert found.count() == len(permissions)
    user.user_permissions.set(found)
    return user


def said(response: Any) -> list[str]:
    """The messages that an answer of the test client leaves for the next page."""
    return [str(message) for message in get_messages(response.wsgi_request)]
