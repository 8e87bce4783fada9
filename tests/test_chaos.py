"""The crash test in short, and whether its final account would notice a broken promise."""

import subprocess
import sys
from collections import Counter

import pytest

from tests.chaos.faults import FAULTS, plan
from tests.chaos.system import ROOT
from tests.chaos.verdict import Entry, Verdict, judge

SENT, IN_DOUBT = Entry("sent", 0), Entry("unconfirmed", 1)


class TestShortRun:
    @pytest.mark.parametrize(("provider", "policy"), [("smtp", "hold"), ("both", "resend")])
    def test_loses_nobody_and_writes_to_nobody_twice(self, provider: str, policy: str) -> None:
        size = ["--recipients=2000", "--faults=8", "--rate=300", "--seed=7"]
        ran = subprocess.run(
            [sys.executable, "-m", "tests.chaos", *size, f"--provider={provider}", f"--policy={policy}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "| 0 | 0 |" in ran.stdout


class TestPlan:
    def test_is_the_same_for_the_same_seed(self) -> None:
        assert plan(5, 24, broker="redis") == plan(5, 24, broker="redis") != plan(6, 24, broker="redis")

    def test_brings_every_kind_before_any_comes_twice(self) -> None:
        kinds = {fault.name for fault in FAULTS if fault.broker != "amqp"}
        drawn = [stroke.fault.name for stroke in plan(1, len(kinds) + 1, broker="redis")]
        assert set(drawn) == kinds
        assert {stroke.fault.name for stroke in plan(1, 30, broker="amqp")} > kinds


def _account(
    accepted: dict[str, int],
    ledger: dict[str, Entry],
    *,
    withdrawn: dict[str, str] | None = None,
    resend: bool = False,
    bound: int = 10,
) -> Verdict:
    return judge({"a", "b"}, Counter(accepted), ledger, withdrawn=withdrawn or {}, resend=resend, bound=bound)


class TestAccount:
    def test_finds_nothing_where_everybody_was_written_to_once(self) -> None:
        assert _account({"a": 1, "b": 1}, {"a": SENT, "b": SENT}).problems == []

    def test_excuses_what_is_unconfirmed_whether_it_arrived_or_not(self) -> None:
        assert _account({"a": 1}, {"a": IN_DOUBT, "b": IN_DOUBT}).problems == []

    def test_notices_who_was_lost(self) -> None:
        found = _account({"a": 1}, {"a": SENT, "b": Entry("failed", 0)})
        assert found.lost == {"b"}
        assert found.problems == ["1 lost: neither accepted nor unconfirmed, such as b"]

    def test_notices_who_was_written_to_twice(self) -> None:
        assert _account({"a": 2, "b": 1}, {"a": SENT, "b": SENT}).twice == {"a"}
        assert _account({"a": 2, "b": 1}, {"a": IN_DOUBT, "b": SENT}).twice == {"a"}

    def test_excuses_a_second_copy_only_of_what_was_in_doubt_and_sent_again(self) -> None:
        again = Entry("sent", 1)
        assert _account({"a": 2, "b": 1}, {"a": again, "b": SENT}, resend=True).problems == []
        assert _account({"a": 3, "b": 1}, {"a": again, "b": SENT}, resend=True).twice == {"a"}
        assert _account({"a": 1, "b": 2}, {"a": again, "b": SENT}, resend=True).twice == {"b"}

    @pytest.mark.parametrize("status", ["suppressed", "cancelled"])
    def test_excuses_who_was_withdrawn_only_with_the_status_that_says_so(self, status: str) -> None:
        ledger = {"a": SENT, "b": Entry(status, 0)}
        right = _account({"a": 1}, ledger, withdrawn={"b": status})
        assert right.problems == []
        assert right.withdrawn == {"b"}
        other = {"suppressed": "cancelled", "cancelled": "suppressed"}[status]
        assert _account({"a": 1}, ledger, withdrawn={"b": other}).lost == {"b"}
        assert _account({"a": 1}, ledger).lost == {"b"}

    def test_excuses_nobody_who_was_withdrawn_too_late(self) -> None:
        withdrawn = {"b": "suppressed"}
        late = _account({"a": 1, "b": 1}, {"a": SENT, "b": Entry("suppressed", 0)}, withdrawn=withdrawn)
        assert late.unrecorded == {"b"}
        assert late.withdrawn == set()
        assert _account({"a": 1, "b": 1}, {"a": SENT, "b": SENT}, withdrawn=withdrawn).problems == []
        assert _account({"a": 1}, {"a": SENT, "b": SENT}, withdrawn=withdrawn).lost == {"b"}

    def test_notices_a_mail_that_is_called_sent_and_never_was(self) -> None:
        found = _account({"a": 1}, {"a": SENT, "b": SENT})
        assert found.false_sent == {"b"}
        assert found.lost == {"b"}

    def test_notices_an_acceptance_that_the_ledger_denies(self) -> None:
        assert _account({"a": 1, "b": 1}, {"a": SENT, "b": Entry("failed", 0)}).unrecorded == {"b"}
        assert _account({"a": 1, "b": 1, "c": 1}, {"a": SENT, "b": SENT}).unrecorded == {"c"}

    def test_notices_a_member_of_the_audience_without_a_row(self) -> None:
        assert _account({"a": 1}, {"a": SENT}).missing == {"b"}

    def test_notices_more_doubt_than_the_faults_explain(self) -> None:
        found = _account({"a": 1, "b": 1}, {"a": IN_DOUBT, "b": SENT}, bound=0)
        assert found.problems == ["1 were left in doubt; the bound is 0"]

    def test_notices_what_is_still_open(self) -> None:
        found = _account({"a": 1}, {"a": SENT, "b": Entry("deferred", 0)})
        assert found.unfinished == {"b"}
