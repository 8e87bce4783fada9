"""A lost member of the audience is a bug: nothing that lost one is called completed, and it says so."""

from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from pytest_django import Settings
from redis import Redis
from rest_framework.test import APIClient

from campaigns import dispatch, ledger, lifecycle, progress, recovery
from campaigns.models import Batch, Campaign, DeliveryLog
from campaigns.providers import Line
from tests.admin_helpers import client_of, page_of
from tests.api_helpers import path_of, problem
from tests.campaign_helpers import send, started
from users.models import User

pytestmark = pytest.mark.django_db(transaction=True)

ADDS_UP_NOT = "The ledger does not add up"


def behind_our_back(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def without_the_check(statement: str) -> None:
    """As somebody would who has the tables' owner's rights."""
    behind_our_back("ALTER TABLE campaigns_batch DROP CONSTRAINT batch_counters_add_up")
    try:
        behind_our_back(statement)
    finally:
        behind_our_back(
            "ALTER TABLE campaigns_batch ADD CONSTRAINT batch_counters_add_up CHECK (size = pending + "
            "deferred + sent + failed + suppressed + unconfirmed + cancelled) NOT VALID"
        )


@pytest.fixture
def sent(campaign: Campaign, smtp_line: Line, settings: Settings) -> Campaign:
    """A campaign of three batches, of which every mail was accepted; not finished yet."""
    settings.CAMPAIGN_BATCH_SIZE = 2
    for batch_id in started(campaign):
        send(batch_id, smtp_line)
    return campaign


@pytest.fixture
def page(boss: User) -> Client:
    return client_of(boss)


def finish(campaign: Campaign, now: datetime) -> None:
    dispatch.finalize(campaign.pk, now=now)
    campaign.refresh_from_db()


def is_refused(campaign: Campaign, now: datetime, why: str) -> bool:
    with pytest.raises(dispatch.LedgerBroken, match=why):
        dispatch.finalize(campaign.pk, now=now)
    campaign.refresh_from_db()
    return campaign.status == "in_progress" and campaign.status_reason == why and not campaign.finished_at


def status(api: APIClient, campaign: Campaign) -> dict[str, object]:
    answer = api.get(path_of("campaigns", campaign.pk, "status/"))
    assert answer.status_code == 200, answer.content
    document: dict[str, object] = answer.json()
    return document


class TestTheSizeOfTheLedger:
    def test_is_kept_when_it_is_built(self, campaign: Campaign) -> None:
        started(campaign)
        campaign.refresh_from_db()
        assert campaign.ledger_size == 5

    def test_of_one_built_before_it_was_kept_is_the_sum_of_its_batches(self, campaign: Campaign) -> None:
        started(campaign)
        Campaign.objects.update(ledger_size=None)
        assert progress.of(campaign.pk).total == 5


class TestOneThatAddsUp:
    def test_is_completed(self, sent: Campaign, api: APIClient, page: Client, now: datetime) -> None:
        finish(sent, now)
        document = status(api, sent)
        assert (document["status"], document["total"], document["sent"]) == ("completed", 5, 5)
        assert document["trouble"] == ""
        assert "Completed</" in page_of(page, sent)


class TestARowThatIsGone:
    WHY = "5 sent by the batches, 4 by the delivery log."

    def test_keeps_the_campaign_from_being_completed_and_is_said_everywhere(
        self, sent: Campaign, api: APIClient, page: Client, now: datetime, redis: Redis
    ) -> None:
        behind_our_back("DELETE FROM campaigns_deliverylog WHERE email = 'p3@example.com'")
        assert is_refused(sent, now, self.WHY)
        words = f"{ADDS_UP_NOT}, so this is not called completed: {self.WHY}"
        document = status(api, sent)
        assert (document["status"], document["trouble"]) == ("in_progress", words)
        assert words in page_of(page, sent)

    def test_is_forgotten_once_it_is_back(self, sent: Campaign, now: datetime) -> None:
        behind_our_back(
            "CREATE TABLE kept AS SELECT * FROM campaigns_deliverylog WHERE email = 'p3@example.com'"
        )
        behind_our_back("DELETE FROM campaigns_deliverylog WHERE email = 'p3@example.com'")
        assert is_refused(sent, now, self.WHY)
        columns = ", ".join(
            column.name
            for column in connection.introspection.get_table_description(
                connection.cursor(), "campaigns_deliverylog"
            )
        )
        behind_our_back(
            f"INSERT INTO campaigns_deliverylog ({columns}) OVERRIDING SYSTEM VALUE "  # noqa: S608  # its own columns
            f"SELECT {columns} FROM kept; DROP TABLE kept"
        )
        finish(sent, now)
        assert (sent.status, sent.status_reason) == ("completed", "")


class TestARowOfABatchInWork:
    def test_keeps_its_batch_and_no_other_from_being_taken_back(
        self, campaign: Campaign, api: APIClient, settings: Settings
    ) -> None:
        settings.CAMPAIGN_BATCH_SIZE = 2
        for batch_id in started(campaign):
            ledger.claim(batch_id, "a worker that died")
        Batch.objects.update(lease_until=Now() - timedelta(seconds=1))
        behind_our_back("DELETE FROM campaigns_deliverylog WHERE email = 'p1@example.com'")
        with pytest.raises(ledger.RowsMissing):
            recovery.take_back_expired_leases()
        held = Batch.objects.filter(lease_until__isnull=False)
        assert [(batch.number, batch.lease_owner) for batch in held] == [(1, "a worker that died")]
        assert status(api, campaign)["trouble"] == (
            f"{ADDS_UP_NOT}, so this is not called completed: rows of batch 1 are missing; "
            "it is not sent before they are restored."
        )

    def test_is_forgotten_once_it_is_back(self, campaign: Campaign, settings: Settings) -> None:
        settings.CAMPAIGN_BATCH_SIZE = 3
        first, second = started(campaign)
        ledger.claim(first, "a worker that died")
        Batch.objects.update(lease_until=Now() - timedelta(seconds=1))
        moved = DeliveryLog.objects.filter(email="p1@example.com")
        moved.update(batch=second)
        with pytest.raises(ledger.RowsMissing):
            recovery.take_back_expired_leases()
        moved.update(batch=first)
        assert recovery.take_back_expired_leases() == [campaign.pk]
        campaign.refresh_from_db()
        assert campaign.status_reason == ""


class TestARowThatSaysSomethingElse:
    def test_keeps_the_campaign_from_being_completed(self, sent: Campaign, now: datetime) -> None:
        behind_our_back(
            "UPDATE campaigns_deliverylog SET status = 'pending', sent_at = NULL "
            "WHERE email = 'p3@example.com'"
        )
        assert is_refused(
            sent,
            now,
            "0 pending by the batches, 1 by the delivery log; 5 sent by the batches, 4 by the delivery log.",
        )


class TestACounter:
    def test_changed_within_its_check_keeps_the_campaign_from_being_completed(
        self, sent: Campaign, now: datetime
    ) -> None:
        Batch.objects.filter(number=1).update(sent=1, failed=1)
        assert is_refused(
            sent,
            now,
            "4 sent by the batches, 5 by the delivery log; 1 failed by the batches, 0 by the delivery log.",
        )

    def test_changed_without_its_check_makes_every_reading_say_so(
        self, sent: Campaign, api: APIClient, page: Client, now: datetime
    ) -> None:
        without_the_check("UPDATE campaigns_batch SET sent = 1 WHERE number = 1")
        document = status(api, sent)
        assert document["status"] == "in_progress"
        assert document["trouble"] == (
            f"{ADDS_UP_NOT}: 5 mails were to be sent, and 4 are accounted for. Somebody changed its tables; "
            "restore them before anything else"
        )
        assert ADDS_UP_NOT in page_of(page, sent)
        assert is_refused(sent, now, "5 mails were to be sent, but the batches account for 4.")

    def test_and_its_size_changed_alike_is_found_by_the_size_at_the_start(
        self, sent: Campaign, now: datetime
    ) -> None:
        Batch.objects.filter(number=1).update(sent=1, size=1)
        assert not progress.of(sent.pk).adds_up
        assert is_refused(sent, now, "5 mails were to be sent, but the batches account for 4.")


class TestABatchThatIsGone:
    GONE = (
        "DELETE FROM campaigns_deliverylog WHERE email IN ('p2@example.com', 'p3@example.com');"
        "DELETE FROM campaigns_batch WHERE number = 2"
    )

    def test_with_its_rows_keeps_the_campaign_from_being_completed(
        self, sent: Campaign, api: APIClient, now: datetime
    ) -> None:
        behind_our_back(self.GONE)
        document = status(api, sent)
        assert (document["status"], document["total"], document["sent"]) == ("in_progress", 5, 3)
        assert str(document["trouble"]).startswith(f"{ADDS_UP_NOT}: 5 mails were to be sent, and 3 are")
        assert is_refused(sent, now, "5 mails were to be sent, but the batches account for 3.")

    def test_of_a_completed_campaign_makes_every_reading_refuse_to_call_it_so(
        self, sent: Campaign, api: APIClient, page: Client, now: datetime
    ) -> None:
        finish(sent, now)
        behind_our_back(self.GONE)
        refusal = problem(api.get(path_of("campaigns", sent.pk, "status/")), 500)
        assert refusal["code"] == "ledger_broken"
        assert refusal["detail"].startswith(
            f"{ADDS_UP_NOT}: 5 mails were to be sent, and 3 are accounted for"
        )
        shown = page_of(page, sent)
        assert 'mailer-label mailer-red">does not add up<' in shown
        assert ADDS_UP_NOT in shown

    def test_of_a_paused_campaign_is_said_before_all_else(self, sent: Campaign, api: APIClient) -> None:
        lifecycle.pause(sent.pk)
        behind_our_back(self.GONE)
        assert str(status(api, sent)["trouble"]).startswith(ADDS_UP_NOT)
