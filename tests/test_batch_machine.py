"""The ledger's steps in any order, by any number of workers, against a model of what they promise.

Hypothesis draws workers that claim, read, declare, send, record, release and sleep; pauses, cancellations,
suppressions and deletions in between; time that passes. After each step every row and every counter is
compared with the model, and each mail that was accepted is counted.

The runs of `make test` are always the same. For more of them, and others each time:

    BATCH_MACHINE_EXAMPLES=5000 .venv/bin/pytest tests/test_batch_machine.py
"""

import os
from collections import Counter

import pytest
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from pytest_django import Settings

from campaigns import dispatch, ledger, lifecycle, progress
from campaigns.models import (
    Batch,
    DeliveryLog,
    Recipient,
    Suppression,
)
from tests.batch_model import ModelRow
from tests.batch_workers import BATCH_SIZE, BATCHES, OF_A_WORKER, WorkersMachine
from tests.campaign_helpers import clock

EXAMPLES = os.environ.get("BATCH_MACHINE_EXAMPLES")


HAPPENINGS = (
    *OF_A_WORKER,
    *["claim"] * 4,
    *["let delays pass"] * 2,
    *["pause or resume"] * 2,
    *["suppress"] * 2,
    *["finalize"] * 2,
    *("delete", "cancel", "publish", "take back"),
)


