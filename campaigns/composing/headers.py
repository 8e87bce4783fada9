"""Header fields of a mail, each as one folded line without its line end (RFC 5322 §2.2, RFC 2047).

Not left to the standard library: CPython 3.11 folds a long name with commas into several recipients, and a
long List-Unsubscribe address into encoded words, which no mailbox follows.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9.-]+")
_UTF8_ADDRESS = re.compile(  # RFC 6532 §3.2, less what _CONTROL has
    "[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\u00a0-\u2027\u202a-\ud7ff\ue000-\U0010ffff-]+@[A-Za-z0-9.-]+"
)

EXTRA_NAMES = ("Auto-Submitted", "Comments", "Importance", "Keywords", "List-Id", "Organization")
MAX_EXTRA_FIELDS = 20
MAX_EXTRA_CHARACTERS = 500
_EXTRA_NAME = re.compile(rf"X-[A-Za-z0-9-]{{1,60}}|{'|'.join(EXTRA_NAMES)}", re.IGNORECASE)
_STEERING = ("x-smtpapi", "x-sg-")  # of SendGrid; the first can name further recipients

LINE = 78
LONGEST_TOKEN = 900  # of 998 characters that a line may have
_WORD_BYTES = 39  # as base64, with its wrapping and the longest name of a field, under 76 characters


class HeaderRefused(ValueError):
    """A campaign may not add such a header field to its mails."""


def single_line(value: str) -> str:
    """Replace control characters and line breaks by spaces, so that `value` can stand in a header."""
    return value if value.isprintable() else _CONTROL.sub(" ", value)


def text_field(name: str, value: str) -> str:
    """Return a field of free text, such as Subject."""
    value = single_line(value)
    if _is_plain(value):
        if len(name) + len(value) <= LINE - 2:
            return f"{name}: {value}"
        folded = _folded(f"{name}: {value}")
        # a first line without any text would give its fold back as a blank
        if folded[0] != f"{name}:" and all(len(line) <= LINE for line in folded):
            return "\r\n".join(folded)
    return f"{name}: {_encoded(value)}"


def address_field(name: str, display_name: str, address: str, *, utf8: bool = False) -> str:
    """Return a field with one mailbox, such as To. Raises ValueError where it is not one address.

    With `utf8` the address may have letters outside ASCII before its @-sign, and stands there as it is
    (RFC 6532): the mail needs SMTPUTF8 then.
    """
    if not (_UTF8_ADDRESS if utf8 else _ADDRESS).fullmatch(address):
        raise ValueError(f"{name}: {address!r} is not an address{'' if utf8 else ' of ASCII characters'}")
    display_name = " ".join(single_line(display_name).split())
    if not display_name:
        return f"{name}: {address}"
    if _is_plain(display_name) and len(display_name) <= LONGEST_TOKEN // 2:
        escaped = display_name.replace("\\", "\\\\").replace('"', '\\"')
        line = f'{name}: "{escaped}" <{address}>'
        return line if len(line) <= LINE else "\r\n".join(_folded(line))
    return f"{name}: {_encoded(display_name)}\r\n <{address}>"


def addresses_field(name: str, mailboxes: Iterable[tuple[str, str]]) -> str:
    """Return a field with mailboxes, such as Cc, each a display name and an address. Raises ValueError."""
    return _listed(name, mailboxes, address_field)


def recipients_field(name: str, mailboxes: Iterable[tuple[str, str]], *, utf8: bool) -> str:
    """Return a field with recipients, as `addresses_field` does.

    Addresses outside ASCII stand there as they are with `utf8`; else each is an empty group that is called
    like it (RFC 6857), which anybody can be shown and nobody can write to. Raises ValueError.
    """
    return _listed(name, mailboxes, partial(_recipient_field, utf8=utf8))


def _recipient_field(name: str, display_name: str, address: str, *, utf8: bool) -> str:
    if utf8 or address.isascii():
        return address_field(name, display_name, address, utf8=utf8)
    return f"{name}: {_encoded(' '.join(single_line(f'{display_name} {address}').split()))} :;"


def _listed(name: str, mailboxes: Iterable[tuple[str, str]], field: Callable[[str, str, str], str]) -> str:
    first, *others = mailboxes
    further = (field("", *each).removeprefix(": ") for each in others)
    return ",\r\n ".join([field(name, *first), *further])


def extra_field(name: str, value: str) -> str:
    """Return a field of a single mail's own: on one line where it fits, else as free text."""
    return f"{name}: {value}" if _is_plain(value) and len(value) <= LONGEST_TOKEN else text_field(name, value)


