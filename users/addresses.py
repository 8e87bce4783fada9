"""One e-mail address: the verdicts of email-validator, many times faster on common ones."""

import re
from functools import lru_cache
from typing import NamedTuple
from unicodedata import category

from email_validator import EmailNotValidError, validate_email

DOT_ATOM = re.compile(r"[a-zA-Z0-9_!#$%&'*+\-/=?^`{|}~]+(?:\.[a-zA-Z0-9_!#$%&'*+\-/=?^`{|}~]+)*")
# What most domains are: email-validator takes such a one and only writes it in lower case, unless its ending
# is one of two special ones. It is no longer than one label may be, and has no "--", which is Punycode's.
COMMON_DOMAIN = re.compile(r"(?=.{4,63}\Z)(?:[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*\.)+[a-zA-Z]{2,}")
NEVER_COMMON = (".arpa", ".onion")
SEPARATOR = re.compile(r"[,;\s]")
INVISIBLE = "\u200b\u2060\ufeff"  # zero-width characters that come along when an address is copied
LONGEST = 254  # RFC 5321 §4.5.3.1.3, less the angle brackets

# Names that never reach the Internet, which email-validator refuses. Operators need them: .test for a
# rehearsal, .invalid to see a bounce (RFC 6761 §6.2, §6.4), .local and .localhost inside a house.
SPECIAL_USE = {"test", "invalid", "local", "localhost"}


class BadAddress(ValueError):
    """The text is not an address that mail can be sent to; the message says why."""


class _Domain(NamedTuple):
    name: str
    reason: str


def trim(text: str) -> str:
    """Without the white space and invisible characters around it."""
    return text.strip().strip(INVISIBLE).strip()


def parse_address(text: str) -> str:
    """The address as it is to be stored and sent to: local part as written, domain as lower-case A-labels.

    Takes text that `trim` has seen. Raises BadAddress.
    """
    local, at, domain = text.rpartition("@")
    if not at or not DOT_ATOM.fullmatch(local):
        raise BadAddress(_why(text, local))
    known = _domain(domain)
    if known.reason:
        raise BadAddress(known.reason)
    address = f"{local}@{known.name}"
    if len(address) > LONGEST:
        raise BadAddress(f"The address has {len(address)} characters; at most {LONGEST} are allowed.")
    return address


def domain_name(text: str) -> str:
    """A domain as lower-case A-labels; "" for one that no mail can be sent to."""
    return _domain(text).name


def _why(text: str, local: str) -> str:
    """The reason against an address whose local part is not a dot-atom."""
    if not text:
        return "The address is empty."
    if "\r" in text or "\n" in text:
        return "The address contains a line break."
    if "@" not in text:
        return "The address has no @-sign."
    if any(map(SEPARATOR.search, text.split("@")[1:-1])):
        return "The cell holds several addresses; give each a row of its own."
    hidden = next((character for character in text if category(character) == "Cf"), "")
    if hidden:
        return f"The address has an invisible character in it (U+{ord(hidden):04X}); type it anew."
    if not local.isascii():
        return "The part before the @-sign has letters outside ASCII, which most mail servers refuse."
    try:
        validate_email(text, check_deliverability=False, allow_smtputf8=False)
    except EmailNotValidError as error:
        return str(error)
    return "The part before the @-sign is not valid."


@lru_cache(maxsize=65_536)
def _domain(text: str) -> _Domain:
    common = text.lower()
    if COMMON_DOMAIN.fullmatch(text) and not common.endswith(NEVER_COMMON):
        return _Domain(common, "")
    head, _, last = text.rpartition(".")
    stand_in = f"{head}.example" if head and last.lower() in SPECIAL_USE else text
    try:
        name = validate_email(f"x@{stand_in}", check_deliverability=False).ascii_domain.lower()
    except EmailNotValidError as error:
        return _Domain("", str(error))
    return _Domain(name if stand_in is text else f"{name.removesuffix('.example')}.{last.lower()}", "")
