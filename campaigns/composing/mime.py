"""One mail as the bytes that SMTP carries."""

import re
from binascii import b2a_qp
from collections.abc import Iterator
from datetime import datetime
from email.utils import format_datetime

from campaigns.composing.compiled import CompiledMessage
from campaigns.composing.headers import address_field, text_field, token_field
from campaigns.composing.letters import Letter, Rendered, personal_headers

# In quoted-printable text "=" is followed by two digits or a line end, so no content can hold this.
_BOUNDARY = "=_alternative"
_LINE_END = re.compile("\r\n?")


def build_mime(message: CompiledMessage, letter: Letter, *, now: datetime) -> bytes:
    """Return the mail of RFC 5322 with CRLF line ends, text first and HTML as its alternative.

    It is ASCII throughout, for servers without 8BITMIME. `now` becomes the Date header. Raises
    ValueError where an address cannot be written in a header.
    """
    rendered = Rendered.of(message, letter)
    head = "\r\n".join(_fields(message, letter, rendered, now)) + "\r\n"
    text = _part("plain", rendered.text)
    if not rendered.html:
        return head.encode("ascii") + text
    html = _part("html", rendered.html)
    opening = f'Content-Type: multipart/alternative; boundary="{_BOUNDARY}"\r\n'
    between, end = f"\r\n--{_BOUNDARY}\r\n".encode(), f"\r\n--{_BOUNDARY}--\r\n".encode()
    return b"".join((head.encode("ascii"), opening.encode(), between, text, between, html, end))


def _fields(message: CompiledMessage, letter: Letter, rendered: Rendered, now: datetime) -> Iterator[str]:
    sender = message.sender
    yield text_field("Subject", rendered.subject)
    yield address_field("From", sender.name, sender.email)
    yield address_field("To", letter.name, letter.email)
    if sender.reply_to:
        yield address_field("Reply-To", "", sender.reply_to)
    yield f"Date: {format_datetime(now)}"
    for name, value in personal_headers(letter).items():
        yield token_field(name, value)
    yield "MIME-Version: 1.0"


def _part(subtype: str, text: str) -> bytes:
    head = (
        f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    )
    encoded = b2a_qp(_LINE_END.sub("\n", text).encode(), istext=True)
    return head.encode() + encoded.replace(b"\n", b"\r\n")
