"""Many lines at once: judged as they would be one by one."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from campaigns.importing.judging import Judge
from campaigns.importing.mapping import resolve
from campaigns.importing.refusals import Block, Fault, Line, Refusal
from campaigns.importing.validating import Row, validator

NAMES = ["email", "name", "timezone", "city", "plan"]
LONGEST_CELL = 300

LOCALS = st.sampled_from(["ann", "Ann.Lee+news", "o'brien", "=1+1", "a..b", ".a", "info", "é", "", "a" * 250])
TRICKY = (
    "example.com", "EXAMPLE.Com", "gmial.com", "münchen.de", "a--b.com", "xn--mnchen-3ya.de", "a.onion",
    "localhost", "shop.test", "a.b-c.co.uk", "-a.com", "a.c0m", "a.com.", "mailinator.com", "a_b.com",
)  # fmt: skip
DOMAINS = st.sampled_from([*TRICKY, f"{'a' * 64}.com"])
ADDRESSES = st.builds("{}{}{}".format, LOCALS, st.sampled_from(["@", "", "@@", " @"]), DOMAINS)
TEXTS = st.one_of(
    st.sampled_from(["", "Ann", '"', "\\", '","', ",", "\\.", "\t", "a\nb", "\0", "\u00a0", "%s", "N" * 201]),
    st.sampled_from(["#N/A", " #DIV/0! ", "#1", "#NV"]),
    st.sampled_from(["Asia/Kolkata", "asia/kolkata", "Mars/Base", " UTC "]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    st.just("x" * 301),
)
ROWS = st.one_of(
    st.tuples(st.one_of(ADDRESSES, ADDRESSES.map(" {}\u200b".format), TEXTS), TEXTS, TEXTS, TEXTS, TEXTS).map(
        list
    ),
    st.lists(TEXTS, max_size=7),
    st.just(["ann@example.com", "Ann", "", "Pune", "free"]),
)


def rows_of(staged: bytes) -> list[Row]:
    """The rows in a piece of COPY's text format (PostgreSQL, "COPY", "Text Format")."""
    return [_row(line) for line in staged.decode().split("\n")[:-1]]


def _row(line: str) -> Row:
    number, email, typed, name, zone, attributes = map(_unescaped, line.split("\t"))
    return Row(int(number), email, typed, name, zone, json.loads(attributes))


def _unescaped(text: str) -> str:
    plain, *escaped = text.replace("\\\\", "\0").split("\\")
    meant = [{"t": "\t", "n": "\n", "r": "\r"}[part[0]] + part[1:] for part in escaped]
    return "".join([plain, *meant]).replace("\0", "\\")


@pytest.mark.parametrize("header", [NAMES, ["email"], ["city", "email"]], ids=str)
@pytest.mark.parametrize("warn_about", [[], ["role", "disposable"]], ids=str)
class TestJudge:
    @given(rows=st.lists(ROWS, min_size=1, max_size=6))
    @example(rows=[["ann@example.com", "Ann", "UTC", '","', "\\"]])
    def test_agrees_with_what_is_found_line_by_line(
        self, header: list[str], warn_about: list[str], rows: list[list[str]]
    ) -> None:
        columns = resolve(header, {})
        numbers = range(7, 7 + len(rows))
        one = validator(columns, longest_cell=LONGEST_CELL, warn_about=warn_about)
        verdicts = [verdict for line in map(Line, numbers, rows) if (verdict := one(line)) is not None]
        judged = Judge(columns, longest_cell=LONGEST_CELL, warn_about=warn_about)(Block(numbers, rows))
        assert judged.read == len(verdicts)
        stored = [verdict for verdict in verdicts if isinstance(verdict, Row)]
        assert sorted(rows_of(judged.staged), key=_line) == [row._replace(warning=None) for row in stored]
        assert judged.reported == [
            verdict if isinstance(verdict, Refusal) else verdict.warning
            for verdict in verdicts
            if isinstance(verdict, Refusal) or verdict.warning
        ]


def _line(row: Row) -> int:
    return row.line


def test_a_single_line_is_judged_with_what_is_known_of_it() -> None:
    judge = Judge(resolve(NAMES, {}), longest_cell=LONGEST_CELL)
    line = Line(3, ["x"], Fault("", "A quote is opened."))
    assert judge(line) == (1, b"", [Refusal(3, "", "A quote is opened.", ["x"])])
