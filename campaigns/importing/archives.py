"""One file in a .zip (APPNOTE.TXT) or .gz (RFC 1952), unpacked onto the disk under a limit."""

import gzip
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from tempfile import TemporaryFile
from typing import IO

from campaigns.importing.headers import listed
from campaigns.importing.limits import Limits
from campaigns.importing.refusals import ImportRefused

EXTENSIONS = (".zip", ".gz")
CHUNK = 1 << 20


@contextmanager
def unpacked(name: str, file: IO[bytes], *, limits: Limits) -> Iterator[tuple[str, IO[bytes]]]:
    """The name and content of the one file in an archive. Raises ImportRefused("file")."""
    with TemporaryFile(prefix="import-") as target:
        try:
            unpack = _unzip if PurePath(name).suffix.lower() == ".zip" else _gunzip
            member = unpack(name, file, target, limits)
        except ImportRefused:
            raise
        except (
            Exception
        ) as error:  # zipfile and gzip tell of damage by a dozen classes, zlib.error among them
            raise ImportRefused("file", f"The archive is damaged: {error}.") from error
        target.seek(0)
        yield member, target


def _unzip(name: str, file: IO[bytes], target: IO[bytes], limits: Limits) -> str:
    with zipfile.ZipFile(file) as archive:
        entry = _only(archive)
        if entry.flag_bits & 0x1:
            raise ImportRefused("file", "The archive is protected by a password. Pack the file without one.")
        with archive.open(entry) as source:
            _copy(source, target, entry.compress_size, limits)
        return PurePath(entry.filename.replace("\\", "/")).name


def _only(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The archive's one file, not counting what macOS and Windows add by themselves."""
    files = [entry for entry in archive.infolist() if not entry.is_dir()]
    entries = [entry for entry in files if not _is_clutter(entry.filename)]
    if not entries:
        raise ImportRefused("file", "The archive is empty.")
    if len(entries) > 1:
        names = listed([entry.filename for entry in entries], most=5)
        raise ImportRefused("file", f"The archive holds {len(entries)} files, {names}; an import takes one.")
    return entries[0]


def _is_clutter(path: str) -> bool:
    return path.startswith("__MACOSX/") or PurePath(path).name in (".DS_Store", "Thumbs.db", "desktop.ini")


def _gunzip(name: str, file: IO[bytes], target: IO[bytes], limits: Limits) -> str:
    packed = file.seek(0, 2)
    file.seek(0)
    with gzip.GzipFile(fileobj=file) as source:
        _copy(source, target, packed, limits)
    return PurePath(name).stem


def _copy(source: IO[bytes] | gzip.GzipFile, target: IO[bytes], packed: int, limits: Limits) -> None:
    """Stop at the limit, whatever size the archive declares."""
    size = 0
    while chunk := source.read(CHUNK):
        size += len(chunk)
        if size > limits.expanded_bytes or limits.is_bomb(size, packed):
            raise ImportRefused(
                "file",
                f"The archive unpacks to more than {size:,} bytes from {packed:,}; "
                "that is not a table of people.",
            )
        target.write(chunk)
    if not size:
        raise ImportRefused("file", "The file in the archive is empty.")
