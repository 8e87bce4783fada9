"""A file as a table: what every format has in common."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, islice
from pathlib import PurePath
from typing import IO

from campaigns.importing import archives
from campaigns.importing.csvfiles import open_csv
from campaigns.importing.limits import Limits
from campaigns.importing.origins import as_written_from
from campaigns.importing.refusals import Block, ImportRefused, Line, Table, lines_of
from campaigns.importing.workbooks import OLE, open_workbook

TEXT = (".csv", ".tsv", ".txt")
WORKBOOK = (".xlsx", ".xlsm", ".xls", ".ods")
EXTENSIONS = TEXT + WORKBOOK + archives.EXTENSIONS
ZIP = b"PK\x03\x04"
GZIP = b"\x1f\x8b"
SAMPLE = 100  # lines


@contextmanager
def open_table(
    name: str,
    file: IO[bytes],
    *,
    size: int,
    mapping: Mapping[str, str],
    sheet: str = "",
    encoding: str = "",
    only_sample: bool = False,
) -> Iterator[Table]:
    """The columns and lines of `file` (binary, seekable), which stays open; `name` tells its format.

    `sheet` of a workbook and `encoding` of a text are found out when empty. With `only_sample` no other lines
    are wanted than those of the table's sample. Raises ImportRefused on entering: "sheet" or "encoding" for
    one of these, "file" for everything else that speaks against the file.
    """
    limits = Limits.of_settings()
    extension = _extension(name)
    if size == 0:
        raise ImportRefused("file", "The file is empty.")
    if size > limits.bytes:
        raise ImportRefused("file", f"The file has {size:,} bytes; at most {limits.bytes:,} are allowed.")
    if extension in archives.EXTENSIONS:
        with archives.unpacked(name, file, limits=limits) as (member, content):
            if _extension(member) in archives.EXTENSIONS:
                raise ImportRefused(
                    "file", f'The archive holds another one, "{member}". Pack the file itself.'
                )
            with _opened(member, content, mapping, sheet, encoding, limits, only_sample) as table:
                yield replace(table, reading=replace(table.reading, member=member))
    else:
        with _opened(name, file, mapping, sheet, encoding, limits, only_sample) as table:
            yield table


def _extension(name: str) -> str:
    extension = PurePath(name).suffix.lower()
    if extension not in EXTENSIONS:
        raise ImportRefused(
            "file",
            f'"{extension or name}" is not a format that can be imported; '
            f"allowed are {', '.join(EXTENSIONS)}.",
        )
    return extension


@contextmanager
def _opened(
    name: str,
    file: IO[bytes],
    mapping: Mapping[str, str],
    sheet: str,
    encoding: str,
    limits: Limits,
    only_sample: bool,
) -> Iterator[Table]:
    extension = _extension(name)
    if extension in WORKBOOK and not _is_text_after_all(file, extension):
        if encoding:
            raise ImportRefused("encoding", "The file is a workbook; only text files have an encoding.")
        opened = open_workbook(file, mapping=mapping, sheet=sheet, limits=limits, only_sample=only_sample)
    else:
        if sheet:
            raise ImportRefused("sheet", "The file is text; only workbooks have sheets.")
        _refuse_other_than_text(file, extension)
        opened = open_csv(file, extension=extension, encoding=encoding, limits=limits)
    with opened as written:
        table = as_written_from(written)
        first, sample = _ahead(table.pieces)
        yield replace(table, sample=sample, pieces=chain(first, table.pieces))


def _ahead(pieces: Iterator[Block | Line]) -> tuple[list[Block | Line], tuple[Line, ...]]:
    """The first pieces, which are to be put back, and of their lines enough to judge the file by."""
    taken: list[Block | Line] = []
    sample: list[Line] = []
    while len(sample) < SAMPLE and (piece := next(pieces, None)):
        taken.append(piece)
        sample.extend(islice(lines_of(piece), SAMPLE - len(sample)))
    return taken, tuple(sample)


def _is_text_after_all(file: IO[bytes], extension: str) -> bool:
    """Many programs name their text .xls so that Excel opens it."""
    file.seek(0)
    return extension == ".xls" and not file.read(4).startswith((ZIP, OLE))


def _refuse_other_than_text(file: IO[bytes], extension: str) -> None:
    file.seek(0)
    head = file.read(1024)
    if head.startswith((ZIP, OLE, GZIP)):
        raise ImportRefused(
            "file",
            f"The file is named {extension} but is no text: it is a workbook or an archive. "
            "Name an Excel workbook .xlsx, an archive .zip or .gz.",
        )
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:5].lower() in (b"<html", b"<!doc", b"<tabl", b"<?xml", b"<meta"):
        raise ImportRefused(
            "file",
            f"The file is named {extension} but is a web page or XML. "
            "Open it in Excel and save it as .xlsx or CSV.",
        )
