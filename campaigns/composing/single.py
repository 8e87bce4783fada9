"""One mail that is written once, to a few recipients who may see one another: no template, no slots.

Each recipient gets the same bytes over SMTP, in a transaction of their own, so that each has an answer of
their own; a request to SendGrid names all of a group together.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from typing import Any, NamedTuple

from campaigns.composing.attachments import base64_lines, file_name
from campaigns.composing.compiled import Sender, plain_line_ends
from campaigns.composing.headers import (
    address_field,
    addresses_field,
    extra_field,
    line_field,
    recipients_field,
    single_line,
    text_field,
    token_field,
)
from campaigns.composing.letters import Letter
from campaigns.composing.quoted_printable import quoted

# Fields whose text a mail may give itself in place of the one made from its recipients (over SMTP only).
SHOWN_INSTEAD = ("To", "Cc")
_DOTS = re.compile(rb"(?m)^\.")  # RFC 5321 §4.5.2


class PartKind(StrEnum):
    """What a part is to the mail."""

    ATTACHMENT = "attachment"
    """A file to save."""
    INLINE = "inline"
    """A file that the HTML shows, by its content id."""
    ALTERNATIVE = "alternative"
    """Another form of the text, such as a calendar entry."""
    WHOLE = "whole"
    """A complete MIME part with its own fields, such as a forwarded mail."""


@dataclass(frozen=True, slots=True)
class Part:
    """Something that goes with a mail; `content_type` may have parameters."""

    kind: PartKind
    content_type: str
    content: bytes
    name: str = ""
    content_id: str = ""


class Addressee(NamedTuple):
    """A recipient: their row, the field in which they stand (to, cc, bcc), name and address."""

    delivery_id: int
    kind: str
    name: str
    email: str


@dataclass(frozen=True)
class SingleMail:
    """A mail, complete. `written_at` becomes its Date, the same on every attempt, like its Message-ID."""

    sender: Sender
    addressees: tuple[Addressee, ...]
    subject: str
    text: str
    html: str
    message_id: str
    written_at: datetime
    reply_to: tuple[tuple[str, str], ...] = ()  # names and addresses
    headers: tuple[tuple[str, str], ...] = ()
    parts: tuple[Part, ...] = ()

    def letters(self, delivery_ids: Iterable[int]) -> list[Letter]:
        """Return the letters to those of its recipients."""
        asked = set(delivery_ids)
        return [
            Letter(each.delivery_id, each.email, each.name, self.message_id, {})
            for each in self.addressees
            if each.delivery_id in asked
        ]

    def content_for(self, letter: Letter) -> bytes:
        """Return the mail as that letter carries it; the same object for all that carry the same.

        Addresses outside ASCII are shown only where SMTPUTF8 is needed anyhow; to the others they are names
        without an address, so that no server refuses their mail for it. Raises ValueError.
        """
        return self.utf8_content if letter.needs_smtputf8 else self.content

    @cached_property
    def content(self) -> bytes:
        """The mail of RFC 5322 as it follows SMTP's DATA: with CRLF at each line end, and dots doubled.

        Raises ValueError where an address or a field cannot be written.
        """
        return self._written(utf8=False)

    @cached_property
    def utf8_content(self) -> bytes:
        """The same with addresses outside ASCII as they are (RFC 6532), for SMTPUTF8."""
        return self._written(utf8=True)

    def _written(self, *, utf8: bool) -> bytes:
        head = "".join(f"{field}\r\n" for field in self._fields(utf8=utf8))
        return head.encode("utf-8" if utf8 else "ascii") + self._body() + b"\r\n"

    def request(self, group: Sequence[Letter]) -> dict[str, Any]:
        """Return SendGrid's Mail Send request for a group of its recipients."""
        ids = {letter.delivery_id for letter in group}
        chosen = [each for each in self.addressees if each.delivery_id in ids]
        content = [part for part in self._contents() if part["value"]]
        answers_to = [_named(*each) for each in self.reply_to]
        files = [_request_part(part) for part in self.parts if part.kind is not PartKind.ALTERNATIVE]
        return {
            "personalizations": [self._personalization(those) for those in _together(chosen)],
            "from": _named(self.sender.name, self.sender.email),
            **({"reply_to_list": answers_to} if answers_to else {}),
            "subject": single_line(self.subject) or " ",
            "content": content or [{"type": "text/plain", "value": " "}],
            **({"attachments": files} if files else {}),
            "tracking_settings": {"subscription_tracking": {"enable": False}},
        }

    def _personalization(self, those: dict[str, list[Addressee]]) -> dict[str, Any]:
        own = {name: single_line(value) for name, value in self.headers if name not in SHOWN_INSTEAD}
        shown = {kind: [_named(each.name, each.email) for each in found] for kind, found in those.items()}
        return {
            **shown,
            "headers": {**own, "Message-ID": f"<{self.message_id}>"},
            "custom_args": {"recipient_ids": ",".join(str(each.delivery_id) for each in _all(those))},
        }

    def _contents(self) -> Iterator[dict[str, str]]:
        yield {"type": "text/plain", "value": self.text}
        yield {"type": "text/html", "value": self.html}
        for part in self._of(PartKind.ALTERNATIVE):
            yield {"type": part.content_type, "value": part.content.decode("utf-8", "replace")}

    def _of(self, kind: PartKind) -> list[Part]:
        return [part for part in self.parts if part.kind is kind]

    # --- As MIME ------------------------------------------------------------------------------------

    def _fields(self, *, utf8: bool) -> Iterator[str]:
        given = dict(self.headers)
        yield address_field("From", self.sender.name, self.sender.email)
        if self.reply_to:
            yield addresses_field("Reply-To", self.reply_to)
        for name in SHOWN_INSTEAD:
            there = [(each.name, each.email) for each in self.addressees if each.kind == name.lower()]
            if name in given:
                yield line_field(name, given[name])
            elif there:
                yield recipients_field(name, there, utf8=utf8)
        yield text_field("Subject", self.subject)
        yield f"Date: {format_datetime(self.written_at)}"
        yield token_field("Message-ID", f"<{self.message_id}>")
        for name, value in given.items():
            if name not in SHOWN_INSTEAD:
                yield extra_field(name, value)
        yield "MIME-Version: 1.0"

    def _body(self) -> bytes:
        html = _text_part("html", self.html) if self.html else b""
        if html and (inline := self._of(PartKind.INLINE)):
            html = self._multipart("related", [html, *(_file_part(part) for part in inline)])
        texts = [
            *([_text_part("plain", self.text)] if self.text or not html else []),
            *([html] if html else []),
            *(_file_part(part) for part in self._of(PartKind.ALTERNATIVE)),
        ]
        files = [
            _file_part(part)
            for part in self.parts
            if part.kind in (PartKind.ATTACHMENT, PartKind.WHOLE)
            or (part.kind is PartKind.INLINE and not self.html)
        ]
        body = self._multipart("alternative", texts) if len(texts) > 1 else texts[0]
        return self._multipart("mixed", [body, *files]) if files else body

    def _multipart(self, subtype: str, parts: Sequence[bytes]) -> bytes:
        """Put parts together; the boundary cannot stand in any, not even in an earlier mail of ours."""
        boundary = f"=_{subtype}_{sha256(self.message_id.encode()).hexdigest()[:16]}".encode()
        head = b'Content-Type: multipart/%b; boundary="%b"\r\n' % (subtype.encode(), boundary)
        return (
            head + b"".join(b"\r\n--%b\r\n%b" % (boundary, part) for part in parts) + b"\r\n--%b--" % boundary
        )


