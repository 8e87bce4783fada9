"""What the ledger promises of a row and of a batch, in plain Python: the model of test_batch_machine."""

from collections import Counter
from dataclasses import dataclass

from django.conf import settings

from campaigns.providers import Verdict

OPEN = ("pending", "deferred")
DENIALS = ("failed", "suppressed", "cancelled")  # they say that nothing arrived

# What a provider may do with a mail: (was it accepted?, what the worker hears).
FATES = {
    "accepted": (True, Verdict.ACCEPTED),
    "refused": (False, Verdict.REFUSED),
    "refused for now": (False, Verdict.DEFERRED),
    "not taken": (False, Verdict.UNSENT),
    "accepted in silence": (True, Verdict.UNCONFIRMED),
    "lost in silence": (False, Verdict.UNCONFIRMED),
}


@dataclass
class ModelRow:
    """What is to be true of one row of the delivery log, and what really became of its mail."""

    email: str
    status: str = "pending"
    leaving: bool = False
    attempts: int = 0
    doubts: int = 0
    waits: bool = False
    suppressed: bool = False
    deleted: bool = False
    accepted: int = 0

    @property
    def is_open(self) -> bool:
        return self.status in OPEN

    def become(self, status: str, *, waits: bool = False) -> None:
        """Take a status; one that denies a mail that may have arrived is not taken, but said in words."""
        if self.doubts and status in DENIALS:
            status = "unconfirmed"
        self.status, self.waits, self.leaving = status, waits, False

    def fall_into_doubt(self, tries: int) -> None:
        """It left, or may have, and nobody knows what became of it; `tries` counts this time, too."""
        self.doubts += 1
        again = settings.UNCONFIRMED_POLICY == "resend" and tries < settings.RETRY_MAX_ATTEMPTS
        self.become("deferred" if again else "unconfirmed", waits=again)

    @property
    def must_not_be_mailed(self) -> str:
        """The status it is to get instead of a mail; empty when it may be mailed."""
        if self.suppressed:
            return "suppressed"
        return "cancelled" if self.deleted else ""

    def answered(self, verdict: Verdict, tries: int) -> None:
        """Take a provider's verdict on the `tries`-th try."""
        self.attempts += verdict is not Verdict.UNSENT
        match verdict:
            case Verdict.ACCEPTED:
                self.become("sent")
            case Verdict.REFUSED:
                self.become("failed")
            case Verdict.UNSENT:
                self.become("pending")
            case Verdict.DEFERRED:
                again = tries < settings.RETRY_MAX_ATTEMPTS
                self.become("deferred" if again else "failed", waits=again)
            case Verdict.UNCONFIRMED:
                self.fall_into_doubt(tries)


@dataclass
class ModelBatch:
    """What is to be true of one batch; `held` says under which token, if it is."""

    rows: dict[int, ModelRow]
    token: int = 0
    held: int | None = None
    expired: bool = False
    rests: bool = False
    published: bool = False

    @property
    def has_work(self) -> bool:
        return any(row.is_open for row in self.rows.values())

    @property
    def is_free(self) -> bool:
        return self.held is None and not self.rests and self.has_work

    def end_lease(self) -> None:
        """Settle what was leaving; the rest stays as it is."""
        for row in self.rows.values():
            if row.leaving:
                row.attempts += 1
                row.fall_into_doubt(row.attempts)
        self.held, self.expired, self.published = None, False, False

    def cancel(self) -> None:
        """Cancel what has not left."""
        for row in self.rows.values():
            if row.is_open:
                row.become("cancelled")
        self.rests = self.published = False

    def as_stored(self) -> tuple[object, ...]:
        """Return what the test reads of the batch in the database."""
        counts = Counter(row.status for row in self.rows.values())
        names = ("pending", "deferred", "sent", "failed", "suppressed", "unconfirmed", "cancelled")
        held = self.held is not None
        return (self.token, held, self.expired, self.rests, self.published, *(counts[name] for name in names))
