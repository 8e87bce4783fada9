"""One run: a campaign, a plan of faults, the final account."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psycopg

from tests.chaos.faults import Stroke, plan
from tests.chaos.operating import Operator, Watch
from tests.chaos.system import ROOT, Setup, System
from tests.chaos.verdict import Entry, Verdict, judge

FINISH_WITHIN = 300.0  # seconds without a single new mail, or from the last fault to the end
QUIET = 3.0  # seconds after the end
STANDSTILL = 100.0  # seconds after which the next fault strikes although nothing has moved


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a run."""

    seed: int
    setup: Setup
    faults: int
    seconds: float
    accepted: int
    arrived_in_doubt: int
    readings: int
    unanswered: int
    wrong_readings: list[str]
    status: str
    verdict: Verdict

    @property
    def problems(self) -> list[str]:
        """What is wrong, a sentence each; empty when the promise was kept."""
        found = list(self.verdict.problems)
        if self.wrong_readings:
            found.append(f"{len(self.wrong_readings)} wrong readings, such as {self.wrong_readings[0]}")
        if self.status != "completed":
            found.append(f"the campaign is {self.status or 'not to be seen'}")
        return found


@dataclass(slots=True)
class Accepted:
    """The provider's log of acceptances, read as it grows."""

    file: Path
    addresses: list[str] = field(default_factory=list)
    _read: int = 0

    def count(self) -> int:
        """Read on, and return how many mails were accepted so far."""
        if self.file.exists():
            with self.file.open("rb") as log:
                log.seek(self._read)
                lines = log.read()
            whole = lines[: lines.rfind(b"\n") + 1]
            self._read += len(whole)
            self.addresses += [line.split("\t")[0] for line in whole.decode().splitlines()]
        return len(self.addresses)


@dataclass(slots=True)
class Run:
    """The campaign of one run, from its audience to its account."""

    seed: int
    setup: Setup
    recipients: int
    faults: int
    directory: Path
    say: Callable[[str], None]
    _later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def __call__(self) -> Result:
        """Run to the end and judge. Raises AssertionError when a part of the system does not come up."""
        strokes = plan(self.seed, self.faults, broker=self.setup.broker)
        with System(self.setup, self.directory) as system:
            system.operator = operator = self._prepare(system)
            audience = _audience(system)
            accepted = Accepted(system.accounts)
            system.start_programs()
            began = time.monotonic()
            operator.ask("start")
            watched = Accepted(system.accounts)  # for the other thread
            with Watch(operator, self.recipients, watched.count) as watch:
                self._strike_all(system, strokes, accepted, began)
                self._finish(system, watch)
            seconds = time.monotonic() - began
            return self._result(system, strokes, audience, accepted, watch, seconds)

    def _prepare(self, system: System) -> Operator:
        command = [sys.executable, "-m", "tests.chaos.preparing", str(self.recipients), str(self.seed)]
        prepared = subprocess.run(
            command, cwd=ROOT, env=system.environment, stdout=subprocess.PIPE, check=True
        )
        return Operator(system.web, **json.loads(prepared.stdout))

    def _strike_all(self, system: System, strokes: list[Stroke], accepted: Accepted, began: float) -> None:
        for stroke in strokes:
            self._wait(system, accepted, stroke.share * self.recipients)
            random = Random(stroke.seed)  # noqa: S311  # repeatable on purpose
            after = stroke.fault.strike(system, random)
            if after:
                self._later.append((time.monotonic() + after[0], after[1]))
            self.say(
                f"{time.monotonic() - began:6.1f} s  {accepted.count():6,} accepted  {stroke.fault.name}"
            )

    def _wait(self, system: System, accepted: Accepted, count: float) -> None:
        """Keep the system going until so many mails were accepted, or none for long."""
        known, since = accepted.count(), time.monotonic()
        while accepted.count() < count and time.monotonic() - since < STANDSTILL:
            if accepted.count() > known:
                known, since = accepted.count(), time.monotonic()
            self._keep_going(system)

    def _finish(self, system: System, watch: Watch) -> None:
        deadline = time.monotonic() + FINISH_WITHIN
        while time.monotonic() < deadline:
            self._keep_going(system)
            if not self._later and watch.last.get("status") not in (None, "in_progress", "paused"):
                time.sleep(QUIET)  # whoever would still send something has the time to be noticed
                return

    def _keep_going(self, system: System) -> None:
        system.look_after()
        due = [action for moment, action in self._later if moment <= time.monotonic()]
        self._later = [entry for entry in self._later if entry[1] not in due]
        for action in due:
            action()
        time.sleep(0.05)  # other processes work meanwhile

    def _result(
        self,
        system: System,
        strokes: list[Stroke],
        audience: set[str],
        accepted: Accepted,
        watch: Watch,
        seconds: float,
    ) -> Result:
        accepted.count()
        bound = sum(stroke.fault.in_doubt for stroke in strokes) * self.setup.unit
        verdict = judge(
            audience,
            Counter(accepted.addresses),
            _ledger(system),
            withdrawn=system.withdrawn,
            resend=self.setup.policy == "resend",
            bound=bound,
        )
        return Result(
            seed=self.seed,
            setup=self.setup,
            faults=len(strokes),
            seconds=seconds,
            accepted=len(accepted.addresses),
            arrived_in_doubt=len(verdict.unconfirmed & set(accepted.addresses)),
            readings=watch.readings,
            unanswered=watch.unanswered,
            wrong_readings=watch.wrong,
            status=watch.last.get("status", ""),
            verdict=verdict,
        )


def _audience(system: System) -> set[str]:
    """Return the audience's addresses, as they are before the start."""
    with psycopg.connect(system.postgres.url) as connection:
        found = connection.execute(
            """
            SELECT email FROM campaigns_recipient
             WHERE audience_id = (SELECT audience_id FROM campaigns_campaign WHERE id = %s)
            """,
            [system.operator.campaign],
        )
        return {email for (email,) in found}


def _ledger(system: System) -> dict[str, Entry]:
    """Return the campaign's entries in the ledger, by address."""
    with psycopg.connect(system.postgres.url) as connection:
        rows = connection.execute(
            "SELECT email, status, doubts FROM campaigns_deliverylog WHERE campaign_id = %s",
            [system.operator.campaign],
        )
        return {email: Entry(status, doubts) for email, status, doubts in rows}
