"""Excel workbooks: .xlsx and .xlsm.

pandas opens them, with calamine as its engine and openpyxl where calamine cannot; the rows are then taken
from the engine as they come, because a frame of them would cost three times the memory
(100,000 rows: 307 MB against 66 MB). Macros are never run, formulas never computed.
"""

import logging
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from functools import partial
from itertools import islice
from typing import IO, Any, Literal, NamedTuple

from campaigns.importing import sheets
from campaigns.importing.headers import column_names, listed
from campaigns.importing.limits import Limits
from campaigns.importing.mapping import has_email_column
from campaigns.importing.refusals import Block, ImportRefused, Line, Table

logger = logging.getLogger(__name__)

OLE = b"\xd0\xcf\x11\xe0"  # the container of .xls and of password-protected workbooks
MOST_PACKED = 100  # times; sheets pack 8 to 15 times, a zip bomb about 1000
SMALL = 20 << 20  # bytes; below this a high ratio harms nobody
MOST_CELLS = 50_000_000  # calamine lays out the whole used range, about 24 bytes a cell
BLOCK = 5_000  # rows taken at a time
LARGEST_EXACT = 2**53  # beyond it the digits of a float are no longer those that were typed


@contextmanager
def open_workbook(file: IO[bytes], *, mapping: Mapping[str, str], limits: Limits) -> Iterator[Table]:
    """The table in the one visible sheet that has an e-mail column. Raises ImportRefused("file")."""
    with _archive(file) as archive:
        with _refusing_damage():
            _refuse_bomb(archive, limits)
            visible = sheets.visible_sheets(archive)
            sizes = {sheet.name: _measured(archive, sheet, limits) for sheet in visible}
        found = _find(file, visible, mapping)
        columns = column_names(found.header, most=limits.columns)
        with _refusing_damage():
            formulas = sheets.formulas(archive, found.sheet) if sizes[found.sheet.name].has_formulas else {}
        yield Table(columns, _pieces(found, len(columns), formulas))


