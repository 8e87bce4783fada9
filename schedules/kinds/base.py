"""What every kind of task has: how its payload is judged and how it is done."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from django.core.files.base import File

from users.models import User


class PayloadRefused(Exception):
    """A task cannot be what is asked; `problems` names each member of the payload and what would be right."""

    def __init__(self, problems: Mapping[str, list[str]]) -> None:
        super().__init__("; ".join(f"{name}: {' '.join(texts)}" for name, texts in problems.items()))
        self.problems = dict(problems)


class TaskFailed(Exception):
    """The run cannot succeed, however often it is tried; the message is for the task's owner."""


@dataclass(frozen=True, slots=True)
class Work:
    """One try of one run: for whom, with what.

    `still_ours` lengthens the worker's right to the run and raises when it is lost, or the task cancelled;
    call it every few seconds. `folder` is empty and gone afterwards. `key` is the same on every try of a run.
    """

    user: User
    payload: Mapping[str, Any]
    file: "File[bytes] | None"
    file_name: str
    folder: Path
    key: str
    now: datetime
    still_ours: Callable[[], None]


@dataclass(frozen=True, slots=True)
class WorkResult:
    """What came of it: figures for the run, and a file to download, if there is one."""

    figures: dict[str, Any] = field(default_factory=dict)
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of task.

    `check` returns the payload as it is to be stored, given the user and the name of the file that came with
    it ('' for none), and raises PayloadRefused. `run` may raise TaskFailed; whatever else it raises is tried
    again. A `heavy` one has a queue of its own with the imports.
    """

    name: str
    summary: str
    check: Callable[[Mapping[str, Any], User, str], dict[str, Any]]
    run: Callable[[Work], WorkResult]
    heavy: bool = False


def only(payload: Mapping[str, Any], *names: str) -> None:
    """Raise PayloadRefused for members that the kind does not know."""
    unknown = [name for name in payload if name not in names]
    if unknown:
        said = f"There is no such field; there are: {', '.join(names)}."
        raise PayloadRefused({name[:60]: [said] for name in unknown[:20]})
