"""Recipients and accounts that are deleted while a campaign is being started: one waits for the other."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from campaigns import dispatch, forgetting, lifecycle
from campaigns.models import Audience, Campaign, DeliveryLog, EmailTemplate, Recipient
from schedules import broadcasting, mirrors
from tests.campaign_helpers import clock, counts, somebody_waits_for_a_lock, started
from tests.schedule_helpers import user
from tests.workers import wait_until
from users.models import User

pytestmark = pytest.mark.django_db(transaction=True)

Beside = Callable[[Callable[[], object]], "Future[None]"]


@pytest.fixture
def beside() -> Beside:
    """Run something in another thread, with a connection of its own."""
    executor = ThreadPoolExecutor(1)

    def run(something: Callable[[], object]) -> "Future[None]":
        def closing_afterwards() -> None:
            with closing(connection):
                something()

        return executor.submit(closing_afterwards)

    return run


def _delete(email: str) -> None:
    Recipient.objects.get(email=email).delete()


def _delete_by_sql(email: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM campaigns_recipient WHERE email = %s", [email])


def _named_recipients() -> set[int]:
    """Return the recipients that the delivery log names, after checking that they are all there."""
    named = set(DeliveryLog.objects.exclude(recipient=None).values_list("recipient_id", flat=True))
    assert named == set(Recipient.objects.filter(id__in=named).values_list("id", flat=True))
    return named


@pytest.mark.parametrize("delete", [_delete, _delete_by_sql])
class TestRecipient:
    def test_whose_deletion_is_underway_is_waited_for_and_left_out(
        self, campaign: Campaign, beside: Beside, delete: Callable[[str], None]
    ) -> None:
        with transaction.atomic():
            delete("p3@example.com")
            start = beside(lambda: started(campaign))
            wait_until(somebody_waits_for_a_lock, what="the start at the recipient")
        start.result(timeout=30)
        assert counts(campaign) == {"pending": 4}
        assert len(_named_recipients()) == 4

    def test_is_deleted_once_the_start_is_done_and_named_no_more(
        self, campaign: Campaign, beside: Beside, delete: Callable[[str], None]
    ) -> None:
        lifecycle.start(campaign.pk, now=clock())
        with transaction.atomic():
            dispatch.build_ledger(campaign.pk, now=clock())
            deletion = beside(lambda: delete("p3@example.com"))
            wait_until(somebody_waits_for_a_lock, what="the deletion at the recipient")
        deletion.result(timeout=30)
        assert counts(campaign) == {"pending": 5}
        assert len(_named_recipients()) == 4


class TestAccount:
    def test_leaves_no_address_in_a_campaign_that_was_being_started(self, beside: Beside) -> None:
        campaign = _campaign_to(user(), user("ravi@example.com"))
        lifecycle.start(campaign.pk, now=clock())
        with transaction.atomic():
            dispatch.build_ledger(campaign.pk, now=clock())
            deletion = beside(lambda: User.objects.get(email="asha@example.com").delete())
            wait_until(somebody_waits_for_a_lock, what="the deletion at the account's recipient")
        deletion.result(timeout=30)
        self._is_forgotten(campaign)

    def test_leaves_no_address_in_a_broadcast_that_was_being_started(self, beside: Beside) -> None:
        asha, ravi = user(), user("ravi@example.com")
        mirrors.recipients_of([asha.pk, ravi.pk])
        letter = EmailTemplate.objects.create(name="Daily", subject="Good morning", text="It is time.")
        broadcast = broadcasting.create(letter, {}, by=ravi, now=clock())
        with transaction.atomic():
            broadcasting.start(broadcast.pk, now=clock())
            deletion = beside(lambda: User.objects.get(email="asha@example.com").delete())
            wait_until(somebody_waits_for_a_lock, what="the deletion at the account's recipient")
        deletion.result(timeout=30)
        self._is_forgotten(Campaign.objects.get())

    def test_whose_deletion_is_underway_is_waited_for_and_left_out(self, beside: Beside) -> None:
        asha = user()
        campaign = _campaign_to(asha, user("ravi@example.com"))
        with transaction.atomic():
            asha.delete()
            start = beside(lambda: started(campaign))
            wait_until(somebody_waits_for_a_lock, what="the start at the account's recipient")
        start.result(timeout=30)
        assert [mail.email for mail in DeliveryLog.objects.all()] == ["ravi@example.com"]

    def _is_forgotten(self, campaign: Campaign) -> None:
        assert counts(campaign) == {"pending": 2}
        assert not User.objects.filter(email="asha@example.com").exists()
        emails = set(DeliveryLog.objects.values_list("email", flat=True))
        assert "ravi@example.com" in emails
        assert sum(map(forgetting.is_pseudonym, emails)) == 1
        assert len(_named_recipients()) == 1


def _campaign_to(*accounts: User) -> Campaign:
    mirrors.recipients_of([account.pk for account in accounts])
    letter = EmailTemplate.objects.create(name="Daily", subject="Good morning", text="It is time.")
    return Campaign.objects.create(name="Daily", audience=mirrors.audience(), template=letter)


class TestMigration:
    def test_goes_back_and_forth_over_a_log_whose_recipients_were_deleted(
        self, campaign: Campaign, audience: Audience
    ) -> None:
        started(campaign)
        _delete_by_sql("p3@example.com")
        try:
            call_command("migrate", "campaigns", "0014", verbosity=0)
        finally:
            call_command("migrate", "campaigns", verbosity=0)
        assert counts(campaign) == {"pending": 5}
        _delete_by_sql("p4@example.com")
        assert len(_named_recipients()) == 3
