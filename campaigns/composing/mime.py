"""One mail as the bytes that SMTP carries: what is the same for everybody is encoded once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from email.utils import format_datetime
from functools import lru_cache
from itertools import starmap

from campaigns.composing.attachments import Attachment, mime_part
from campaigns.composing.compiled import CompiledMessage
from campaigns.composing.headers import address_field, line_field, text_field, token_field
from campaigns.composing.letters import Letter, personal_headers
from campaigns.composing.quoted_printable import Spliced, is_empty

# In quoted-printable text "=" is followed by two digits or a line end, so no content can hold this.
_BOUNDARY = b"=_alternative"
_MIXED = b"=_mixed"  # nor can base64


@dataclass(frozen=True, slots=True)
class _Frame:
    """What of a message is the same for everybody, as bytes; and text and HTML, which are filled for each."""

    fields: bytes
    texts: Spliced
    always_html: bool  # whatever its slots become
    attached: bytes


def build_mime(message: CompiledMessage, letter: Letter, *, now: datetime) -> bytes:
    """Return the mail of RFC 5322 with CRLF line ends, text first and HTML as its alternative.

    It is ASCII throughout, for servers without 8BITMIME, except the To of a letter that needs SMTPUTF8. It
    ends with a line end and has no line that begins with a dot, so that it may follow SMTP's DATA as it is.
    `now` becomes the Date header. Raises ValueError where an address cannot be written in a header,
    CannotRender where the values do not fit.
    """
    return b"".join(mime_pieces(message, letter, now=now))


def mime_pieces(message: CompiledMessage, letter: Letter, *, now: datetime) -> tuple[bytes, ...]:
    """Return what `build_mime` does, in pieces; those that all mails share are the same objects."""
    frame = _frame(message)
    head = (_personal_fields(message, letter, now).encode(), frame.fields)
    text, html = frame.texts.fill(letter.context)
    if frame.always_html or not is_empty(b"".join(html)):
        return (*head, _OPENING, _TEXT, *text, _NEXT, _HTML, *html, _END, frame.attached)
    last_line_end = b"" if b"".join(text).endswith(b"\r\n") else b"\r\n"
    return (*head, _TEXT, *text, last_line_end, frame.attached)


def _part_head(subtype: bytes) -> bytes:
    return (
        b"Content-Type: text/%b; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        % subtype
    )


_TEXT, _HTML = _part_head(b"plain"), _part_head(b"html")
_NEXT = b"\r\n--%b\r\n" % _BOUNDARY
_OPENING = b'Content-Type: multipart/alternative; boundary="%b"\r\n%b' % (_BOUNDARY, _NEXT)
_MIXED_OPENING = b'Content-Type: multipart/mixed; boundary="%b"\r\n\r\n--%b\r\n' % (_MIXED, _MIXED)
_END = b"\r\n--%b--\r\n" % _BOUNDARY


@lru_cache(maxsize=8)
def _frame(message: CompiledMessage) -> _Frame:
    fields = ("\r\n".join(_common_fields(message)) + "\r\n").encode("ascii")
    html = message.html.pieces if message.html else ()
    return _Frame(
        fields=fields + _MIXED_OPENING if message.attachments else fields,
        texts=Spliced(message.text.pieces, html),
        always_html=any(isinstance(piece, str) and piece for piece in html),
        attached=_attached(message.attachments),
    )


def _attached(attachments: Sequence[Attachment]) -> bytes:
    """Return what follows the mail's text where files are attached, else nothing."""
    if not attachments:
        return b""
    parts = b"".join(b"--%b\r\n%b\r\n" % (_MIXED, mime_part(each)) for each in attachments)
    return b"%b--%b--\r\n" % (parts, _MIXED)


def _common_fields(message: CompiledMessage) -> list[str]:
    sender = message.sender
    reply_to = [address_field("Reply-To", "", sender.reply_to)] if sender.reply_to else []
    return [
        address_field("From", sender.name, sender.email),
        *reply_to,
        *(line_field(name, value) for name, value in message.headers),
        "MIME-Version: 1.0",
    ]


def _personal_fields(message: CompiledMessage, letter: Letter, now: datetime) -> str:
    fields = [
        text_field("Subject", message.subject.render(letter.context)),
        address_field("To", letter.name, letter.email, utf8=True),
        _date_field(int(now.timestamp()), now.tzinfo),
        *starmap(token_field, personal_headers(letter).items()),
        "",
    ]
    return "\r\n".join(fields)


@lru_cache(maxsize=4)  # by numbers: a datetime is made and hashed at four times the cost
def _date_field(second: int, zone: tzinfo | None) -> str:
    return f"Date: {format_datetime(datetime.fromtimestamp(second, zone))}"
