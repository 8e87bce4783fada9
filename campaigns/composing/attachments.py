"""Files that go with every mail of a campaign, the same for everybody; encoded once."""

import re
from base64 import b64encode
from binascii import b2a_base64
from dataclasses import dataclass
from mimetypes import guess_type
from urllib.parse import quote

MAX_NAME_CHARACTERS = 100
UNKNOWN_TYPE = "application/octet-stream"

_PIECE = 54  # characters of a parameter's value on one line
_LINE_BYTES = 57  # become 76 characters
_NOT_IN_BASE64 = ("message/", "multipart/")  # RFC 2045 §6.4


@dataclass(frozen=True, slots=True, eq=False)
class Attachment:
    """A file: the name under which readers save it, and its bytes."""

    name: str
    content: bytes

    @property
    def content_type(self) -> str:
        """What the name's ending says; readers' programs go by it, too."""
        guessed, encoding = guess_type(self.name, strict=False)
        if not guessed or encoding or guessed.startswith(_NOT_IN_BASE64):
            return UNKNOWN_TYPE
        return guessed


def check_attachment_name(name: str) -> None:
    """Raise ValueError unless a file may be attached under this name."""
    if not 0 < len(name) <= MAX_NAME_CHARACTERS:
        raise ValueError(f"A file's name has 1 to {MAX_NAME_CHARACTERS} characters.")
    if not name.isprintable() or set('/\\"') & set(name) or name.strip(" .") != name:
        raise ValueError("A file's name has no slashes, quotes or control characters, nor dots at its ends.")


def mime_part(attachment: Attachment) -> bytes:
    """Return the attachment as a body part of RFC 2045 with its fields, without a boundary."""
    head = (
        f"Content-Type: {attachment.content_type}\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        f"Content-Disposition: attachment;\r\n {file_name(attachment.name)}\r\n\r\n"
    )
    return head.encode("ascii") + base64_lines(attachment.content)


def base64_lines(content: bytes) -> bytes:
    """Return `content` as base64, in lines that end with CRLF, the last one without (RFC 2045 §6.8)."""
    starts = range(0, len(content), _LINE_BYTES)
    return b"\r\n".join(b2a_base64(content[at : at + _LINE_BYTES], newline=False) for at in starts)


def file_name(name: str) -> str:
    """Return the parameter `filename`; outside ASCII, or a long one, in pieces as in RFC 2231 §3 and §4."""
    if name.isascii() and len(name) <= _PIECE:
        return f'filename="{name}"'
    encoded = quote(name, safe="")
    if len(encoded) <= _PIECE:
        return f"filename*=utf-8''{encoded}"
    pieces = re.findall(f"(?:%..|[^%]){{1,{_PIECE // 3}}}", encoded)
    pieces[0] = f"utf-8''{pieces[0]}"
    return ";\r\n ".join(f"filename*{number}*={piece}" for number, piece in enumerate(pieces))


def request_part(attachment: Attachment) -> dict[str, str]:
    """Return the attachment as SendGrid's requests have it."""
    return {
        "content": b64encode(attachment.content).decode("ascii"),
        "type": attachment.content_type,
        "filename": attachment.name,
        "disposition": "attachment",
    }
