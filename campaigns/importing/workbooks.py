"""Workbooks: .xlsx and .xlsm, .xls, .ods.

pandas opens them, with calamine as its engine and openpyxl where calamine cannot; the rows are then taken
from the engine as they come, because a frame of them would cost three times the memory
(100,000 rows: 307 MB against 66 MB). Macros are never run, formulas never computed.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain, islice
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple, TypeVar

from campaigns.importing.cells import as_text
from campaigns.importing.headers import column_names, listed
from campaigns.importing.limits import Limits
from campaigns.importing.mapping import has_email_column
from campaigns.importing.packages import OLE, Engine, Inspected, inspected
from campaigns.importing.refusals import Block, ImportRefused, Line, Reading, Table
from campaigns.importing.sheets import Marks

__all__ = ["OLE", "open_workbook"]

logger = logging.getLogger(__name__)
Mark = TypeVar("Mark")

BLOCK = 5_000  # rows taken at a time
LOOKED_AT = 100  # rows of a sheet, to find one with a column of addresses


@contextmanager
def open_workbook(
    file: IO[bytes], *, mapping: Mapping[str, str], sheet: str, limits: Limits, only_sample: bool = False
) -> Iterator[Table]:
    """The table in the sheet with this name, or in the first visible one with a column of addresses.

    With `only_sample` it may end after the rows by which a file is judged. Raises ImportRefused: "sheet"
    where there is none of that name, else "file".
    """
    with (
        inspected(file, limits=limits) as package,
        TemporaryFile(prefix="import-") as head,
        ExitStack() as stack,
    ):
        visible = _asked_for(sheet, package.visible)
        found = None
        if only_sample and (cut := package.write_head(head)):
            smaller = stack.enter_context(inspected(head, limits=limits))
            found = _at_its_head(head, smaller, package, visible, mapping, cut)
        found = found or _find(file, package, visible, mapping)
        columns = column_names(found.header, most=limits.columns)
        reading = Reading(
            package.format,
            sheet=found.sheet,
            sheets=tuple(package.visible),
            unread=found.unread,
            engine="" if found.engine == USUAL else found.engine,
        )
        marks = (found.package or package).marks(found.sheet)
        yield Table(columns, _pieces(found, len(columns), marks), reading)


def _at_its_head(
    head: IO[bytes],
    smaller: Inspected,
    package: Inspected,
    visible: Sequence[str],
    mapping: Mapping[str, str],
    cut: frozenset[str],
) -> "_Candidate | None":
    """What `_find` would find, found in the first rows alone; None where they might mislead."""
    if smaller.columns != package.columns:  # a row behind the first ones begins or ends elsewhere
        return None
    try:
        found = _find(head, smaller, visible, mapping)
    except ImportRefused:
        return None
    is_enough = cut.intersection(visible) <= found.long and found.engine == USUAL
    return found._replace(package=smaller) if is_enough else None


def _asked_for(sheet: str, visible: Sequence[str]) -> Sequence[str]:
    if not sheet:
        return visible
    named = [name for name in visible if name.casefold().strip() == sheet.casefold().strip()]
    if not named:
        raise ImportRefused(
            "sheet", f'The workbook has no visible sheet "{sheet}". Its sheets are {listed(visible)}.'
        )
    return named[:1]


class _Rows(NamedTuple):
    """The rows of a sheet from its row 1 on, and how many empty columns to the left were cut off."""

    left: int
    rows: Iterator[Sequence[object]]


USUAL: Engine = "calamine"


def _find(
    file: IO[bytes], package: Inspected, visible: Sequence[str], mapping: Mapping[str, str]
) -> "_Candidate":
    """The sheet to import, through the first engine that can read the workbook."""
    problem: BaseException | None = None
    for engine in package.engines:
        try:
            rows_of = partial(ENGINES[engine], _book(file, engine))
            return _choose(rows_of, visible, mapping)._replace(engine=engine)
        except ImportRefused:
            raise
        except BaseException as error:
            # an engine stumbles in its own ways, and a panic of calamine's Rust is no Exception
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            logger.info("%s cannot read this workbook", engine, exc_info=True)
            problem = problem or error
    raise ImportRefused("file", f"The workbook is damaged: {problem}.") from problem


def _book(file: IO[bytes], engine: Engine) -> Any:
    # pandas takes half a second and 70 MB; the processes that only send mail must not pay for it
    import pandas as pd

    file.seek(0)
    return pd.ExcelFile(file, engine=engine).book


def _calamine_rows(book: Any, name: str) -> _Rows:
    sheet = book.get_sheet_by_name(name)
    return _Rows(sheet.start[1] if sheet.start else 0, iter(sheet.iter_rows()))


def _openpyxl_rows(book: Any, name: str) -> _Rows:
    """Nine times slower, but a second opinion: calamine refuses, say, an error value newer than itself."""
    sheet = book[name]
    left = (sheet.min_column or 1) - 1
    rows = sheet.iter_rows(min_row=1, min_col=left + 1, values_only=True)
    return _Rows(left, _until_damaged(iter(rows)))


def _until_damaged(rows: Iterator[Sequence[object]]) -> Iterator[Sequence[object]]:
    """The rows of openpyxl, which meets a damaged cell only when it comes to it."""
    number = 0
    try:
        for row in rows:
            yield row
            number += 1
    except Exception as error:  # openpyxl has no error class of its own
        raise ImportRefused("file", f"The workbook is damaged after row {number}: {error}.") from error


ENGINES: dict[Engine, Callable[[Any, str], _Rows]] = {"calamine": _calamine_rows, "openpyxl": _openpyxl_rows}


class _Candidate(NamedTuple):
    sheet: str
    header_row: int
    header: list[str]
    left: int
    rows: Iterator[Sequence[object]]
    has_email: bool
    long: frozenset[str]
    """The sheets with as many rows as one looks at, among those that were looked at."""
    unread: tuple[str, ...] = ()
    engine: Engine = USUAL
    package: Inspected | None = None
    """What it was found in, if that is not the workbook itself."""


def _choose(
    rows_of: Callable[[str], _Rows], visible: Sequence[str], mapping: Mapping[str, str]
) -> _Candidate:
    """The first sheet with a column of addresses, and which others have one; else the first with cells."""
    filled = [candidate for name in visible if (candidate := _candidate(name, *rows_of(name), mapping))]
    if not filled:
        raise ImportRefused("file", "The workbook is empty: no visible sheet has a cell with a value.")
    usable = [candidate for candidate in filled if candidate.has_email] or filled[:1]
    unread = tuple(candidate.sheet for candidate in usable[1:])
    return usable[0]._replace(unread=unread, long=frozenset().union(*(one.long for one in filled)))


def _candidate(
    sheet: str, left: int, rows: Iterator[Sequence[object]], mapping: Mapping[str, str]
) -> _Candidate | None:
    for number, row in enumerate(rows, start=1):
        header = list(map(as_text, row))
        if any(map(str.strip, header)):
            ahead = list(islice(rows, LOOKED_AT))
            sample = [Line(0, list(map(as_text, row))) for row in ahead]
            has_email = has_email_column(header, mapping, sample)
            long = frozenset({sheet} if len(ahead) == LOOKED_AT else ())
            return _Candidate(sheet, number, header, left, chain(ahead, rows), has_email, long)
    return None


def _pieces(found: _Candidate, width: int, marks: Marks) -> Iterator[Block | Line]:
    """The rows under the header: many at a time, those with a mark each by itself."""
    number = found.header_row + 1
    while rows := list(islice(found.rows, BLOCK)):
        numbers = range(number, number + len(rows))
        cells = _texts(rows)
        marked = [number for number in numbers if number in marks.formulas or number in marks.errors]
        first = 0
        for row in (number - numbers.start for number in marked):
            if first < row:
                yield Block(numbers[first:row], cells[first:row])
            yield _marked(numbers[row], cells[row], found.left, width, marks)
            first = row + 1
        if first < len(rows):
            yield Block(numbers[first:], cells[first:])
        number += len(rows)


def _texts(rows: list[Sequence[object]]) -> list[list[str]]:
    if set(map(type, chain.from_iterable(rows))) == {
        str
    }:  # a look at a column takes less than one at each cell
        return [list(map(str, row)) for row in rows]
    return [[cell if type(cell) is str else as_text(cell) for cell in row] for row in rows]


def _marked(number: int, cells: list[str], left: int, width: int, marks: Marks) -> Line:
    """A row with its formulas and errors; `left` columns are cut off, and `width` are under the header."""
    formulas = _within(marks.formulas.get(number, {}), left, width)
    errors = _within(marks.errors.get(number, {}), left, width)
    read = [text if position not in errors else "" for position, text in enumerate(cells)]
    return Line(number, read, formulas=formulas or None, errors=errors or None)


def _within(marked: Mapping[int, Mark], left: int, width: int) -> dict[int, Mark]:
    """The marks by their positions under the header."""
    return {column - left: mark for column, mark in marked.items() if 0 <= column - left < width}