@contextmanager
def _archive(file: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    file.seek(0)
    if file.read(4) == OLE:
        raise ImportRefused(
            "file",
            "The file is protected by a password, or in the format of Excel 97-2003. "
            "Save it without a password as .xlsx or CSV.",
        )
    file.seek(0)
    try:
        archive = zipfile.ZipFile(file)
        archive.getinfo("xl/workbook.xml")
        archive.getinfo("xl/_rels/workbook.xml.rels")
    except Exception as error:
        raise ImportRefused(
            "file", "The file is not an Excel workbook, though its name says so, or it is damaged."
        ) from error
    with archive:
        yield archive


@contextmanager
def _refusing_damage() -> Iterator[None]:
    try:
        yield
    except ImportRefused:
        raise
    except Exception as error:  # zipfile tells of damage by a dozen classes, zlib.error among them
        raise ImportRefused("file", f"The workbook is damaged: {error!r}.") from error


def _refuse_bomb(archive: zipfile.ZipFile, limits: Limits) -> None:
    """Refuse before anything is parsed, by the sizes the archive declares; then hold it to them."""
    entries = archive.infolist()
    expanded = sum(entry.file_size for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    if expanded > limits.expanded_bytes or (expanded > SMALL and expanded > MOST_PACKED * packed):
        raise ImportRefused(
            "file",
            f"The workbook unpacks to {expanded:,} bytes from {packed:,}; that is not a table of people. "
            "Save it again, or as CSV.",
        )
    # zipfile stops at the declared size and then misses the checksum; calamine would read on
    damaged = archive.testzip()
    if damaged:
        raise ImportRefused("file", f"The workbook is damaged: its part {damaged} has a wrong checksum.")


def _measured(archive: zipfile.ZipFile, sheet: sheets.Sheet, limits: Limits) -> sheets.Measure:
    size = sheets.measure(archive, sheet)
    if size.columns > limits.columns:
        raise ImportRefused(
            "file",
            f'Sheet "{sheet.name}" has {size.columns} columns; an import takes at most {limits.columns}. '
            "Delete the columns to the right of the table, even those that look empty.",
        )
    if size.rows * size.columns > MOST_CELLS:
        raise ImportRefused(
            "file",
            f'Sheet "{sheet.name}" reaches over {size.rows:,} rows and {size.columns} columns, more than '
            f"{MOST_CELLS:,} cells. Delete stray cells outside the table, or save it as CSV.",
        )
    return size


class _Rows(NamedTuple):
    """The rows of a sheet from its row 1 on, and how many empty columns to the left were cut off."""

    left: int
    rows: Iterator[Sequence[object]]


def _find(file: IO[bytes], visible: Sequence[sheets.Sheet], mapping: Mapping[str, str]) -> "_Candidate":
    """The sheet to import, through the first engine that can read the workbook."""
    problem: BaseException | None = None
    for engine, rows_of in ENGINES.items():
        try:
            return _choose(partial(rows_of, _book(file, engine)), visible, mapping)
        except ImportRefused:
            raise
        except BaseException as error:
            # an engine stumbles in its own ways, and a panic of calamine's Rust is no Exception
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            logger.info("%s cannot read this workbook", engine, exc_info=True)
            problem = problem or error
    raise ImportRefused("file", f"The workbook is damaged: {problem}.") from problem


def _book(file: IO[bytes], engine: "Engine") -> Any:
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


Engine = Literal["calamine", "openpyxl"]
ENGINES: dict[Engine, Callable[[Any, str], _Rows]] = {"calamine": _calamine_rows, "openpyxl": _openpyxl_rows}


class _Candidate(NamedTuple):
    sheet: sheets.Sheet
    header_row: int
    header: list[str]
    left: int
    rows: Iterator[Sequence[object]]


def _choose(
    rows_of: Callable[[str], _Rows], visible: Sequence[sheets.Sheet], mapping: Mapping[str, str]
) -> _Candidate:
    """The only sheet with an e-mail column; a first sheet without one where none has.

    Two such sheets are refused: taking the first would lose the people in the second without a word.
    """
    filled = [candidate for sheet in visible if (candidate := _candidate(sheet, *rows_of(sheet.name)))]
    if not filled:
        raise ImportRefused("file", "The workbook is empty: no visible sheet has a cell with a value.")
    usable = [candidate for candidate in filled if has_email_column(candidate.header, mapping)]
    if len(usable) > 1:
        names = listed([candidate.sheet.name for candidate in usable])
        raise ImportRefused(
            "file",
            f"The sheets {names} each have an e-mail column; an import takes one. Save them as files of "
            "their own, or hide those that are not meant.",
        )
    return (usable or filled)[0]


def _candidate(sheet: sheets.Sheet, left: int, rows: Iterator[Sequence[object]]) -> _Candidate | None:
    for number, row in enumerate(rows, start=1):
        cells = list(map(_text, row))
        if any(map(str.strip, cells)):
            return _Candidate(sheet, number, cells, left, rows)
    return None


def _pieces(found: _Candidate, width: int, formulas: dict[int, dict[int, bool]]) -> Iterator[Block | Line]:
    """The rows under the header: many at a time, those with formulas each by itself."""
    number = found.header_row + 1
    while rows := list(islice(found.rows, BLOCK)):
        numbers = range(number, number + len(rows))
        cells = [[cell if type(cell) is str else _text(cell) for cell in row] for row in rows]
        if formulas:
            yield from _with_formulas(numbers, cells, found.left, width, formulas)
        else:
            yield Block(numbers, cells)
        number += len(rows)


def _with_formulas(
    numbers: range, rows: list[list[str]], left: int, width: int, formulas: dict[int, dict[int, bool]]
) -> Iterator[Line]:
    for number, cells in zip(numbers, rows, strict=True):
        computed = {
            column - left: stored
            for column, stored in formulas.get(number, {}).items()
            if 0 <= column - left < width
        }
        yield Line(number, cells, formulas=computed or None)


def _text(value: object) -> str:
    """A cell's value as a person would type it: 123 for 123.0, 2026-01-31 for a date, TRUE for a truth."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float) and value.is_integer():
        return str(int(value)) if abs(value) < LARGEST_EXACT else repr(value)
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value)
