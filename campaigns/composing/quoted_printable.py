"""Text as quoted-printable lines (RFC 2045 §6.7), static pieces encoded once, slots spliced in.

No line of it begins with a dot or with "From ", so that neither SMTP (RFC 5321 §4.5.2) nor a mailbox file
has anything to double or to escape: the bytes can be written to a connection as they are.
"""

import re
from binascii import b2a_qp
from collections.abc import Iterator, Sequence

from campaigns.composing.bounds import Work
from campaigns.composing.compiled import Context, Fill, Slot

LINE = 75  # of 76 characters a line: one is left for the "=" of a soft break
_SOFT_BREAK = b"=\r\n"
# one short line that stands for itself
_AS_IT_IS = re.compile(r"(?!\.|From )[ -<>-~]{0,74}[!-<>-~]")
# the same without what HTML escapes; most fields are so, and nothing is to be done for them in either part
_PLAIN = re.compile(r"(?!\.|From )[ !#-%(-;?-~]{0,74}[!#-%(-;?-~]")


class Spliced:
    """One part of a message, encoded but for its slots; each slot begins on a line of its own."""

    __slots__ = ("_pieces", "_slots", "never_empty")

    def __init__(self, pieces: Sequence[str | Slot]) -> None:
        self._pieces: list[bytes] = []
        self._slots: list[tuple[int, str | None, Fill]] = []
        self.never_empty = any(isinstance(piece, str) and piece for piece in pieces)
        at_line_start = True
        for piece in pieces:
            if isinstance(piece, Slot):
                if not at_line_start:
                    self._pieces.append(_SOFT_BREAK)
                self._slots.append((len(self._pieces), piece.field, piece.fill))
                self._pieces.append(b"")
                at_line_start = False
            elif piece:
                encoded = quoted(piece)
                if not at_line_start and not encoded.startswith(b"\r\n"):
                    self._pieces.append(_SOFT_BREAK)
                self._pieces.append(encoded)
                at_line_start = encoded.endswith(b"\r\n")

    def fill(self, context: Context) -> bytes:
        """Return the lines for one recipient, the last one without its end. Raises CannotRender."""
        pieces, work = self._pieces.copy(), Work()
        for position, field, fill in self._slots:
            value = context.get(field) if field else None
            if isinstance(value, str) and _PLAIN.fullmatch(value):
                pieces[position] = value.encode("ascii")
            else:
                pieces[position] = _encoded(fill(context, work))
        return b"".join(pieces)


def _encoded(value: str) -> bytes:
    return value.encode("ascii") if _AS_IT_IS.fullmatch(value) else quoted(value)


def is_empty(encoded: bytes) -> bool:
    """Say whether encoded lines stand for no text at all."""
    return not encoded.replace(_SOFT_BREAK, b"")


def quoted(text: str) -> bytes:
    """Return `text`, whose line ends are newlines, as lines that end with CRLF, the last one without.

    Each stays under 76 characters, so that a soft break can follow.
    """
    return b"\r\n".join(_SOFT_BREAK.join(_wrapped(_escaped(line))) for line in text.split("\n"))


def _escaped(line: str) -> bytes:
    # called for one line as if it were binary, b2a_qp is right in every case; with istext=True its lines
    # grow past 76 characters where white space ends them
    return b2a_qp(line.encode(), istext=False).replace(b"=\n", b"")


def _wrapped(escaped: bytes) -> Iterator[bytes]:
    """Cut an escaped line, never inside an escape; what would begin with a dot or "From " is escaped."""
    start = 0
    while True:
        head = b""
        if escaped.startswith((b".", b"From "), start):
            head = b"=%02X" % escaped[start]
            start += 1
        end = start + LINE - len(head)
        if end >= len(escaped):
            yield head + escaped[start:]
            return
        end -= 1 if escaped[end - 1] == 0x3D else 2 if escaped[end - 2] == 0x3D else 0
        yield head + escaped[start:end]
        start = end
