"""What keeps a template from running long or growing without bound, where the grammar alone does not.

`{{ 1.5|round(10**8, 'ceil') }}` written out takes minutes, a `join` multiplies two texts, two nested
loops over a long field square it, and a loop repeats whatever stands in it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from jinja2 import ChainableUndefined, Undefined, pass_context
from jinja2.filters import do_round
from jinja2.filters import sync_do_join as do_join
from jinja2.runtime import Context
from jinja2.utils import missing

MAX_LOOP_ITEMS = 1_000
MAX_SLOT_CHARACTERS = 1_000_000
MAX_DIGITS = 15
MAX_STEPS = 200_000
CHARACTERS_A_STEP = 32

WORK = " work"  # no template can name a field with a space


class Work:
    """What one part of a mail may still do for one recipient, shared by all its slots."""

    __slots__ = ("steps",)

    def __init__(self) -> None:
        self.steps = MAX_STEPS

    def spend(self, steps: int) -> None:
        """Count steps that are about to be done. Raises ValueError where they are too many."""
        self.steps -= steps
        if self.steps < 0:
            raise ValueError(
                f"it takes more than {MAX_STEPS:,} steps; loop over fewer items, or read shorter texts"
            )


class Missing(ChainableUndefined):
    """A field that a recipient does not have, or has as null: blank, empty, and equal to none."""

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, Undefined)

    __hash__ = ChainableUndefined.__hash__


class FieldsContext(Context):
    """A recipient's fields, in which null counts as missing."""

    def resolve_or_missing(self, key: str) -> Any:
        value = super().resolve_or_missing(key)
        return missing if value is None else value


@pass_context
def items(context: Context, value: Any, steps: int) -> list[Any]:
    """Return what a loop runs over that takes so many steps for each item, or once where there is none.

    Raises ValueError unless `value` is a list of bearable length.
    """
    listed = _listed(context, value)
    context[WORK].spend(steps * (len(listed) or 1))
    return listed


def _listed(context: Context, value: Any) -> list[Any]:
    if isinstance(value, Undefined):
        return []
    if not isinstance(value, list | tuple | Mapping):
        raise ValueError(f"a loop runs over a list, and this is {type(value).__name__} {value!r:.40}")
    if len(value) > MAX_LOOP_ITEMS:
        raise ValueError(f"a list of {len(value):,} items; at most {MAX_LOOP_ITEMS:,} are allowed")
    return [context.environment.undefined(name="item") if item is None else item for item in value]


@pass_context
def weighed(context: Context, value: Any) -> Any:
    """Return `value`, which is about to be read from one end to the other. Raises ValueError."""
    steps = _weight(value)
    if steps:
        context[WORK].spend(steps)
    return value


def _weight(value: Any) -> int:
    match value:
        case str():
            return len(value) // CHARACTERS_A_STEP
        case list() | tuple():
            return len(value) + sum(map(_weight, value))
        case Mapping():
            return len(value) + sum(map(_weight, value)) + sum(map(_weight, value.values()))
    return 0


@pass_context
def join(context: Context, value: Any, d: str = "", attribute: str | int | None = None) -> str:
    """Jinja2's `join` for lists of bearable length."""
    joined = _listed(context, value)
    between = str(d)
    bounded([between] * len(joined))
    context[WORK].spend(len(between) * len(joined) // CHARACTERS_A_STEP)
    return do_join(context.eval_ctx, joined, d, attribute)


def round_(value: float, precision: int = 0, method: Any = "common") -> float:
    """Jinja2's `round` to at most as many digits as a number has."""
    if abs(precision) > MAX_DIGITS:
        raise ValueError(f"round keeps at most {MAX_DIGITS} digits, not {precision}")
    return do_round(value, precision, method)


def is_none(value: Any) -> bool:
    """Say whether a field is null or missing, which are the same here."""
    return value is None or isinstance(value, Undefined)


def bounded(pieces: Iterable[str]) -> str:
    """Put text together. Raises ValueError as soon as it is too long for a mail."""
    kept, characters = [], 0
    for piece in pieces:
        kept.append(piece)
        characters += len(piece)
        if characters > MAX_SLOT_CHARACTERS:
            raise ValueError(f"it grows over {MAX_SLOT_CHARACTERS:,} characters")
    return "".join(kept)
