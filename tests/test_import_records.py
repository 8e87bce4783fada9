"""Many records at once: cut as Python's reader of CSV cuts them."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.importing import records
from campaigns.importing.records import Records
from campaigns.importing.refusals import Fault, ImportRefused, Line, lines_of

LINE = st.lists(st.sampled_from(["", "a", ",", ";", " ", "\t", "é", "\x85", "\u2028", "\x0b", "b c"])).map(
    "".join
)
END = st.sampled_from(["\n", "\r\n", "\r"])


def read(text: str) -> list[Line]:
    wrapped = io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8", newline="")
    return [line for piece in Records(wrapped, ",").pieces() for line in lines_of(piece)]


class TestRecords:
    @given(st.lists(st.tuples(LINE, END)), LINE)
    def test_without_a_quote_are_those_of_the_reader(self, lines: list[tuple[str, str]], last: str) -> None:
        text = "".join(line + end for line, end in lines) + last
        expected = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        found = read(text)
        assert [line.cells for line in found] == expected
        assert [line.number for line in found] == list(range(1, len(expected) + 1))

    @pytest.mark.parametrize("size", [1, 7, 30])
    def test_are_the_same_wherever_a_block_ends(self, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
        text = 'a,b\r\n"c\nd",e\r\n\r\nf,"g""h"\r\ni"j,k\r\n"l\r\nm,n\r\n'
        whole = read(text)
        monkeypatch.setattr(records, "BLOCK", size)
        assert read(text) == whole
        assert [(line.number, line.cells, bool(line.fault)) for line in whole] == [
            (1, ["a", "b"], False),
            (2, ["c\nd", "e"], False),
            (4, [], False),
            (5, ["f", 'g"h'], False),
            (6, ['i"j', "k"], False),
            (7, ['"l'], True),
            (8, ["m", "n"], False),
        ]

    @pytest.mark.parametrize("size", [100, 1 << 19])
    def test_end_where_a_quote_stays_open_for_too_many_lines(
        self, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(records, "BLOCK", size)
        longest = 'a,"' + "\n" * (records.MOST_LINES - 1) + '"\n'
        found = read(f"{longest}b,c\n")
        assert [(line.number, bool(line.fault)) for line in found] == [
            (1, False),
            (records.MOST_LINES + 1, False),
        ]
        longer, *others = read(f"\n{longest}"[1:].replace('"', '"\n', 1))
        assert longer.fault == Fault("", records.NEVER_CLOSED)
        assert [line.number for line in others] == list(range(2, records.MOST_LINES + 2))

    def test_end_where_a_quote_stays_open_for_too_many_characters(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(records, "LONGEST_RECORD", 1_000)
        monkeypatch.setattr(records, "BLOCK", 100)
        found = read('a,"b\n' + 'c","d\n' * 1_000)
        assert found[0].fault == Fault("", records.NEVER_CLOSED)
        assert len(found) == 1_001

    def test_refuse_a_file_in_which_each_begins_and_none_ends(self) -> None:
        with pytest.raises(ImportRefused, match=r'Line \d+: A quote \("\) is opened here and never closed\.'):
            read('a,",b","\n' * 100_000)
