"""The connection to PostgreSQL breaks at a commit: one that did not stand, or whose word only was lost.

The worker hears the same error of both, and must come to the same end.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F
from pytest_django import Settings

from campaigns import ledger, sending
from campaigns.ledger import holding, rows, steps
from campaigns.models import Batch, Campaign, DeliveryLog, Suppression
from campaigns.providers import Line
from tests.campaign_helpers import counts, let_time_pass, row, send, started
from tests.mail_servers import SendGridServer, SmtpServer

pytestmark = pytest.mark.django_db(transaction=True)

EVERYBODY = [f"p{n}@example.com" for n in range(5)]

# What becomes of one commit after the other: the connection breaks "before" it or "after" it.
FATES = pytest.mark.parametrize(
    "fates",
    [("before",), ("after",), ("before", "after"), ("after", "before"), ("after", "after")],
    ids="-then-".join,
)


def _break_commits(
    monkeypatch: pytest.MonkeyPatch, step: str, fates: Sequence[str], *, call: int = 1, through: str = ""
) -> list[str]:
    """Break the connection at the commits from the `call`-th call of the ledger's `step` on.

    Only calls that name the provider `through` count, if one is given. Returns the fates that are still to
    be met: empty when all were.
    """
    calls = count(1)
    left: list[str] = []
    real_step: Callable[..., Any] = getattr(ledger, step)
    real_commit = BaseDatabaseWrapper.commit
    real_whole_step = steps.whole_step

    def watched(*args: Any, **kwargs: Any) -> Any:
        if (not through or through in args) and next(calls) == call:
            left.extend(fates)
        return real_step(*args, **kwargs)

    def breaking(commit: Callable[[], Any]) -> Any:
        if not left:
            return commit()
        if left.pop(0) == "after":
            commit()
        connection.ensure_connection()  # a step of one statement breaks before it has begun
        connection.connection.close()
        raise OperationalError("the connection broke")

    monkeypatch.setattr(ledger, step, watched)
    monkeypatch.setattr(BaseDatabaseWrapper, "commit", lambda *args: breaking(partial(real_commit, *args)))
    for module in (rows, holding):
        monkeypatch.setattr(
            module,
            "whole_step",
            lambda *args, **kwargs: breaking(partial(real_whole_step, *args, **kwargs)),
        )
    return left


def _all_were_written_to_once(campaign: Campaign, recipients: list[str]) -> None:
    assert counts(campaign) == {"sent": 5}
    assert sorted(recipients) == EVERYBODY
    assert not DeliveryLog.objects.exclude(doubts=0).exists()
    assert set(DeliveryLog.objects.values_list("attempts", flat=True)) == {1}


def _is_free_without_a_failure(batch_id: int) -> None:
    batch = Batch.objects.get(id=batch_id)
    assert (batch.lease_until, batch.leaving, batch.failures, batch.trouble) == (None, [], 0, "")


def _expire_leases() -> None:
    Batch.objects.filter(lease_until__isnull=False).update(lease_until=F("lease_until") - timedelta(days=1))
    ledger.take_back_expired()


class TestDeclare:
    def test_is_given_up_where_it_alone_never_works(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def timed_out(*_: object, **__: object) -> None:
            raise OperationalError("canceling statement due to lock timeout")

        monkeypatch.setattr(rows, "whole_step", timed_out)
        (batch_id,) = started(campaign)
        with pytest.raises(OperationalError, match="lock timeout"):
            send(batch_id, smtp_line)
        assert counts(campaign) == {"pending": 5}
        batch = Batch.objects.get(id=batch_id)
        assert (batch.lease_until, batch.leaving, batch.failures) == (None, [], 1)
        assert smtp.recipients == []

    @FATES
    @pytest.mark.parametrize("call", [1, 3])
    def test_leaves_nothing_in_doubt_and_no_answer_unwritten(
        self,
        campaign: Campaign,
        smtp: SmtpServer,
        smtp_line: Line,
        monkeypatch: pytest.MonkeyPatch,
        fates: Sequence[str],
        call: int,
    ) -> None:
        (batch_id,) = started(campaign)
        left = _break_commits(monkeypatch, "declare", fates, call=call)
        send(batch_id, smtp_line)
        assert left == []
        _all_were_written_to_once(campaign, smtp.recipients)
        _is_free_without_a_failure(batch_id)

    @FATES
    def test_keeps_what_one_provider_took_when_it_breaks_at_the_next_one(
        self,
        campaign: Campaign,
        smtp: SmtpServer,
        sendgrid: SendGridServer,
        both_lines: Line,
        monkeypatch: pytest.MonkeyPatch,
        fates: Sequence[str],
    ) -> None:
        # all five are bad together, the first two are taken, for the other three it is out of order
        sendgrid.answers += [(400, {}, ""), (202, {}, ""), (500, {}, "")]
        (batch_id,) = started(campaign)
        left = _break_commits(monkeypatch, "declare", fates, through="smtp")
        send(batch_id, both_lines)
        assert left == []
        assert [len(request["personalizations"]) for request in sendgrid.requests] == [5, 2, 3]
        taken = [p["to"][0]["email"] for p in sendgrid.requests[1]["personalizations"]]
        _all_were_written_to_once(campaign, taken + smtp.recipients)
        _is_free_without_a_failure(batch_id)
        through = dict(DeliveryLog.objects.values_list("email", "provider"))
        assert through == {email: "sendgrid" if email in taken else "smtp" for email in EVERYBODY}

    @FATES
    def test_holds_back_whose_address_was_suppressed_meanwhile(
        self,
        campaign: Campaign,
        smtp: SmtpServer,
        smtp_line: Line,
        monkeypatch: pytest.MonkeyPatch,
        fates: Sequence[str],
    ) -> None:
        (batch_id,) = started(campaign)
        left = _break_commits(monkeypatch, "declare", fates, call=2)
        breaking = ledger.declare

        def suppressed_before(lease: ledger.Lease, ids: Sequence[int], provider: str) -> set[int]:
            if row("p3@example.com").pk in ids:
                Suppression.objects.get_or_create(email="p3@example.com")
            return breaking(lease, ids, provider)

        monkeypatch.setattr(ledger, "declare", suppressed_before)
        send(batch_id, smtp_line)
        _expire_leases()
        let_time_pass(batch_id)
        send(batch_id, smtp_line)
        assert left == []
        assert counts(campaign) == {"sent": 4, "suppressed": 1}
        assert sorted(smtp.recipients) == [email for email in EVERYBODY if email != "p3@example.com"]


class TestRecord:
    @FATES
    @pytest.mark.parametrize("call", [1, 2])
    def test_writes_each_answer_once(
        self,
        campaign: Campaign,
        smtp: SmtpServer,
        smtp_line: Line,
        monkeypatch: pytest.MonkeyPatch,
        fates: Sequence[str],
        call: int,
    ) -> None:
        monkeypatch.setattr(sending, "LONG_WAIT", -1.0)  # the answers are written before each pair's places
        (batch_id,) = started(campaign)
        left = _break_commits(monkeypatch, "record", fates, call=call)
        send(batch_id, smtp_line)
        assert left == []
        _all_were_written_to_once(campaign, smtp.recipients)
        _is_free_without_a_failure(batch_id)


class TestRelease:
    @FATES
    def test_loses_no_answer(
        self,
        campaign: Campaign,
        smtp: SmtpServer,
        smtp_line: Line,
        monkeypatch: pytest.MonkeyPatch,
        fates: Sequence[str],
    ) -> None:
        (batch_id,) = started(campaign)
        left = _break_commits(monkeypatch, "release", fates)
        send(batch_id, smtp_line)
        assert left == []
        _all_were_written_to_once(campaign, smtp.recipients)
        _is_free_without_a_failure(batch_id)

    def test_loses_no_answer_of_one_request_for_all(
        self,
        campaign: Campaign,
        sendgrid: SendGridServer,
        sendgrid_line: Line,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        (batch_id,) = started(campaign)
        left = _break_commits(monkeypatch, "release", ["before"])
        send(batch_id, sendgrid_line)
        assert left == []
        _all_were_written_to_once(campaign, sendgrid.recipients)


class TestRuleOut:
    @FATES
    def test_rules_out_once_and_the_others_are_sent(
        self,
        campaign: Campaign,
        smtp: SmtpServer,
        smtp_line: Line,
        monkeypatch: pytest.MonkeyPatch,
        fates: Sequence[str],
    ) -> None:
        Suppression.objects.create(email="p1@example.com")
        (batch_id,) = started(campaign)
        left = _break_commits(monkeypatch, "rule_out", fates)
        _send_whatever_breaks(batch_id, smtp_line)
        assert left == []
        assert counts(campaign) == {"sent": 4, "suppressed": 1}
        assert sorted(smtp.recipients) == [email for email in EVERYBODY if email != "p1@example.com"]
        assert not DeliveryLog.objects.exclude(doubts=0).exists()


class TestClaim:
    @pytest.mark.parametrize("fate", ["before", "after"])
    def test_leaves_a_batch_that_is_sent_after_its_lease_at_the_latest(
        self,
        campaign: Campaign,
        smtp: SmtpServer,
        smtp_line: Line,
        monkeypatch: pytest.MonkeyPatch,
        fate: str,
    ) -> None:
        (batch_id,) = started(campaign)
        left = _break_commits(monkeypatch, "claim", [fate])
        _send_whatever_breaks(batch_id, smtp_line)
        assert left == []
        _all_were_written_to_once(campaign, smtp.recipients)


def _send_whatever_breaks(batch_id: int, line: Line) -> None:
    """Send the batch in two tries; what the first one left behind is put right by the usual recovery."""
    try:
        send(batch_id, line)
    except OperationalError:
        connection.close()
    _expire_leases()
    let_time_pass(batch_id)
    send(batch_id, line)


class TestDatabaseAwayForLongerThanTheLease:
    def test_renewing_loses_the_lease(self, campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
        lease = _claimed(campaign)
        lease._good_until = time.monotonic() - 1
        with _database_away(monkeypatch), pytest.raises(ledger.LeaseLost):
            ledger.renew(lease)

    def test_renewing_is_left_for_later_while_the_lease_is_good(
        self, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lease = _claimed(campaign)
        until = lease._good_until
        with _database_away(monkeypatch):
            ledger.renew(lease)
        assert lease._good_until == until
        ledger.renew(lease)
        assert lease._good_until > until

    def test_nothing_more_is_sent(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (batch_id,) = started(campaign)
        renew = ledger.renew
        looks = count(1)

        def away(lease: ledger.Lease) -> None:
            if next(looks) == 2:  # before the second mail of the first pair
                lease._good_until = time.monotonic() - 1
                with _database_away(monkeypatch):
                    renew(lease)
            else:
                renew(lease)

        # each mail is looked at, for its answer may take longer than the lease lasts
        smtp_line.providers[0].patience = 1e6
        monkeypatch.setattr(ledger, "renew", away)
        send(batch_id, smtp_line)
        assert smtp.recipients == ["p0@example.com"]
        assert counts(campaign) == {"sent": 1, "pending": 4}


class TestLastSecondsOfALease:
    def test_a_worker_looks_before_it_sends(
        self,
        campaign: Campaign,
        smtp: SmtpServer,
        smtp_line: Line,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        (batch_id,) = started(campaign)
        declare = ledger.declare

        def overslept(lease: ledger.Lease, ids: Sequence[int], provider: str) -> set[int]:
            held_back = declare(lease, ids, provider)
            lease._good_until = time.monotonic() + 1
            _expire_leases()  # somebody whose clock is ahead takes the batch
            return held_back

        monkeypatch.setattr(ledger, "declare", overslept)
        send(batch_id, smtp_line)
        assert smtp.recipients == []
        assert counts(campaign) == {"pending": 3, "unconfirmed": 2}

    def test_a_worker_goes_on_that_still_has_it(
        self, campaign: Campaign, smtp: SmtpServer, smtp_line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (batch_id,) = started(campaign)
        declare = ledger.declare

        def late(lease: ledger.Lease, ids: Sequence[int], provider: str) -> set[int]:
            held_back = declare(lease, ids, provider)
            lease._good_until = time.monotonic() + 1
            return held_back

        monkeypatch.setattr(ledger, "declare", late)
        send(batch_id, smtp_line)
        _all_were_written_to_once(campaign, smtp.recipients)


def _claimed(campaign: Campaign) -> ledger.Lease:
    (batch_id,) = started(campaign)
    lease = ledger.claim(batch_id, "a worker")
    assert lease is not None
    return lease


@contextmanager
def _database_away(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Cut the connection, and let nobody listen where the next one is made."""
    connection.close()
    with monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict, "PORT", "1")
        yield
    connection.close()
