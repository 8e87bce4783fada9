"""In which encoding a text file is, found out from its bytes alone."""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, NamedTuple

from campaigns.importing.refusals import ImportRefused

CHUNK = 1 << 20

# What a person may name, by the names of the WHATWG (https://encoding.spec.whatwg.org/), with Python's codec.
# "iso-8859-1" is Windows-1252 there too: what differs are control characters that no text has.
CODECS = {
    "utf-8": "utf-8-sig", "utf-16": "utf-16", "utf-16le": "utf-16-le", "utf-16be": "utf-16-be",
    "windows-1252": "cp1252", "iso-8859-1": "cp1252", "latin-1": "cp1252", "iso-8859-15": "iso8859-15",
    "windows-1250": "cp1250", "iso-8859-2": "iso8859-2", "windows-1251": "cp1251", "koi8-r": "koi8-r",
    "windows-1253": "cp1253", "windows-1254": "cp1254", "windows-1255": "cp1255", "windows-1256": "cp1256",
    "windows-1257": "cp1257", "windows-874": "cp874", "ibm850": "cp850", "macintosh": "mac-roman",
    "shift_jis": "cp932", "euc-jp": "euc-jp", "euc-kr": "cp949", "gb18030": "gb18030", "big5": "big5hkscs",
}  # fmt: skip
CHOICES = tuple(CODECS)
MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
NOT_IN_1252 = b"\x81\x8d\x8f\x90\x9d"
CONTROLS = bytes({*range(0x20)} - set(b"\t\n\v\f\r"))
HIGH = bytes(range(0x80, 0x100))
BAD = re.compile("[\udc80-\udcff]")
RUN = re.compile(rb"[\xc0-\xff]{4,}")  # no Western word has four accented letters in a row


@dataclass(frozen=True)
class Encoding:
    """A file's encoding: its name, Python's codec for it, and whether some bytes are not of it."""

    name: str
    codec: str
    is_damaged: bool = False

    @property
    def errors(self) -> str:
        """How to decode: bad bytes of a damaged file become lone surrogates, which `bad_byte` finds."""
        return "surrogateescape" if self.is_damaged else "strict"


def find_encoding(file: IO[bytes], chosen: str = "") -> Encoding:
    """The encoding of a whole text file, which is read through once, or twice. Raises ImportRefused.

    `chosen` is a name of CODECS, or "". A file that is UTF-8 but for a few bytes is called damaged, so that
    the lines with them can be refused alone.
    """
    name = chosen.strip().lower() or _marked(file)
    if name and name not in CODECS:
        raise ImportRefused("encoding", f'"{chosen}" is not an encoding known here; use {", ".join(CODECS)}.')
    if name == "utf-16" and not _marked(file).startswith("utf-16"):
        name = "utf-16le"  # RFC 2781 §4.3 would have it the other way round, but nobody does
    found = Encoding(_shown(name or "utf-8"), CODECS[name or "utf-8"])
    fault = _first_fault(file, found.codec)
    if fault is None:
        return found
    if chosen or name.startswith("utf-16"):
        raise ImportRefused(
            "encoding" if chosen else "file",
            f"The file is not {found.name}: line {fault.line} has bytes that mean nothing in it. "
            "Save it as UTF-8.",
        )
    return _without_help(file, fault, is_marked=bool(name))


def bad_byte(text: str) -> int | None:
    """The first byte in a line of a damaged file that is not of its encoding."""
    return next((ord(letter) - 0xDC00 for letter in text if "\udc80" <= letter <= "\udcff"), None)


def without_bad_bytes(text: str) -> str:
    """With a mark in place of each such byte (U+FFFD)."""
    return BAD.sub("\ufffd", text)


def _marked(file: IO[bytes]) -> str:
    """What the first bytes say: a byte order mark, or the zeros of UTF-16 without one; else ""."""
    file.seek(0)
    head = file.read(4096)
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return name
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) > len(head) // 6 and min(even, odd) <= len(head) // 50:
        return "utf-16le" if odd > even else "utf-16be"
    return ""


def _shown(name: str) -> str:
    aliases = {
        "utf-16le": "UTF-16",
        "utf-16be": "UTF-16",
        "iso-8859-1": "Windows-1252",
        "latin-1": "Windows-1252",
    }
    return aliases.get(name) or name.upper().replace("WINDOWS", "Windows")


class _Fault(NamedTuple):
    """Where a file is not of an encoding: the line, from 1, and the byte there."""

    line: int
    byte: int


def _first_fault(file: IO[bytes], codec: str) -> _Fault | None:
    decoder = codecs.getincrementaldecoder(codec)()
    newlines = 0
    held = b""
    for chunk in _chunks(file):
        try:
            newlines += decoder.decode(chunk, final=not chunk).count("\n")
        except UnicodeDecodeError as error:
            data = held + chunk
            return _Fault(newlines + data[: error.start].count(b"\n") + 1, data[error.start])
        held = decoder.getstate()[0]
    return None


def _without_help(file: IO[bytes], fault: _Fault, *, is_marked: bool) -> Encoding:
    """UTF-8 with damage where most of its letters are whole, else Windows-1252, unless that is unlikely."""
    tally = _tally(file)
    if tally.controls * 100 > tally.size:
        raise ImportRefused("file", "The file is no text, though its name says so.")
    if is_marked or tally.letters >= tally.bad:
        return Encoding("UTF-8", CODECS["utf-8"], is_damaged=True)
    if tally.strangers or tally.in_runs * 2 > tally.high:
        raise ImportRefused(
            "encoding",
            f"The file is not UTF-8 (line {fault.line} has the byte 0x{fault.byte:02X}), and hardly "
            "Windows-1252. Say in which encoding it is, such as windows-1251 (Cyrillic), windows-1256 "
            "(Arabic), shift_jis or gb18030; or "
            'save it as UTF-8, which Excel calls "CSV UTF-8 (Comma delimited)".',
        )
    return Encoding("Windows-1252", CODECS["windows-1252"])


@dataclass
class _Tally:
    """Of a file taken for UTF-8: how many bytes are not, and how many letters are; and bytes by kind."""

    size: int = 0
    controls: int = 0
    bad: int = 0
    letters: int = 0
    high: int = 0
    in_runs: int = 0
    strangers: int = 0


def _tally(file: IO[bytes]) -> _Tally:
    tally = _Tally()
    decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="surrogateescape")
    for chunk in _chunks(file):
        text = decoder.decode(chunk, final=not chunk)
        tally.size += len(chunk)
        tally.controls += len(chunk) - len(chunk.translate(None, CONTROLS))
        if text.isascii() and chunk.isascii():
            continue
        bad = len(BAD.findall(text))
        tally.bad += bad
        tally.letters += len(text) - len(text.encode("ascii", "ignore")) - bad
        tally.high += len(chunk) - len(chunk.translate(None, HIGH))
        tally.in_runs += sum(map(len, RUN.findall(chunk)))
        tally.strangers += len(chunk) - len(chunk.translate(None, NOT_IN_1252))
    return tally


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    """The file in pieces, ended by an empty one."""
    file.seek(0)
    while chunk := file.read(CHUNK):
        yield chunk
    yield b""
