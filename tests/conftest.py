"""What many tests begin with: an audience, a template, a campaign, a way to send."""

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from celery import current_app
from django.conf import settings
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.core.cache import cache
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from redis import Redis
from rest_framework.test import APIClient

from campaigns import broker, throttle, vitals
from campaigns.models import Audience, Campaign, EmailTemplate, Recipient
from campaigns.providers import Line, SendGrid, Smtp
from campaigns.providers.conversation import SmtpAccount
from campaigns.throttle import Limit
from tests.api_helpers import PASSWORD, client_of
from tests.campaign_helpers import NOW
from tests.chaos.rabbitmq import RabbitMQ, is_installed, start_rabbitmq
from tests.mail_servers import SendGridServer, SmtpServer, sendgrid_server, smtp_server
from users.models import User

# Passwords are hashed as always, but not a million times over: most tests begin with an account.
PBKDF2PasswordHasher.iterations = 1

# How long an example takes says more of what else the machine has to do.
hypothesis_settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that has to wait for a processor is not taken for one that is away."""
    monkeypatch.setattr(broker, "QUICK_PATIENCE", 30.0)
    monkeypatch.setattr(vitals, "PATIENCE", 30.0)


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def template(db: None) -> EmailTemplate:
    return EmailTemplate.objects.create(
        name="Greeting",
        subject="Hello {{ name }}",
        html="<p>Dear {{ name }} of {{ city }}, <a href='{{ unsubscribe_url }}'>no more</a></p>",
    )


@pytest.fixture
def audience(db: None) -> Audience:
    """Five people of Pune, p0@example.com to p4@example.com."""
    audience = Audience.objects.create(name="Friends")
    Recipient.objects.bulk_create(
        Recipient(audience=audience, email=f"p{n}@example.com", name=f"P {n}", attributes={"city": "Pune"})
        for n in range(5)
    )
    return audience


@pytest.fixture
def many(audience: Audience) -> list[str]:
    """600 addresses, three batches; the audience's five among them."""
    extra = [f"m{n}@example.com" for n in range(595)]
    Recipient.objects.bulk_create(
        Recipient(audience=audience, email=email, attributes={"city": "Pune"}) for email in extra
    )
    return [f"p{n}@example.com" for n in range(5)] + extra


@pytest.fixture
def empty_queues() -> None:
    """No message, limit or breaker of an earlier test meets this one's workers."""
    with current_app.connection_for_write() as connection:
        for name in ("senders", "scheduler", "transactional", "imports"):
            queue = connection.SimpleQueue(name)
            queue.clear()
            queue.close()
    cache.clear()


@pytest.fixture
def campaign(audience: Audience, template: EmailTemplate) -> Campaign:
    return Campaign.objects.create(name="May", audience=audience, template=template)


@pytest.fixture
def smtp() -> Iterator[SmtpServer]:
    with smtp_server() as server:
        yield server


@pytest.fixture
def sendgrid() -> Iterator[SendGridServer]:
    with sendgrid_server() as server:
        yield server


@pytest.fixture
def redis() -> Iterator[Redis]:
    """Redis without what an earlier test left of a provider's limits and troubles."""
    client = throttle.connect(settings.REDIS_URL)
    for key in client.scan_iter("mailer:*"):
        client.delete(key)
    yield client
    client.close()


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """One RabbitMQ node for all tests; whoever breaks it mends it."""
    if not is_installed():
        pytest.skip("RabbitMQ is not on this machine: apt-get install rabbitmq-server")
    node = start_rabbitmq(Path(os.environ["LOCAL_DIR"]))
    yield node
    node.stop()


@pytest.fixture
def smtp_line(smtp: SmtpServer, redis: Redis) -> Line:
    """Sends through the SMTP server of this test, two messages declared at a time."""
    account = SmtpAccount("127.0.0.1", smtp.port, use_tls=False, timeout=10)
    return Line((Smtp(account, Limit("smtp", 0), window=2),), redis)


@pytest.fixture
def sendgrid_line(sendgrid: SendGridServer, redis: Redis) -> Line:
    """Sends through the SendGrid endpoint of this test."""
    provider = SendGrid("SG.test", Limit("sendgrid", 0), host=sendgrid.url)
    return Line((provider,), redis)


@pytest.fixture
def both_lines(sendgrid_line: Line, smtp_line: Line) -> Line:
    """SendGrid first, SMTP as its fallback."""
    return Line((*sendgrid_line.providers, *smtp_line.providers), sendgrid_line.redis)


@pytest.fixture
def boss(db: None) -> User:
    """Somebody who may do everything."""
    return User.objects.create_superuser("boss@example.com", PASSWORD)


@pytest.fixture
def api(boss: User) -> APIClient:
    """A client of the API that may do everything."""
    return client_of(boss)