class BatchMachine(WorkersMachine):
    """Workers, and all that may happen around them."""

    @initialize(declared=st.sets(st.integers(0, 5)), accepted=st.sets(st.integers(0, 5)))
    def some_are_to_be_sent_again(self, declared: set[int], accepted: set[int]) -> None:
        """Begin with mails in doubt that are open again, where the policy lets them be."""
        if settings.UNCONFIRMED_POLICY == "hold":
            return
        for position, batch in enumerate(self.batches.values()):
            ids = [id for place, id in enumerate(batch.rows, BATCH_SIZE * position) if place in declared]
            if not ids:
                continue
            self._claim(position)
            worker = self.workers.pop()
            ledger.declare(worker.lease, ids, "smtp")
            for place, (id, row) in enumerate(batch.rows.items(), BATCH_SIZE * position):
                row.leaving = id in ids
                row.accepted += row.leaving and place in accepted
            self._outsleep_the_lease(worker)
        self._take_back()
        self._let_delays_pass()

    @rule(what=st.sampled_from(HAPPENINGS), number=st.integers(0, 5), data=st.data())
    def something_happens(self, what: str, number: int, data: st.DataObject) -> None:
        """One rule for all, as Hypothesis leaves rules out at random, and without workers nothing moves."""
        if what == "claim" or not self.workers:
            self._claim(number)
        elif what in OF_A_WORKER:
            self._work(self.workers[-1 - number % len(self.workers)], what, data)
        else:
            self._meanwhile(what, number)

    def _meanwhile(self, what: str, number: int) -> None:
        match what:
            case "suppress":
                self._suppress(number)
            case "delete":
                self._delete_recipient(number)
            case "pause or resume":
                self._pause_or_resume()
            case "cancel" if number < 2 or self._open_in_doubt():
                self._cancel()
            case "finalize":
                self._finalize()
            case "publish":
                self._publish()
            case "take back":
                self._take_back()
            case "let delays pass":
                self._let_delays_pass()

    def _let_delays_pass(self) -> None:
        DeliveryLog.objects.filter(campaign=self.campaign, not_before__isnull=False).update(not_before=Now())
        Batch.objects.filter(campaign=self.campaign, not_before__isnull=False).update(not_before=Now())
        for batch in self.batches.values():
            batch.rests = False
            for row in batch.rows.values():
                row.waits = False

    def _suppress(self, number: int) -> None:
        row = self._somebody(number)
        Suppression.objects.get_or_create(email=row.email)
        row.suppressed = True

    def _delete_recipient(self, number: int) -> None:
        row = self._somebody(number)
        Recipient.objects.filter(email=row.email).delete()
        row.deleted = True

    def _publish(self) -> None:
        running = self.status == "in_progress"
        due = [id for id, batch in self.batches.items() if running and batch.is_free and not batch.published]
        assert dispatch.next_batches(self.campaign.pk) == due
        for id in due:
            self.batches[id].published = True

    def _pause_or_resume(self) -> None:
        if self.status == "in_progress":
            lifecycle.pause(self.campaign.pk)
            self.status = "paused"
        elif self.status == "paused":
            lifecycle.resume(self.campaign.pk)
            self.status = "in_progress"

    def _cancel(self) -> None:
        if self.status in ("in_progress", "paused"):
            lifecycle.cancel(self.campaign.pk, now=clock())
            self.status = "cancelled"

    def _finalize(self) -> None:
        dispatch.finalize(self.campaign.pk, now=clock())
        batches = self.batches.values()
        if self.status == "cancelled":
            for batch in batches:
                if batch.held is None and batch.has_work:
                    batch.cancel()
        elif self.status == "in_progress" and not any(b.has_work or b.held is not None for b in batches):
            ends = Counter(row.status for row in self._all_rows())
            came_to_nothing = ends["failed"] and not ends["sent"] and not ends["unconfirmed"]
            self.status = "failed" if came_to_nothing else "completed"

    # --- What holds at every instant ----------------------------------------------------------------

    @invariant()
    def every_row_is_where_the_model_says(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                """
                SELECT id, status, attempts, doubts,
                       coalesce(not_before > clock_timestamp(), false)
                  FROM campaigns_deliverylog WHERE campaign_id = %s
                """,
                [self.campaign.pk],
            )
            found = {id: tuple(rest) for id, *rest in cursor.fetchall()}
        assert found == {
            id: (row.status, row.attempts, row.doubts, row.waits)
            for batch in self.batches.values()
            for id, row in batch.rows.items()
        }

    @invariant()
    def every_batch_is_as_the_model_says_and_counts_its_rows(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                """
                SELECT id, lease_token, lease_until IS NOT NULL,
                       coalesce(lease_until < clock_timestamp(), false),
                       coalesce(not_before > clock_timestamp(), false), published_at IS NOT NULL,
                       pending, deferred, sent, failed, suppressed, unconfirmed, cancelled
                  FROM campaigns_batch WHERE campaign_id = %s
                """,
                [self.campaign.pk],
            )
            found = {id: tuple(rest) for id, *rest in cursor.fetchall()}
        assert found == {id: batch.as_stored() for id, batch in self.batches.items()}

    @invariant()
    def the_equation_closes(self) -> None:
        found = progress.of(self.campaign.pk)
        assert (found.status, found.total, found.adds_up) == (self.status, BATCH_SIZE * BATCHES, True)

    @invariant()
    def nobody_is_written_to_twice_but_after_a_doubt(self) -> None:
        for row in self._all_rows():
            assert row.accepted <= (1 if settings.UNCONFIRMED_POLICY == "hold" else 1 + row.doubts)
            assert row.status != "sent" or row.accepted

    @invariant()
    def what_was_accepted_is_never_denied(self) -> None:
        for row in self._all_rows():
            assert not row.accepted or row.is_open or row.status in ("sent", "unconfirmed")

    @invariant()
    def what_is_leaving_leaves_under_a_lease(self) -> None:
        found = dict(Batch.objects.filter(campaign=self.campaign).values_list("id", "leaving"))
        for id, batch in self.batches.items():
            leaving = {row_id for row_id, row in batch.rows.items() if row.leaving}
            assert set(found[id]) == leaving
            assert not leaving or batch.held is not None

    # --- Whom something happens to --------------------------------------------------------------------

    def _somebody(self, number: int) -> ModelRow:
        """Choose a row; every other time one in doubt that is to be sent again, where there is one."""
        doubtful = self._open_in_doubt()
        return doubtful[number % len(doubtful)] if doubtful and number % 2 else self._all_rows()[number]

    def _open_in_doubt(self) -> list[ModelRow]:
        return [row for row in self._all_rows() if row.is_open and row.doubts]


@pytest.mark.django_db
@pytest.mark.parametrize("policy", ["hold", "resend"])
def test_the_ledger_keeps_its_promise_in_any_order_of_steps(policy: str, settings: Settings) -> None:
    settings.UNCONFIRMED_POLICY = policy
    settings.CAMPAIGN_BATCH_SIZE = BATCH_SIZE
    run_state_machine_as_test(
        BatchMachine,
        settings=hypothesis_settings(
            max_examples=int(EXAMPLES or 30),
            stateful_step_count=40,
            derandomize=EXAMPLES is None,
            database=None,
            deadline=None,  # PostgreSQL shares the machine with others
            suppress_health_check=list(HealthCheck),  # the same
        ),
    )
