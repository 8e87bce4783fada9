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

_Gaps = dict[int, Fill]  # by their places among the pieces

# one short line that stands for itself
_AS_IT_IS = re.compile(r"(?!\.|From )[ -<>-~]{0,74}[!-<>-~]")
# the same without what HTML escapes; most fields are so, and nothing is to be done for them in either part
_PLAIN = re.compile(r"(?!\.|From )[ !#-%(-;?-~]{0,74}[!#-%(-;?-~]")


class Spliced:
    """The parts of a message, encoded but for their slots; each slot begins on a line of its own."""

    __slots__ = ("_fields", "_others", "_parts", "_pieces")

    def __init__(self, *parts: Sequence[str | Slot]) -> None:
        self._pieces: list[bytes] = []
        self._parts: list[slice] = []
        self._fields: dict[str, _Gaps] = {}  # what shows a field as it is, in any part
        self._others: list[_Gaps] = []  # the other slots of each part
        for part in parts:
            start = len(self._pieces)
            if others := self._splice(part):
                self._others.append(others)
            self._parts.append(slice(start, len(self._pieces)))

    def _splice(self, part: Sequence[str | Slot]) -> _Gaps:
        others: _Gaps = {}
        at_line_start = True
        for piece in part:
            if isinstance(piece, Slot):
                if not at_line_start:
                    self._pieces.append(_SOFT_BREAK)
                gaps = self._fields.setdefault(piece.field, {}) if piece.field else others
                gaps[len(self._pieces)] = piece.fill
                self._pieces.append(b"")
                at_line_start = False
            elif piece:
                encoded = quoted(piece)
                if not at_line_start and not encoded.startswith(b"\r\n"):
                    encoded = _SOFT_BREAK + encoded
                self._pieces.append(encoded)
                at_line_start = encoded.endswith(b"\r\n")
        return others

    def fill(self, context: Context) -> list[list[bytes]]:
        """Return each part's lines for one recipient, in pieces, its last line without its end.

        Pieces that are the same for everybody are the same objects. Raises CannotRender.
        """
        pieces = self._pieces.copy()
        for field, gaps in self._fields.items():
            value = context.get(field)
            if isinstance(value, str) and _PLAIN.fullmatch(value):
                encoded = value.encode("ascii")
                for position in gaps:
                    pieces[position] = encoded
            else:
                _fill(pieces, gaps, context)
        for gaps in self._others:
            _fill(pieces, gaps, context)
        return [pieces[part] for part in self._parts]


def _fill(pieces: list[bytes], gaps: _Gaps, context: Context) -> None:
    work = Work()
    for position, fill in gaps.items():
        pieces[position] = _encoded(fill(context, work))


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
