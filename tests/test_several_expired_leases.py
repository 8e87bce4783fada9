"""Several workers die at once: each batch is taken back with what was leaving from it, whatever the plan.

PostgreSQL may run a subquery once for each row of the table it is joined with, where its statistics say
that there is one row; a LIMIT 1 inside is then one for each.
"""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from pytest_django import Settings

from campaigns import ledger
from campaigns.models import Batch, Campaign
from campaigns.providers import Line
from tests.campaign_helpers import counts, send, started
from tests.mail_servers import SmtpServer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def second(campaign: Campaign, smtp: SmtpServer, smtp_line: Line, settings: Settings) -> Campaign:
    """A campaign of three batches after one of a single batch, of whose time the statistics are."""
    (only,) = started(campaign)
    send(only, smtp_line)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE campaigns_batch")
    smtp.accepted.clear()
    settings.CAMPAIGN_BATCH_SIZE = 2
    return Campaign.objects.create(name="June", audience=campaign.audience, template=campaign.template)


def _declare_the_first_of_each(batch_ids: list[int]) -> list[ledger.Lease]:
    leases = []
    for batch_id in batch_ids:
        lease = ledger.claim(batch_id, "a worker that dies")
        assert lease is not None
        ledger.declare(lease, [ledger.due_rows(lease)[0].id], "smtp")
        leases.append(lease)
    return leases


def _expire(batch_ids: list[int]) -> None:
    Batch.objects.filter(id__in=batch_ids).update(lease_until=F("lease_until") - timedelta(days=1))


class TestTakingBackSeveral:
    def test_leaves_in_doubt_what_was_leaving_from_each(self, second: Campaign) -> None:
        batch_ids = started(second)
        _declare_the_first_of_each(batch_ids)
        _expire(batch_ids)
        assert ledger.take_back_expired() == [second.pk]
        assert counts(second) == {"pending": 2, "unconfirmed": 3}
        assert list(Batch.objects.filter(id__in=batch_ids).order_by("number").values_list("unconfirmed")) == [
            (1,),
            (1,),
            (1,),
        ]

    def test_sends_nobody_a_second_mail(self, second: Campaign, smtp: SmtpServer, smtp_line: Line) -> None:
        batch_ids = started(second)
        _declare_the_first_of_each(batch_ids)
        _expire(batch_ids)
        ledger.take_back_expired()
        for batch_id in batch_ids:
            send(batch_id, smtp_line)
        assert sorted(smtp.recipients) == ["p1@example.com", "p3@example.com"]
        assert counts(second) == {"sent": 2, "unconfirmed": 3}

    def test_leaves_a_lease_alone_that_has_not_run_out(self, second: Campaign) -> None:
        batch_ids = started(second)
        *_, alive = _declare_the_first_of_each(batch_ids)
        _expire(batch_ids[:2])
        ledger.take_back_expired()
        assert counts(second) == {"pending": 3, "unconfirmed": 2}
        ledger.release(alive)
        assert counts(second) == {"pending": 2, "unconfirmed": 3}
