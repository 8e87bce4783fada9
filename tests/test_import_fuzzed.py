"""Damaged and invented files: refused in words, or read; never a traceback."""

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaigns.importing.encodings import CHOICES
from campaigns.importing.mapping import resolve
from campaigns.importing.reading import EXTENSIONS, open_table
from campaigns.importing.refusals import ImportRefused, Line, Refusal
from campaigns.importing.validating import Row, validator
from tests.import_helpers import part, with_part

NASTY = Path(__file__).parent / "data" / "imports" / "nasty"
GOOD = {path.name: path.read_bytes() for path in NASTY.iterdir() if path.suffix != ".json"}
SMALL = sorted(name for name, content in GOOD.items() if 0 < len(content) < 20_000)
INNER = {
    "numbers_and_dates.xlsx": "xl/worksheets/sheet1.xml",
    "formulas.xlsx": "xl/worksheets/sheet1.xml",
    "several_sheets.xlsx": "xl/workbook.xml",
    "libre_office.ods": "content.xml",
}
Mutation = tuple[float, str, bytes]

mutations = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(["put", "insert", "cut"]), st.binary(min_size=1, max_size=8)),
    min_size=1,
    max_size=6,
)
fuzzed = settings(deadline=None, suppress_health_check=list(HealthCheck))


def mutated(content: bytes, changes: list[Mutation]) -> bytes:
    """The content with bytes overwritten, put in between, and left out, at parts of its length."""
    changed = bytearray(content)
    for place, kind, data in changes:
        at = int(place * len(changed))
        if kind == "put":
            changed[at : at + len(data)] = data
        elif kind == "insert":
            changed[at:at] = data
        else:
            del changed[at : at + len(data) * 4]
    return bytes(changed)


def read_through(name: str, content: bytes, **options: Any) -> list[Line]:
    """All lines, each judged; none where the file is refused, which has to be in words."""
    try:
        with open_table(name, io.BytesIO(content), size=len(content), mapping={}, **options) as table:
            judge = validator(
                resolve(table.columns, {}, table.sample), longest_cell=1000, warn_about=["role"]
            )
            lines = list(table.lines)
    except ImportRefused as refused:
        problem = refused
    else:
        return judged(lines, judge)
    assert problem.field in ("file", "mapping", "sheet", "encoding")
    assert problem.message.endswith((".", ")"))
    return []


def judged(lines: list[Line], judge: Callable[[Line], Row | Refusal | None]) -> list[Line]:
    """The lines, after each was judged."""
    for line in lines:
        judgement = judge(line)
        assert judgement is None or judgement.line == line.number
        assert not isinstance(judgement, Row) or "@" in judgement.email
    numbers = [line.number for line in lines]
    assert numbers == sorted(set(numbers))
    return lines


class TestAnyBytes:
    @fuzzed
    @given(
        name=st.sampled_from(EXTENSIONS).map(lambda extension: f"p{extension}"),
        content=st.binary(max_size=400),
    )
    def test_are_read_or_refused(self, name: str, content: bytes) -> None:
        read_through(name, content)

    @fuzzed
    @given(encoding=st.sampled_from(CHOICES), content=st.binary(max_size=200))
    def test_are_read_or_refused_in_any_encoding(self, encoding: str, content: bytes) -> None:
        read_through("p.csv", b"email,name\n" + content, encoding=encoding)

    @fuzzed
    @pytest.mark.parametrize("pack", [gzip.compress, lambda content: zip_of("p.csv", content)])
    @given(content=st.binary(max_size=200))
    def test_are_read_or_refused_when_packed(self, pack: Callable[[bytes], bytes], content: bytes) -> None:
        packed = pack(content)
        read_through("p.zip" if packed.startswith(b"PK") else "p.csv.gz", packed)


class TestGoodFile:
    @fuzzed
    @given(name=st.sampled_from(SMALL), changes=mutations)
    def test_is_read_or_refused_when_bytes_of_it_change(self, name: str, changes: list[Mutation]) -> None:
        read_through(name, mutated(GOOD[name], changes))

    @fuzzed
    @pytest.mark.parametrize("name", INNER)
    @given(changes=mutations)
    def test_is_read_or_refused_when_its_xml_changes(self, name: str, changes: list[Mutation]) -> None:
        xml = mutated(part(GOOD[name], INNER[name]), changes)
        read_through(name, with_part(GOOD[name], INNER[name], xml))

    @fuzzed
    @pytest.mark.parametrize("name", ["excel_97.xls", "libre_office.ods", "numbers_and_dates.xlsx"])
    @given(length=st.floats(0, 1))
    def test_is_read_or_refused_when_it_is_cut_short(self, name: str, length: float) -> None:
        read_through(name, GOOD[name][: int(length * len(GOOD[name]))])


def zip_of(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()
