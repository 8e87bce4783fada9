"""One e-mail address: the verdicts of email-validator, many times faster on common ones."""

import re
from functools import lru_cache
from typing import NamedTuple
from unicodedata import category, normalize

from email_validator import EmailNotValidError, validate_email

DOT_ATOM = re.compile(r"[a-zA-Z0-9_!#$%&'*+\-/=?^`{|}~]+(?:\.[a-zA-Z0-9_!#$%&'*+\-/=?^`{|}~]+)*")
# What most domains are: email-validator takes such a one and only writes it in lower case, unless its ending
# is one of two special ones. It is no longer than one label may be, and has no "--", which is Punycode's.
COMMON_DOMAIN = re.compile(r"(?=.{4,63}\Z)(?:[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*\.)+[a-zA-Z]{2,}")
NEVER_COMMON = (".arpa", ".onion")
SEPARATOR = re.compile(r"[,;\s]")
INVISIBLE = "\u200b\u2060\ufeff"  # zero-width characters that come along when an address is copied
LONGEST = 254  # octets: RFC 5321 §4.5.3.1.3, less the angle brackets
LONGEST_LOCAL = (
    64  # octets: RFC 5321 §4.5.3.1.1; held against what is not ASCII, as longer ones of ASCII are real
)

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

    A local part with letters outside ASCII (RFC 6531) is `folded`: composed, and in lower case as a whole, so
    that every database's lower() leaves it as it is, whatever its collation. Takes text that `trim` has seen.
    Raises BadAddress.
    """
    local, at, domain = text.rpartition("@")
    if not at or not DOT_ATOM.fullmatch(local):
        local = _unusual_local(text, local, domain)
    known = _domain(domain)
    if known.reason:
        raise BadAddress(known.reason)
    address = f"{local}@{known.name}"
    if (size := len(address.encode())) > LONGEST:
        unit = "characters" if address.isascii() else "bytes of UTF-8"
        raise BadAddress(f"The address has {size} {unit}; at most {LONGEST} are allowed.")
    return address


def parse_plain_address(text: str) -> str:
    """The same, held to ASCII: for senders and accounts, whom every server must be able to answer.

    Raises BadAddress.
    """
    address = parse_address(text)
    if not address.isascii():
        raise BadAddress(
            "The part before the @-sign has letters outside ASCII, which many mail servers refuse; "
            "recipients may have them, senders and accounts not."
        )
    return address


def folded(text: str) -> str:
    """An address, or a part of one, as addresses are compared: composed (NFC), and in lower case.

    Letter by letter, as databases do it: str.lower() writes a capital sigma as its neighbours want it.
    """
    if text.isascii():
        return text.lower()
    return normalize("NFC", "".join(map(str.lower, normalize("NFC", text))))


def domain_name(text: str) -> str:
    """A domain as lower-case A-labels; "" for one that no mail can be sent to."""
    return _domain(text).name


def _unusual_local(text: str, local: str, domain: str) -> str:
    """A local part that is no dot-atom of ASCII, as it is to be stored. Raises BadAddress."""
    if reason := _obstacle(text):
        raise BadAddress(reason)
    # the domain has rules of its own; where it breaks them, what is wrong may be the address as a whole
    whole = f"{local}@example.com" if domain_name(domain) else text
    try:
        validate_email(whole, check_deliverability=False, allow_smtputf8=not local.isascii())
    except EmailNotValidError as error:
        raise BadAddress(str(error)) from None
    stored = folded(local)
    if (size := len(stored.encode())) > LONGEST_LOCAL:
        raise BadAddress(
            f"The part before the @-sign has {size} bytes of UTF-8; at most {LONGEST_LOCAL} are allowed."
        )
    return stored


def _obstacle(text: str) -> str:
    """What keeps a text from being one address at all, as people paste them; "" where it may be one."""
    if not text:
        return "The address is empty."
    if "\r" in text or "\n" in text:
        return "The address contains a line break."
    if "@" not in text:
        return "The address has no @-sign."
    if any(map(SEPARATOR.search, text.split("@")[1:-1])):
        return "The cell holds several addresses; give each a row of its own."
    if "<" in text and text.endswith(">"):
        return "A display name and angle brackets around the email address are not permitted here."
    hidden = next((character for character in text if category(character) == "Cf"), "")
    if hidden:
        return f"The address has an invisible character in it (U+{ord(hidden):04X}); type it anew."
    return ""


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
