"""What may stand in a column, whichever face it comes through: lines of text, JSON objects, years."""

import math
import re
from typing import Any

import orjson

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
MAX_DEPTH = 20
YEARS = range(2000, 2101)  # years outside cannot be shown in every zone, and nobody means them


class BadValue(ValueError):
    """The value cannot be stored; the message says why, `code` in a word."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def check_line(text: str) -> None:
    """Raise BadValue for control characters: the text goes into a header (RFC 5322 §2.2)."""
    if any(character < " " or character == "\x7f" for character in text):
        raise BadValue("It contains a line break or another control character.", "control_character")


def storable(text: str) -> str:
    """Return `text` without what PostgreSQL does not take: NUL and halves of surrogate pairs."""
    return _UNSTORABLE.sub("", text)


def parse_json(text: str) -> Any:
    """Return what a JSON text says (RFC 8259). Raises BadValue."""
    try:
        return orjson.loads(str(text))  # it takes no subclass of str
    except orjson.JSONDecodeError as error:
        raise BadValue(f"It is not JSON: {error}.", "not_json") from error


def check_object(value: Any) -> dict[str, Any]:
    """Return `value` if it is an object that PostgreSQL can store. Raises BadValue."""
    if not isinstance(value, dict):
        raise BadValue('Give an object, such as {"city": "Pune"}.', "not_an_object")
    _check_storable(value)
    return value


def _check_storable(value: Any, depth: int = 0) -> None:
    """Refuse what jsonb does not take (NUL, lone surrogates, NaN) and what no template could reach."""
    if depth > MAX_DEPTH:
        raise BadValue(f"Nested more than {MAX_DEPTH} deep.", "too_deep")
    match value:
        case str() if _UNSTORABLE.search(value):
            raise BadValue("A text in it contains NUL or half a surrogate pair.", "unstorable_text")
        case float() if not math.isfinite(value):
            raise BadValue("A number in it is not finite.", "not_finite")
        case dict():
            for key, inner in value.items():
                _check_storable(key, depth + 1)
                _check_storable(inner, depth + 1)
        case list():
            for inner in value:
                _check_storable(inner, depth + 1)
