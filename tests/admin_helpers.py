"""Who uses the admin in the tests, and what its pages hold."""

from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from campaigns.models import Campaign
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


def put(campaign: Campaign, status: str) -> None:
    moment = datetime(2099, 1, 1, tzinfo=UTC)
    Campaign.objects.filter(pk=campaign.pk).update(
        status=status, scheduled_at=moment, started_at=timezone.now()
    )
    campaign.refresh_from_db()


def address(campaign: Campaign, action: str) -> str:
    return reverse(f"admin:campaigns_campaign_{action}", args=[campaign.pk])


def page_of(client: Client, campaign: Campaign) -> str:
    answer = client.get(address(campaign, "change"))
    assert answer.status_code == 200
    return answer.text


def errors(answer: Any) -> dict[str, list[str]]:
    """What the form of the page refuses, by field."""
    assert answer.status_code == 200
    found: dict[str, list[str]] = dict(answer.context["adminform"].form.errors)
    return found
