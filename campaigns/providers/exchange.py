"""A group of mails on its way over several SMTP connections at once, in one thread.

Each connection gets its next mail when it has answered for its last. So while one server process thinks
about a mail, others take theirs; and what is declared together, with one wait for the disk, is that much
more.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from campaigns.composing import Letter
from campaigns.providers.base import Asked, Outcome, Trouble, Verdict, lease_over
from campaigns.providers.conversation import Conversation, Envelope, Waiting
from campaigns.providers.wire import Wires

LOOK_SECONDS = 1.0  # how often it is asked whether to go on, while servers take their time

Judge = Callable[[Letter, Exception], tuple[Outcome, Trouble | None]]


class Mail(NamedTuple):
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
        self._share = share
        self._judge = judge
        self._still_ours = still_ours
        self._asked_at = time.monotonic()

    def run(self) -> None:
        """Send until nothing is left or no more may leave, and every mail that was begun has its outcome."""
        wires = Wires()
        parts = {conversation: self._carried_by(conversation) for conversation in self._conversations}
        waiting: dict[Conversation, float] = {}  # for the server, and until when at most
        free = self._conversations
        while True:
            for conversation in free:
                until = next(parts[conversation], None)
                if until is not None:
                    waiting[conversation] = until
                else:
                    waiting.pop(conversation, None)
            if not waiting:
                return
            free = Conversation.awaited(waiting, wires, until=self._asked_at + LOOK_SECONDS)
            if time.monotonic() >= self._asked_at + LOOK_SECONDS:
                self._may_go_on()

    def _carried_by(self, conversation: Conversation) -> Waiting[None]:
        """Send one mail after the other over a conversation, while there are any and they may leave."""
        mails = self._share_of(conversation)
        following = next(mails, None)
        while following and not self.troubles and self._may_go_on():
            mail, following = following, next(mails, None)
            announced = following.envelope if following else None  # goes with the end of the mail before
            try:
                text = yield from conversation.deliver(mail.envelope, mail.content, following=announced)
            except Exception as error:
                self._note(*self._judge(mail.letter, error))
            else:
                self._note(Outcome(mail.letter.delivery_id, Verdict.ACCEPTED, provider_message_id=text))

    def _share_of(self, conversation: Conversation) -> Iterator[Mail]:
        """Take one by one the mails that this conversation may carry, as many as it may."""
        for _ in range(min(self._share, conversation.left)):
            for position, mail in enumerate(self._waiting):
                if conversation.carries(mail.envelope):
                    del self._waiting[position]
                    yield mail
                    break
            else:
                return

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
