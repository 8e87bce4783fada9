"""The final account of a run: what the provider accepted, against what the ledger says."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger says of one address: its status, and how often it left without a recorded answer."""

    status: str
    doubts: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Addresses for which the promise was broken, by the way it was, and those left in doubt.

    `withdrawn` are those that were suppressed or deleted in time, and so are right not to have a mail.
    `bound` is the most that the faults of the run can have left in doubt.
    """

    lost: frozenset[str]
    twice: frozenset[str]
    false_sent: frozenset[str]
    unrecorded: frozenset[str]
    missing: frozenset[str]
    unfinished: frozenset[str]
    unconfirmed: frozenset[str]
    doubted: frozenset[str]
    withdrawn: frozenset[str]
    bound: int

    @property
    def problems(self) -> list[str]:
        """What is wrong, a sentence each; empty when the promise was kept."""
        sentences = {
            "lost: neither accepted nor unconfirmed": self.lost,
            "accepted more often than the ledger can excuse": self.twice,
            "called sent, but never accepted": self.false_sent,
            "accepted, but neither sent nor unconfirmed": self.unrecorded,
            "of the audience, but not in the ledger": self.missing,
            "still open": self.unfinished,
        }
        found = [f"{len(who)} {what}, such as {min(who)}" for what, who in sentences.items() if who]
        if len(self.doubted) > self.bound:
            found.append(f"{len(self.doubted)} were left in doubt; the bound is {self.bound}")
        return found


def judge(
    audience: set[str],
    accepted: Counter[str],
    ledger: Mapping[str, Entry],
    *,
    withdrawn: Mapping[str, str],
    resend: bool,
    bound: int,
) -> Verdict:
    """Compare the audience at the start, what was accepted, and the ledger at the end.

    `withdrawn` has the addresses that an operator took out of the running campaign, with the status that
    this excuses, if nothing was accepted.
    With `resend`, an address may have been accepted once more for each time it was in doubt; without, once.
    """

    def having(*statuses: str) -> frozenset[str]:
        return frozenset(email for email, entry in ledger.items() if entry.status in statuses)

    def allowed(email: str) -> int:
        return 1 + (ledger[email].doubts if resend and email in ledger else 0)

    unconfirmed = having("unconfirmed")
    reached = frozenset(accepted)
    excused = frozenset(
        email for email, status in withdrawn.items() if email in ledger and ledger[email].status == status
    )
    return Verdict(
        lost=frozenset(audience) - reached - unconfirmed - excused,
        twice=frozenset(email for email, count in accepted.items() if count > allowed(email)),
        false_sent=having("sent") - reached,
        unrecorded=reached - having("sent") - unconfirmed,
        missing=frozenset(audience ^ ledger.keys()),
        unfinished=having("pending", "deferred"),
        unconfirmed=unconfirmed,
        doubted=frozenset(email for email, entry in ledger.items() if entry.doubts),
        withdrawn=excused - reached,
        bound=bound,
    )