def _text_part(subtype: str, text: str) -> bytes:
    head = (
        f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    )
    return head.encode("ascii") + quoted(plain_line_ends(text))


def _file_part(part: Part) -> bytes:
    if part.kind is PartKind.WHOLE:
        return _DOTS.sub(b"..", part.content)
    fields = [f"Content-Type: {part.content_type}", "Content-Transfer-Encoding: base64"]
    if part.content_id:
        fields.append(token_field("Content-ID", f"<{part.content_id}>"))
    if part.kind is not PartKind.ALTERNATIVE:
        where = "inline" if part.kind is PartKind.INLINE else "attachment"
        fields.append(
            f"Content-Disposition: {where}" + (f";\r\n {file_name(part.name)}" if part.name else "")
        )
    return "\r\n".join([*fields, "", ""]).encode("ascii") + base64_lines(part.content)


# --- As a request ---------------------------------------------------------------------------------------


def _together(chosen: Sequence[Addressee]) -> list[dict[str, list[Addressee]]]:
    """Say who stands in one personalization, which names all of them to all but the hidden ones.

    SendGrid wants a `to` in each. Where nobody is left in To, each gets a mail of their own, lest somebody
    hidden be shown to another.
    """
    by_kind = {kind: [each for each in chosen if each.kind == kind] for kind in ("to", "cc", "bcc")}
    if not by_kind["to"]:
        return [{"to": [each]} for each in chosen]
    return [{kind: found for kind, found in by_kind.items() if found}]


def _all(those: dict[str, list[Addressee]]) -> list[Addressee]:
    return [each for found in those.values() for each in found]


def _named(name: str, email: str) -> dict[str, str]:
    return {"email": email, **({"name": single_line(name)} if name else {})}


def _request_part(part: Part) -> dict[str, str]:
    """Return a file as SendGrid takes it, which has no other way for a complete part either."""
    content = part.content.partition(b"\r\n\r\n")[2] if part.kind is PartKind.WHOLE else part.content
    return {
        "content": b64encode(content).decode("ascii"),
        "type": part.content_type.partition(";")[0],
        "filename": part.name or "attachment",
        "disposition": "inline" if part.content_id else "attachment",
        **({"content_id": part.content_id} if part.content_id else {}),
    }
