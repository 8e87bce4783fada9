"""A workbook's container: what kind it is, what it holds, and whether that is safe to lay out in memory.

Everything here is asked before an engine parses the file.
"""

import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Literal, NamedTuple

from campaigns.importing import biff, heads, odf, sheets
from campaigns.importing.limits import Limits
from campaigns.importing.refusals import ImportRefused
from campaigns.importing.sheets import MOST_CELLS, Marks, Measure

OLE = b"\xd0\xcf\x11\xe0"  # the container of .xls and of password-protected workbooks

Engine = Literal["calamine", "openpyxl"]


class Inspected(NamedTuple):
    """A workbook's visible sheets, and of each its formulas and errors."""

    format: str
    visible: list[str]
    marks: Callable[[str], Marks]
    engines: tuple[Engine, ...] = ("calamine",)
    columns: Mapping[str, tuple[int | None, int]] = {}
    """From where to where each sheet reaches, where that is known."""
    write_head: Callable[[IO[bytes]], frozenset[str]] = lambda target: frozenset()
    """Writes the beginning of the workbook as a smaller one; see `heads`."""


@contextmanager
def inspected(file: IO[bytes], *, limits: Limits) -> Iterator[Inspected]:
    """What is known of a workbook before it is parsed. Raises ImportRefused("file")."""
    file.seek(0)
    if file.read(4) == OLE:
        with _refusing_damage():
            found = _xls(file, limits)
        yield found
        return
    with _archive(file) as archive:
        with _refusing_damage():
            _refuse_bomb(archive, limits)
            found = (
                _xlsx(archive, limits) if "xl/workbook.xml" in archive.namelist() else _ods(archive, limits)
            )
        yield found


@contextmanager
def _refusing_damage() -> Iterator[None]:
    try:
        yield
    except ImportRefused:
        raise
    except Exception as error:  # zipfile tells of damage by a dozen classes, zlib.error among them
        raise ImportRefused("file", f"The workbook is damaged: {error!r}.") from error


@contextmanager
def _archive(file: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    file.seek(0)
    try:
        archive = zipfile.ZipFile(file)
        names = set(archive.namelist())
    except Exception as error:
        raise _no_workbook() from error
    with archive:
        if "xl/workbook.bin" in names:
            raise ImportRefused("file", "The file is a binary workbook (.xlsb). Save it as .xlsx or CSV.")
        if not ({"xl/workbook.xml", "xl/_rels/workbook.xml.rels"} <= names or odf.CONTENT in names):
            raise _no_workbook()
        yield archive


def _no_workbook() -> ImportRefused:
    return ImportRefused(
        "file", "The file is not an Excel workbook, though its name says so, or it is damaged."
    )


def _refuse_bomb(archive: zipfile.ZipFile, limits: Limits) -> None:
    """Refuse before anything is parsed, by the sizes the archive declares; then hold it to them."""
    entries = archive.infolist()
    expanded = sum(entry.file_size for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    if expanded > limits.expanded_bytes or limits.is_bomb(expanded, packed):
        raise ImportRefused(
            "file",
            f"The workbook unpacks to {expanded:,} bytes from {packed:,}; that is not a table of people. "
            "Save it again, or as CSV.",
        )
    # zipfile stops at the declared size and then misses the checksum; calamine would read on
    damaged = archive.testzip()
    if damaged:
        raise ImportRefused("file", f"The workbook is damaged: its part {damaged} has a wrong checksum.")


def _xlsx(archive: zipfile.ZipFile, limits: Limits) -> Inspected:
    visible = {sheet.name: sheet for sheet in sheets.visible_sheets(archive)}
    sizes = {name: sheets.measure(archive, sheet) for name, sheet in visible.items()}
    _refuse_large(sizes.items(), limits)
    _refuse_many(sizes.values())

    def marks(name: str) -> Marks:
        with _refusing_damage():
            return sheets.marks(archive, visible[name]) if sizes[name].is_marked else Marks()

    return Inspected(
        "Excel workbook",
        list(visible),
        marks,
        engines=("calamine", "openpyxl"),
        columns={name: (size.left, size.columns) for name, size in sizes.items()},
        write_head=lambda target: heads.write_head(archive, visible.values(), target),
    )


def _ods(archive: zipfile.ZipFile, limits: Limits) -> Inspected:
    manifest = "META-INF/manifest.xml"
    if manifest in archive.namelist() and b"encryption-data" in archive.read(manifest):
        raise ImportRefused("file", "The workbook is protected by a password. Save it without one.")
    return _with_measured("OpenDocument spreadsheet", odf.read_sheets(archive), limits)


def _xls(file: IO[bytes], limits: Limits) -> Inspected:
    return _with_measured("Excel 97-2003 workbook", biff.read_sheets(file), limits)


def _with_measured(
    format_: str, found: Sequence[odf.OdfSheet] | Sequence[biff.BiffSheet], limits: Limits
) -> Inspected:
    """A workbook of which the engine lays out every sheet as it opens it, hidden ones too."""
    visible = {sheet.name: sheet for sheet in found if sheet.is_visible}
    _refuse_large(((name, sheet.size) for name, sheet in visible.items()), limits)
    _refuse_many(sheet.size for sheet in found)
    return Inspected(format_, list(visible), lambda name: visible[name].marks)


def _refuse_large(sizes: Iterable[tuple[str, Measure]], limits: Limits) -> None:
    for name, size in sizes:
        if size.columns > limits.columns:
            raise ImportRefused(
                "file",
                f'Sheet "{name}" has {size.columns} columns; an import takes at most {limits.columns}. '
                "Delete the columns to the right of the table, even those that look empty.",
            )
        if size.cells > MOST_CELLS:
            raise ImportRefused(
                "file",
                f'Sheet "{name}" reaches over {size.rows:,} rows and {size.columns} columns, more than '
                f"{MOST_CELLS:,} cells. Delete stray cells outside the table, or save it as CSV.",
            )


def _refuse_many(sizes: Iterable[Measure]) -> None:
    cells = sum(size.cells for size in sizes)
    if cells > MOST_CELLS:
        raise ImportRefused(
            "file",
            f"The sheets of the workbook reach over {cells:,} cells, more than {MOST_CELLS:,}. "
            "Save the one that is meant as a file of its own.",
        )
