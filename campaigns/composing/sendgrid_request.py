"""Messages as requests of SendGrid's v3 Mail Send API.

One request carries a whole batch: the static text once, a tag for each slot, and each recipient's own
values as that personalization's substitutions. Limits: SendGrid, "Mail Send: overview" and "errors".
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from campaigns.composing.attachments import Attachment, request_part
from campaigns.composing.bounds import Work
from campaigns.composing.compiled import CompiledMessage, CompiledText, Slot
from campaigns.composing.headers import single_line
from campaigns.composing.letters import Letter, Rendered, personal_headers

MAX_SUBSTITUTIONS = 150
MAX_SUBSTITUTION_BYTES = 10_000  # the stricter of the two figures that SendGrid's pages name

Request = dict[str, Any]


def shared_values(message: CompiledMessage, letter: Letter) -> list[str] | None:
    """Return this recipient's values in the order of the slots, if they may travel in a shared request.

    Raises CannotRender.
    """
    values = _values(message, letter)
    fits = len(values) <= MAX_SUBSTITUTIONS and (
        sum(len(value.encode()) + 32 for value in values) <= MAX_SUBSTITUTION_BYTES
    )
    return values if fits else None


def request_for_all(
    message: CompiledMessage,
    letters: Sequence[Letter],
    known: Mapping[int, Sequence[str]] = MappingProxyType({}),
) -> Request:
    """Return one request that writes to every one of `letters`, at most 1,000, each with its `shared_values`.

    Those that are `known`, by delivery, are not made again. Raises CannotRender.

    The tags are drawn anew for each request, so that no recipient's value can contain one.
    """
    nonce = secrets.token_hex(4)
    tags = [f"-{nonce}.{number}-" for number in range(len(_slots(message)))]
    remaining = iter(tags)
    subject, text = _tagged(message.subject, remaining), _tagged(message.text, remaining)
    html = _tagged(message.html, remaining) if message.html else ""
    personalizations = [
        {
            **_personalization(message, letter),
            "substitutions": dict(
                zip(tags, known.get(letter.delivery_id) or _values(message, letter), strict=True)
            ),
        }
        for letter in letters
    ]
    return _request(message, Rendered(subject, html, text), personalizations)


def request_for_one(message: CompiledMessage, letter: Letter) -> Request:
    """Return a request for one recipient with the text written out."""
    return _request(message, Rendered.of(message, letter), [_personalization(message, letter)])


def _parts(message: CompiledMessage) -> tuple[CompiledText, ...]:
    return (message.subject, message.text, *([message.html] if message.html else []))


def _slots(message: CompiledMessage) -> list[Slot]:
    return [slot for part in _parts(message) for slot in _slots_of(part)]


def _slots_of(part: CompiledText) -> list[Slot]:
    return [piece for piece in part.pieces if isinstance(piece, Slot)]


def _values(message: CompiledMessage, letter: Letter) -> list[str]:
    filled: list[str] = []
    for part in _parts(message):
        work = Work()
        filled += [slot.fill(letter.context, work) for slot in _slots_of(part)]
    return filled


def _tagged(text: CompiledText, tags: Iterator[str]) -> str:
    return "".join(piece if isinstance(piece, str) else next(tags) for piece in text.pieces)


def _named(name: str) -> dict[str, str]:
    return {"name": single_line(name)} if name else {}


def _personalization(message: CompiledMessage, letter: Letter) -> dict[str, Any]:
    to = {"email": letter.email, **_named(letter.name)}
    return {
        "to": [to],
        # all of them here: whether SendGrid adds those of the message to these is not documented
        "headers": {**dict(message.headers), **personal_headers(letter)},
        "custom_args": {"delivery_id": str(letter.delivery_id)},
    }


@lru_cache(maxsize=2)  # the next request of the same campaign has them, too
def _attachments(attachments: tuple[Attachment, ...]) -> list[dict[str, str]]:
    return [request_part(each) for each in attachments]


def _request(message: CompiledMessage, rendered: Rendered, personalizations: list[dict[str, Any]]) -> Request:
    sender = message.sender
    texts = (("text/plain", rendered.text), ("text/html", rendered.html))
    content = [{"type": kind, "value": value} for kind, value in texts if value]
    return {
        "personalizations": personalizations,
        "from": {"email": sender.email, **_named(sender.name)},
        **({"reply_to": {"email": sender.reply_to}} if sender.reply_to else {}),
        # neither may be empty
        "subject": rendered.subject or " ",
        "content": content or [{"type": "text/plain", "value": " "}],
        **({"attachments": _attachments(message.attachments)} if message.attachments else {}),
        # ours is in the headers; SendGrid would add a second List-Unsubscribe
        "tracking_settings": {"subscription_tracking": {"enable": False}},
    }
