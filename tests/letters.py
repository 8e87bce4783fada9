"""Messages and letters for the tests that write and send mails."""

from collections.abc import Sequence
from typing import Any

from campaigns.composing import CompiledMessage, Letter, Sender, compile_message

SENDER = Sender("news@example.com", "News")


def message(
    *, subject: str = "Hello {{ name }}", html: str = "", text: str = "", sender: Sender = SENDER
) -> CompiledMessage:
    """Compile a message; its text greets by name unless another one or HTML is given."""
    return compile_message(
        sender, subject=subject, html=html, text=text or ("" if html else "Dear {{ name }},\nhello.\n")
    )


def letter(
    number: int = 1, *, email: str = "", name: str = "", unsubscribe_url: str = "", **context: Any
) -> Letter:
    """Return the letter to `email`, else to reader<number>@example.com; `context` holds further fields."""
    return Letter(
        delivery_id=number,
        email=email or f"reader{number}@example.com",
        name=name,
        message_id=f"{number}.stable@example.com",
        context={"name": name, **context},
        unsubscribe_url=unsubscribe_url,
    )


def letters(count: int) -> Sequence[Letter]:
    """Return letters to as many readers, numbered from 1."""
    return [letter(number, name=f"Reader {number}") for number in range(1, count + 1)]
