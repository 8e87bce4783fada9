"""What workers do to the ledger, and what the model says they may: the first half of the ledger's machine."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import pytest
from django.db import transaction
from django.db.models.functions import Now
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
)

from campaigns import ledger
from campaigns.models import (
    Audience,
    Batch,
    Campaign,
    DeliveryLog,
    DeliveryStatus,
    EmailTemplate,
    Recipient,
)
from campaigns.providers import Outcome, Verdict
from tests.batch_model import FATES, ModelBatch, ModelRow
from tests.campaign_helpers import started

BATCH_SIZE, BATCHES = 3, 2

# What may happen, as often as it stands here.
OF_A_WORKER = (
    *["go on"] * 8,
    "read again",
    "record",
    "renew",
    "release",
    "rest",
    *["sleep"] * 4,
    "lose the lease",
    "die",
)


@dataclass
class Worker:
    """A process with a lease, good or lost, and what it believes about its batch."""

    lease: ledger.Lease
    read: dict[int, int] = field(default_factory=dict)
    """The rows it may still declare, with their attempts when it read them."""
    leaving: dict[int, int] = field(default_factory=dict)
    """The rows it declared and has not handed over."""
    answers: dict[int, tuple[Verdict, int]] = field(default_factory=dict)
    """What the provider said of them on which try: its lease keeps it until the next step."""


class WorkersMachine(RuleBasedStateMachine):
    """Two batches of three, and workers who want to send them."""

    def __init__(self) -> None:
        super().__init__()
        self.undo = transaction.atomic()  # each run starts from an empty database
        self.undo.__enter__()
        audience = Audience.objects.create(name="Friends")
        addresses = [f"p{n}@example.com" for n in range(BATCH_SIZE * BATCHES)]
        Recipient.objects.bulk_create(Recipient(audience=audience, email=email) for email in addresses)
        template = EmailTemplate.objects.create(name="Greeting", subject="Hello", html="<p>Hello</p>")
        self.campaign = Campaign.objects.create(name="May", audience=audience, template=template)
        self.batches = {batch_id: ModelBatch({}) for batch_id in started(self.campaign)}
        for row in DeliveryLog.objects.filter(campaign=self.campaign):
            self.batches[row.batch_id].rows[row.id] = ModelRow(row.email)
        self.status = "in_progress"
        self.workers: list[Worker] = []
        self.refused = False

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.undo.__exit__(None, None, None)

    # --- A worker's steps ---------------------------------------------------------------------------

    def _claim(self, number: int) -> None:
        batch_id, batch = list(self.batches.items())[number % BATCHES]
        lease = ledger.claim(batch_id, "a worker")
        expected = self.status == "in_progress" and batch.is_free
        assert (lease is not None) == expected
        if lease is None:
            batch.published = batch.published and batch.held is not None
            return
        batch.token += 1
        batch.held, batch.expired = batch.token, False
        assert lease.token == batch.token
        self.workers.append(Worker(lease))

    def _work(self, worker: Worker, what: str, data: st.DataObject) -> None:
        match what:
            case "go on":
                for _ in range(data.draw(st.integers(1, 5))):
                    self.refused = False
                    self._go_on(worker, data)
                    if self.refused:
                        break
            case "read again" if not worker.answers and not worker.leaving:
                self._read(worker)
            case "renew":
                self._renew(worker)
            case "record" if not worker.leaving:
                self._record(worker)
            case "release" | "rest":
                self._release(worker, rest=what == "rest")
            case "sleep":
                self._outsleep_the_lease(worker)
                self._go_on(worker, data)
            case "lose the lease":
                self._outsleep_the_lease(worker)
                self._take_back()
            case "die":
                self.workers.remove(worker)

    def _go_on(self, worker: Worker, data: st.DataObject) -> None:
        """Take the worker's natural next step, whatever became of its lease meanwhile."""
        if worker.leaving:
            self._send(worker, data)
        elif worker.read:
            self._declare(worker, data)
        elif worker.answers:
            self._release(worker, rest=False)
        else:
            self._read(worker)

    def _read(self, worker: Worker) -> None:
        """Read what is due, and settle what must not be mailed, as a worker does before it sends."""
        batch = self.batches[worker.lease.batch_id]
        due = ledger.due_rows(worker.lease)
        assert [row.id for row in due] == sorted(
            (id for id, row in batch.rows.items() if row.is_open and not row.waits),
            key=lambda id: (batch.rows[id].attempts, id),
        )
        no = {row.id: batch.rows[row.id].must_not_be_mailed for row in due}
        worker.read = {row.id: row.attempts for row in due if not no[row.id]}
        changes = [
            ledger.Change(id, DeliveryStatus(status), attempts=0) for id, status in no.items() if status
        ]
        if not changes:
            return
        ruled_out = [batch.rows[change.delivery_id] for change in changes]
        refusal = self._refusal(worker, ruled_out)
        if any(row.leaving for row in ruled_out):
            refusal = ledger.LeaseLost
        self._step(refusal, partial(ledger.rule_out, worker.lease, changes))
        if not refusal:
            for row, change in zip(ruled_out, changes, strict=True):
                row.become(change.status)

    def _declare(self, worker: Worker, data: st.DataObject) -> None:
        """Declare some of what was read, which writes the answers to what was declared before."""
        ids = data.draw(st.lists(st.sampled_from(sorted(worker.read)), min_size=1, unique=True))
        batch = self.batches[worker.lease.batch_id]
        rows = {id: batch.rows[id] for id in ids}
        held_back = {id: status for id, row in rows.items() if (status := row.must_not_be_mailed)}
        refusal = self._refusal(worker, rows.values(), running=True)
        found = self._step(refusal, lambda: ledger.declare(worker.lease, ids, "smtp"))
        if refusal:
            return
        assert found == set(held_back)
        self._answers_are_written(worker)
        batch.expired = False
        for id, row in rows.items():
            if id in held_back:
                row.become(held_back[id])
            else:
                row.leaving = True
                worker.leaving[id] = worker.read[id]
            del worker.read[id]

    def _send(self, worker: Worker, data: st.DataObject) -> None:
        """Hand over what was declared, after the look at the lease that each worker takes before it."""
        batch = self.batches[worker.lease.batch_id]
        if not worker.lease.is_good():
            refusal = self._refusal(worker, running=True)
            self._step(refusal, lambda: ledger.renew(worker.lease))
            if refusal:
                return
            batch.expired = False
        assert batch.held == worker.lease.token, "it would send without a lease"
        for id, attempts in worker.leaving.items():
            accepted, verdict = FATES[data.draw(st.sampled_from(sorted(FATES)))]
            batch.rows[id].accepted += accepted
            worker.answers[id] = (verdict, attempts + 1)
            if verdict is Verdict.UNSENT:
                worker.read[id] = attempts  # for the next provider
        worker.leaving = {}
        worker.lease.answer(
            ledger.change_for(Outcome(id, verdict), attempts=tries, jitter=lambda: 0.5)
            for id, (verdict, tries) in worker.answers.items()
        )

    def _record(self, worker: Worker) -> None:
        """Write the answers by themselves, as before a long wait."""
        refusal = self._refusal(worker)
        self._step(refusal, lambda: ledger.record(worker.lease))
        if not refusal:
            self._answers_are_written(worker)
            self.batches[worker.lease.batch_id].expired = False

    def _release(self, worker: Worker, *, rest: bool) -> None:
        batch = self.batches[worker.lease.batch_id]
        refusal = self._refusal(worker)
        wait = timedelta(minutes=5) if rest else None
        self._step(refusal, lambda: ledger.release(worker.lease, wait=wait, failed=rest))
        worker.leaving = {}  # it is done, and knows it
        if not refusal:
            self._answers_are_written(worker)
            batch.end_lease()
            still_open = [row for row in batch.rows.values() if row.is_open]
            # it is not due before its first deferred row, unless something is pending
            all_wait = bool(still_open) and all(row.waits for row in still_open)
            batch.rests = rest or all_wait

    def _answers_are_written(self, worker: Worker) -> None:
        rows = self.batches[worker.lease.batch_id].rows
        for id, (verdict, tries) in worker.answers.items():
            rows[id].answered(verdict, tries)
        worker.answers = {}

    def _renew(self, worker: Worker) -> None:
        refusal = self._refusal(worker, running=True)
        self._step(refusal, lambda: ledger.renew(worker.lease))
        if not refusal:
            self.batches[worker.lease.batch_id].expired = False

    # --- What becomes of those who oversleep ----------------------------------------------------------

    def _outsleep_the_lease(self, worker: Worker) -> None:
        """So much time passes that a lease runs out, for the database as for its worker."""
        batch = self.batches[worker.lease.batch_id]
        worker.lease._good_until = 0.0
        if batch.held == worker.lease.token:
            past = Now() - timedelta(seconds=1)
            Batch.objects.filter(id=worker.lease.batch_id).update(lease_until=past)
            batch.expired = True

    def _take_back(self) -> None:
        expired = [batch for batch in self.batches.values() if batch.expired]
        assert ledger.take_back_expired() == ([self.campaign.pk] if expired else [])
        for batch in expired:
            batch.end_lease()
            batch.token += 1

    # --- The model's rules for a step -------------------------------------------------------------------

    def _refusal(
        self, worker: Worker, to_be_open: Iterable[ModelRow] = (), *, running: bool = False
    ) -> type[Exception] | None:
        """Return what a step under this lease has to raise, if it has to."""
        batch = self.batches[worker.lease.batch_id]
        if batch.held != worker.lease.token:
            return ledger.LeaseLost
        if running and self.status != "in_progress":
            return ledger.CampaignHeld
        if running and batch.expired:
            return ledger.LeaseLost
        return None if all(row.is_open for row in to_be_open) else ledger.LeaseLost

    def _step(self, refusal: type[Exception] | None, step: Callable[[], object]) -> object:
        if refusal is None:
            return step()
        self.refused = True
        with pytest.raises(refusal):
            step()
        return None

    def _all_rows(self) -> list[ModelRow]:
        return [row for batch in self.batches.values() for row in batch.rows.values()]
