"""A group of mails on its way over several SMTP connections at once, in one thread.

Each connection gets its next mail when it has answered for its last. So while one server process thinks
about a mail, others take theirs; and what is declared together, with one wait for the disk, is that much
more.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from campaigns.composing import Letter
from campaigns.providers.base import Asked, Outcome, Trouble, Verdict, lease_over
from campaigns.providers.conversation import Conversation, Envelope, Waiting

LOOK_SECONDS = 1.0  # how often it is asked whether to go on, while servers take their time

Judge = Callable[[Letter, Exception], tuple[Outcome, Trouble | None]]


@dataclass(frozen=True, slots=True)
class Mail:
    """A letter as it is written on the wire; `content` is in pieces, of which mails may share some."""

    letter: Letter
    envelope: Envelope
    content: tuple[bytes, ...]


class Exchange:
    """Runs once, until every mail has its outcome or there is trouble; then no further mail is begun.

    `outcomes`, by delivery, are those of the mails that were begun; `troubles` is what ended it.
    """

    def __init__(
        self,
        conversations: Sequence[Conversation],
        mails: Iterable[Mail],
        *,
        share: int,
        judge: Judge,
        still_ours: Asked,
    ) -> None:
        """`share` is how many mails one connection carries at most.

        `judge` says what an error of a conversation means for its mail, and for those to come.
        """
        self.outcomes: dict[int, Outcome] = {}
        self.troubles: list[Trouble] = []
        self._conversations = conversations
        self._waiting = deque(mails)
        self._places = {each: min(share, each.left) for each in conversations}
        self._upcoming: dict[Conversation, Mail] = {}  # whose envelope goes with the end of the mail before
        self._underway: dict[Conversation, tuple[Letter, Waiting[str]]] = {}
        self._until: dict[Conversation, float] = {}  # when those that wait for the server have waited enough
        self._judge = judge
        self._still_ours = still_ours
        self._asked_at = time.monotonic()

    def run(self) -> None:
        """Send until nothing is left or no more may leave, and every mail that was begun has its outcome."""
        free: Iterable[Conversation] = self._conversations
        while True:
            for conversation in free:
                self._go_on(conversation)
            if not self._until:
                return
            free = Conversation.awaited(self._until, until=self._asked_at + LOOK_SECONDS)
            if time.monotonic() >= self._asked_at + LOOK_SECONDS:
                self._may_go_on()

    def _go_on(self, conversation: Conversation) -> None:
        """Take one conversation to where it waits for the server, or has nothing left to do."""
        self._until.pop(conversation, None)
        while conversation in self._underway or self._begin(conversation):
            letter, steps = self._underway[conversation]
            try:
                self._until[conversation] = next(steps)
                return
            except StopIteration as done:
                self._note(Outcome(letter.delivery_id, Verdict.ACCEPTED, provider_message_id=done.value))
            except Exception as error:
                self._note(*self._judge(letter, error))
            del self._underway[conversation]

    def _begin(self, conversation: Conversation) -> bool:
        """Take up the next mail, if there is one and it may leave."""
        mail = self._upcoming.pop(conversation, None) or self._next_for(conversation)
        if mail is None or self.troubles or not self._may_go_on():
            return False
        following = self._next_for(conversation)
        if following:
            self._upcoming[conversation] = following
        steps = conversation.deliver(
            mail.envelope, b"".join(mail.content), following=following.envelope if following else None
        )
        self._underway[conversation] = mail.letter, steps
        return True

    def _next_for(self, conversation: Conversation) -> Mail | None:
        """Take the next mail that this conversation may carry, if there is one."""
        if not self._places[conversation]:
            return None
        for position, mail in enumerate(self._waiting):
            if conversation.carries(mail.envelope):
                del self._waiting[position]
                self._places[conversation] -= 1
                return mail
        return None

    def _may_go_on(self) -> bool:
        """Say whether a mail may be begun; asking also keeps the lease of those that are underway."""
        self._asked_at = time.monotonic()
        if not self._still_ours() and not self.troubles:
            self.troubles.append(lease_over())
        return not self.troubles

    def _note(self, outcome: Outcome, trouble: Trouble | None = None) -> None:
        self.outcomes[outcome.delivery_id] = outcome
        if trouble:
            self.troubles.append(trouble)