def line_field(name: str, value: str) -> str:
    """Return a field of ASCII text on one line of at most LONGEST_TOKEN characters. Raises ValueError."""
    if not _is_ascii_line(value) or len(value) > LONGEST_TOKEN:
        raise ValueError(f"{name}: {value!r} cannot stand in a header")
    return f"{name}: {value}"


def token_field(name: str, value: str) -> str:
    """Return a field whose value is machine-readable and stays in one piece. Raises ValueError."""
    if not _is_ascii_line(value) or " " in value or len(value) > LONGEST_TOKEN:
        raise ValueError(f"{name}: {value!r} cannot stand in a header")
    return f"{name}: {value}"


def check_extra_fields(fields: Mapping[str, Any]) -> None:
    """Raise HeaderRefused unless a campaign may add these fields to its mails."""
    if len(fields) > MAX_EXTRA_FIELDS:
        raise HeaderRefused(f"There are {len(fields)} headers; at most {MAX_EXTRA_FIELDS} are allowed.")
    if len({name.lower() for name in fields}) < len(fields):
        raise HeaderRefused("Two headers have the same name.")
    for name, value in fields.items():
        if not _EXTRA_NAME.fullmatch(name):
            raise HeaderRefused(
                f"The header {name!r:.100} is not allowed; use a name that begins with X-, or one "
                f"of {', '.join(EXTRA_NAMES)}."
            )
        if name.lower().startswith(_STEERING):
            raise HeaderRefused(f"The header {name} is not allowed: it would steer the provider.")
        if not isinstance(value, str) or not _is_ascii_line(value) or len(value) > MAX_EXTRA_CHARACTERS:
            raise HeaderRefused(
                f"The header {name} must have a text of 1 to {MAX_EXTRA_CHARACTERS} ASCII characters, "
                "without line breaks, nor blanks at its ends."
            )


def _is_plain(value: str) -> bool:
    return not value or (_is_ascii_line(value) and "=?" not in value)


def _is_ascii_line(value: str) -> bool:
    """Say whether it is printable ASCII with no blank at either end."""
    return value.isascii() and value.isprintable() and value.strip() == value != ""


def _folded(line: str) -> list[str]:
    """Break a line before single words, where a reader that joins the lines gets the same text back."""
    lines = [""]
    for word in re.findall(r" *[^ ]+", line):
        if lines[-1] and len(lines[-1]) + len(word) > LINE:
            lines.append(word)
        else:
            lines[-1] += word
    return lines


def _encoded(value: str) -> str:
    """Return `value` as base64 encoded words (RFC 2047 §4.1), one a line."""
    return "\r\n ".join(f"=?utf-8?b?{b64encode(chunk).decode()}?=" for chunk in _chunks(value))


def _chunks(value: str) -> Iterator[bytes]:
    """Cut text into UTF-8 pieces of at most _WORD_BYTES, never inside a character (RFC 2047 §5)."""
    encoded, start = value.encode(), 0
    while len(encoded) - start > _WORD_BYTES:
        end = start + _WORD_BYTES
        while encoded[end] & 0xC0 == 0x80:  # a byte within a character
            end -= 1
        yield encoded[start:end]
        start = end
    yield encoded[start:]
