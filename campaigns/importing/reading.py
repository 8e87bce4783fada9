"""A file as a table: what every format has in common."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePath
from typing import IO

from campaigns.importing.csvfiles import open_csv
from campaigns.importing.limits import Limits
from campaigns.importing.refusals import ImportRefused, Table
from campaigns.importing.workbooks import OLE, open_workbook

TEXT = (".csv", ".tsv", ".txt")
WORKBOOK = (".xlsx", ".xlsm")
ZIP = b"PK\x03\x04"


@contextmanager
def open_table(name: str, file: IO[bytes], *, size: int, mapping: Mapping[str, str]) -> Iterator[Table]:
    """The columns and lines of `file` (binary, seekable), which stays open; `name` tells its format.

    Raises ImportRefused("file") on entering, for everything that speaks against the file as a whole.
    """
    limits = Limits.of_settings()
    extension = PurePath(name).suffix.lower()
    if extension not in TEXT + WORKBOOK:
        raise ImportRefused(
            "file",
            f'"{extension or name}" is not a format that can be imported; '
            f"allowed are {', '.join(TEXT + WORKBOOK)}.",
        )
    if size == 0:
        raise ImportRefused("file", "The file is empty.")
    if size > limits.bytes:
        raise ImportRefused("file", f"The file has {size:,} bytes; at most {limits.bytes:,} are allowed.")
    if extension in WORKBOOK:
        opened = open_workbook(file, mapping=mapping, limits=limits)
    else:
        _refuse_workbook(file, extension)
        opened = open_csv(file, extension=extension, limits=limits)
    with opened as table:
        yield table


def _refuse_workbook(file: IO[bytes], extension: str) -> None:
    file.seek(0)
    if file.read(4) in (ZIP, OLE):
        raise ImportRefused(
            "file",
            f"The file is named {extension} but is no text: it is a workbook or an archive. "
            "Name an Excel workbook .xlsx; unpack an archive first.",
        )
