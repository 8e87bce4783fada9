"""The records of delimited text, many at a time (RFC 4180)."""

import csv
import io
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from campaigns.importing.encodings import bad_byte, without_bad_bytes
from campaigns.importing.refusals import Block, Fault, ImportRefused, Line

if TYPE_CHECKING:
    from _csv import Reader  # where the type of csv.reader(...) has its name

BLOCK = 1 << 19  # characters read at a time: some thousand records, and a few megabytes as lists of cells
LONGEST_LINE = 2_000_000  # characters; a longer one is no table, and would be held in memory whole
LONGEST_RECORD = 2 * LONGEST_LINE  # characters; more than a block has, however it ends
MOST_LINES = 2_000  # of a record
# Characters that may be read a second time because a record was given up, with 20 more for each line: that
# takes a second. In a file made for it each line begins a record that is given up when it is at its longest.
MOST_READ_AGAIN = 100_000_000
OF_A_LINE = 20
NEVER_CLOSED = 'A quote (") is opened here and never closed.'


class Records:
    """The records of a text, the broken ones too.

    The strict reader is what notices a stray quote. A lenient one would take the lines up to the next
    quote, or to the end of the file, for one cell, and the people in them would be lost without a word.
    """

    def __init__(self, text: io.TextIOWrapper, delimiter: str, *, is_damaged: bool = False) -> None:
        self._source = _Source(text)
        self._delimiter = delimiter
        self._is_damaged = is_damaged
        self._reader = self._read(self._source)

    def next_line(self) -> Line | None:
        """The next record by itself; None at the end."""
        number = self._source.begin_record()
        try:
            return self._checked(Line(number, next(self._reader)))
        except StopIteration:
            return None
        except csv.Error as error:
            self._reader = self._read(self._source)
            given_up = self._source.give_up_record().rstrip("\r\n")
            return self._checked(Line(number, [given_up], Fault("", _in_words(error))))

    def pieces(self) -> Iterator[Block | Line]:
        """All that is left, in order."""
        while lines := self._source.block():
            yield from self._whole(lines) or self._one_by_one()

    def _checked(self, line: Line) -> Line:
        """The line, refused for bytes that are not of the encoding."""
        if self._is_damaged and (byte := bad_byte("".join(line.cells))) is not None:
            cells = [without_bad_bytes(cell) for cell in line.cells]
            return Line(
                line.number, cells, Fault("", f"The line has the byte 0x{byte:02X}, which is not UTF-8.")
            )
        return line

    def _whole(self, lines: list[str]) -> Sequence[Block | Line]:
        """The lines as one block; nothing, and the lines given back, when a record in them is not whole.

        Without a quote a record is its line, cut at the delimiters: that takes a quarter of the time.
        """
        first = self._source.number_of(lines)
        text = "".join(lines)
        if '"' not in text and max(map(len, lines)) < csv.field_size_limit():
            rows = [line.split(self._delimiter) if line else [] for line in map(_without_end, lines)]
        else:
            try:
                rows = list(self._read(lines))
            except csv.Error:
                self._source.give_back(lines)
                return []
        is_simple = len(rows) == len(lines)
        numbers = range(first, first + len(rows)) if is_simple else self._numbers(lines, first)
        if not is_simple and _longest(numbers, first + len(lines)) > MOST_LINES:
            self._source.give_back(lines)
            return []
        if self._is_damaged:
            return [self._checked(Line(*numbered)) for numbered in zip(numbers, rows, strict=True)]
        return [Block(numbers, rows)]

    def _numbers(self, lines: list[str], first: int) -> list[int]:
        """Where each record begins, when some have line breaks in their cells."""
        numbers, reader, taken = [], self._read(lines), 0
        for _ in reader:
            numbers.append(first + taken)
            taken = reader.line_num
        return numbers

    def _one_by_one(self) -> Iterator[Block | Line]:
        """The lines that were given back, and as many further ones as their last record takes."""
        good: list[Line] = []
        while self._source.has_returned and (line := self.next_line()):
            if line.fault:
                yield from _block(good)
                yield line
                good = []
            else:
                good.append(line)
        yield from _block(good)

    def _read(self, lines: "_Source | list[str]") -> "Reader":
        return csv.reader(lines, delimiter=self._delimiter, strict=True)


def _without_end(line: str) -> str:
    return line.rstrip("\r\n")  # there is only one: a line is cut at each


def _block(lines: list[Line]) -> list[Block]:
    return [Block([line.number for line in lines], [line.cells for line in lines])] if lines else []


def _longest(numbers: Sequence[int], end: int) -> int:
    """The lines of the record that has most; each begins at its number, and the last ends before `end`."""
    return max(after - before for before, after in pairwise([*numbers, end]))


class _RecordTooLong(csv.Error):
    """No record goes on for so long."""


class _Source:
    """The physical lines of a text, which remembers those of the record being read."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._returned: deque[str] = deque()
        self._record: list[str] = []
        self._length = 0  # of the record, in characters
        self._read_again = 0  # see MOST_READ_AGAIN
        self._number = 0  # of the last line that was handed out

    @property
    def has_returned(self) -> bool:
        return bool(self._returned)

    def block(self) -> list[str]:
        """Many lines at once, none of them cut; none at the end of the text."""
        if self._returned:
            lines = list(self._returned)
            self._returned.clear()
        else:
            # the rest of its last line, or only the \n of a \r\n that was cut in two
            read = self._text.read(BLOCK) + self._text.readline(LONGEST_LINE)
            lines = list(io.StringIO(read, newline=""))
        for number, line in enumerate(lines if max(map(len, lines), default=0) >= LONGEST_LINE else ()):
            self._refuse_long(line, self._number + number + 1)
        self._number += len(lines)
        return lines

    def number_of(self, lines: list[str]) -> int:
        """The number of the first of the lines that were handed out last."""
        return self._number - len(lines) + 1

    def give_back(self, lines: list[str]) -> None:
        """Take lines back; they will be handed out again."""
        self._returned.extendleft(reversed(lines))
        self._number -= len(lines)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else self._text.readline(LONGEST_LINE)
        if not line:
            raise StopIteration
        self._number += 1
        self._refuse_long(line, self._number)
        self._record.append(line)
        self._length += len(line)
        if self._length > LONGEST_RECORD or len(self._record) > MOST_LINES:
            raise _RecordTooLong
        return line

    def begin_record(self) -> int:
        """The number of the line on which the next record begins."""
        self._record.clear()
        self._length = 0
        return self._number + 1

    def give_up_record(self) -> str:
        """The record's first line; the others will be read again, as records of their own."""
        first, *others = self._record
        self.give_back(others)
        self._read_again += self._length + OF_A_LINE * len(others)
        if self._read_again > MOST_READ_AGAIN:
            raise ImportRefused(
                "file", f"Line {self._number}: {NEVER_CLOSED} Too many lines before it are so."
            )
        return first

    def _refuse_long(self, line: str, number: int) -> None:
        if len(line) >= LONGEST_LINE:
            raise ImportRefused("file", f"Line {number} is longer than {LONGEST_LINE:,} characters.")


def _in_words(error: csv.Error) -> str:
    message = str(error)
    if isinstance(error, _RecordTooLong) or "unexpected end of data" in message:
        return NEVER_CLOSED
    if "field larger" in message:
        return 'A cell is too long; perhaps a quote (") is opened here and not closed.'
    if "expected after" in message:
        return 'A quote (") stands in the middle of a quoted cell; write it twice ("") or take it out.'
    return f"The line is not CSV: {message}."
