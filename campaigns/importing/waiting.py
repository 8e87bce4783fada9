"""Uploaded files whose import somebody is still thinking about: kept for a day, where imports are stored."""

from datetime import datetime, timedelta
from pathlib import PurePath
from typing import IO
from uuid import uuid4

from django.core.files import File
from django.core.files.storage import default_storage

FOLDER = "imports/waiting"
LONGEST = timedelta(days=1)


def keep(name: str, file: IO[bytes], *, now: datetime) -> str:
    """Store a file and return the key by which `opened` finds it; those that have waited too long go."""
    _sweep(now)
    key = f"{uuid4().hex}{PurePath(name).suffix.lower()[:10]}"
    default_storage.save(f"{FOLDER}/{key}", File(file))
    return key


def opened(key: str) -> "File[bytes]":
    """The file, for reading; close it. Raises FileNotFoundError, also for what is no key."""
    if PurePath(key).name != key:
        raise FileNotFoundError(key)
    return default_storage.open(f"{FOLDER}/{key}", "rb")


def discard(key: str) -> None:
    """The file is no longer needed."""
    default_storage.delete(f"{FOLDER}/{PurePath(key).name}")


def _sweep(now: datetime) -> None:
    try:
        _, names = default_storage.listdir(FOLDER)
    except FileNotFoundError:
        return
    for name in names:
        if now - default_storage.get_modified_time(f"{FOLDER}/{name}") > LONGEST:
            discard(name)
