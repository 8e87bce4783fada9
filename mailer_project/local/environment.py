"""The file `env` in LOCAL_DIR: how other commands find the services that `manage.py up` has started."""

import os
from pathlib import Path
from typing import ClassVar

import environ

FILE = "env"


def read(file: Path) -> dict[str, str]:
    """The file's variables as settings.py would read them; empty when there is no such file."""

    class Reader(environ.Env):  # type: ignore[misc]  # django-environ ships no types
        ENVIRON: ClassVar[dict[str, str]] = {}

    if file.exists():
        Reader.read_env(file)
    return Reader.ENVIRON


def given(directory: Path) -> dict[str, str]:
    """Our environment as it was before settings.py added what `directory`/env says.

    What `.env` says stays in: it is as much the user's word as the environment is.
    """
    ours = read(directory / FILE)
    return {name: value for name, value in os.environ.items() if ours.get(name) != value}


def write(file: Path, values: dict[str, str]) -> None:
    """Replace the file; only its owner may read it."""
    head = "# Written by `manage.py up` at every start; put what should differ into .env.\n"
    write_private(file, head + "".join(f"{name}={value}\n" for name, value in values.items()))


def write_private(file: Path, text: str) -> None:
    """Replace a file in one step by one that only its owner may read."""
    partial = file.with_name(file.name + ".partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    partial.write_text(text)
    partial.rename(file)
