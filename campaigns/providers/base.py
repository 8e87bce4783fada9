"""The story of one send, and the words in which a provider answers.

A provider says which letters it can never carry (`declines`), splits the others into groups that may leave
together (`groups`), is opened before each group, writes its mails (`compose`), sends them, and rests between
batches. The caller writes down what is about to leave between composing and sending, and what came of it
after; so a group is also the most that a crash can leave in doubt.

Sending does not raise for what the other side does: it answers with one Outcome per letter of the group
and, where the provider cannot be used further, with the Trouble that says why.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Self

from campaigns.composing import Letter, Message
from campaigns.throttle import Limit


class Verdict(Enum):
    """What became of one letter."""

    ACCEPTED = "accepted"
    """The provider took responsibility for it."""
    REFUSED = "refused"
    """Refused for good."""
    DEFERRED = "deferred"
    """Refused for now; try again later."""
    UNSENT = "unsent"
    """Provably not accepted, through no fault of the letter; free to be sent another way."""
    UNCONFIRMED = "unconfirmed"
    """It left and no usable answer came; it may have been accepted."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on one delivery, with the provider's id of the mail or the words of its refusal."""

    delivery_id: int
    verdict: Verdict
    provider_message_id: str = ""
    reason: str = ""


class Trouble(Exception):
    """Why a provider cannot be used at present.

    With `retry_after` (seconds) the provider asked for a pause and is the one to wait for; without it,
    another provider may be tried. `over_in` (seconds) is when it may be over, where that is known. It is
    no `fault` of the provider when this campaign's sender is refused, or the batch was taken from us. A
    provider that `hung_up` after it had taken mails may take more on a new connection.
    """

    def __init__(
        self,
        why: str,
        retry_after: float | None = None,
        *,
        over_in: float | None = None,
        fault: bool = True,
        hung_up: bool = False,
    ) -> None:
        super().__init__(why)
        self.fault = fault
        self.hung_up = hung_up
        self.why = why
        self.retry_after = retry_after
        self.over_in = retry_after if over_in is None else over_in


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcomes of one group, and the trouble that ended it, if any."""

    outcomes: tuple[Outcome, ...]
    trouble: Trouble | None = None


Asked = Callable[[], bool]  # before each request: whether anything may leave
Departure = Callable[[Sequence[Letter], Asked], Answer]


class Provider(ABC):
    """One way out. As a context manager it is open inside; entering raises Trouble."""

    limit: Limit
    patience: float  # seconds that the answers to one request, or one SMTP message, may be waited for
    from_email: str = ""  # the sender of campaigns that name none; empty for DEFAULT_FROM_EMAIL

    @property
    def name(self) -> str:
        """The provider's name in settings, in the ledger and on screens."""
        return self.limit.name

    @abstractmethod
    def is_ready(self) -> bool:
        """Say, at no cost, whether `open` would have nothing to do."""

    @abstractmethod
    def open(self) -> None:
        """Make ready to send, if it is not; raises Trouble when the other side is away or refuses us."""

    @abstractmethod
    def rest(self) -> None:
        """Note that a batch is done: what can be used for the next one is kept; never raises."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection; never raises."""

    @abstractmethod
    def declines(self, letter: Letter) -> str:
        """Say why this provider can never carry a letter, "" where it can; asked while it is open.

        Another provider may. Nothing is booked, declared or sent for such a letter, and it is no fault of
        the provider.
        """

    @abstractmethod
    def groups(self, message: Message, letters: Sequence[Letter]) -> Iterator[Sequence[Letter]]:
        """Split `letters` into groups that leave together."""

    @property
    def room(self) -> int:
        """How many letters may leave together, now that it is open; a group may turn out too large."""
        return sys.maxsize

    @abstractmethod
    def compose(self, message: Message, group: Sequence[Letter]) -> Departure:
        """Write one group, and return what sends those of its letters that it is given.

        It does not raise for a letter that cannot be written: that is refused when its turn comes.
        """

    def send(self, message: Message, group: Sequence[Letter], *, still_ours: Asked) -> Answer:
        """Write and send one group."""
        return self.compose(message, group)(group, still_ours)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def unsent(letters: Sequence[Letter], why: str) -> tuple[Outcome, ...]:
    """Return the outcomes of letters that were provably not accepted."""
    return tuple(Outcome(letter.delivery_id, Verdict.UNSENT, reason=why) for letter in letters)


def lease_over() -> Trouble:
    """Return why nothing more leaves when the batch is no longer ours."""
    return Trouble("the batch was taken back, or its campaign held, before this mail left", fault=False)
