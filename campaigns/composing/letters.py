"""One recipient's share of a message."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from campaigns.composing.compiled import CompiledMessage


class Letter(NamedTuple):
    """What is known of one mail before it is written.

    `message_id` is without angle brackets and the same on every attempt; `context` holds the values of
    the template's fields.
    """

    delivery_id: int
    email: str
    name: str
    message_id: str
    context: dict[str, Any]
    unsubscribe_url: str = ""

    @property
    def needs_smtputf8(self) -> bool:
        """Whether only SMTPUTF8 carries it: its address has letters outside ASCII (RFC 6531 §3.2)."""
        return not self.email.isascii()


@dataclass(frozen=True, slots=True)
class Rendered:
    """The three texts of one mail."""

    subject: str
    html: str
    text: str

    @classmethod
    def of(cls, message: CompiledMessage, letter: Letter) -> "Rendered":
        """Render `message` for one recipient."""
        return cls(
            subject=message.subject.render(letter.context),
            html=message.html.render(letter.context) if message.html else "",
            text=message.text.render(letter.context),
        )


def personal_headers(letter: Letter) -> dict[str, str]:
    """Return the headers that differ from recipient to recipient.

    List-Unsubscribe-Post is given only with an https address, as RFC 8058 §3.1 demands.
    """
    headers = {"Message-ID": f"<{letter.message_id}>"}
    if letter.unsubscribe_url:
        headers["List-Unsubscribe"] = f"<{letter.unsubscribe_url}>"
        if letter.unsubscribe_url.startswith("https://"):
            headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    return headers
