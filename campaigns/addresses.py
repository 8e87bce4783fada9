"""One address with the name that is shown for it; the rules of the address itself are `users.addresses`'s."""

import re
from collections.abc import Callable
from email.utils import unquote
from typing import NamedTuple

from users.addresses import (
    DOT_ATOM,
    LONGEST,
    SPECIAL_USE,
    BadAddress,
    domain_name,
    folded,
    parse_address,
    parse_plain_address,
    trim,
)

_NAMED = re.compile(r"\s*(?P<name>[^<>]*?)\s*<(?P<email>[^<>]*)>\s*")
LONGEST_NAME = 200


class Mailbox(NamedTuple):
    """An address with the name that is shown for it, which may be empty."""

    name: str
    email: str

    def __str__(self) -> str:
        escaped = self.name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}" <{self.email}>' if self.name else self.email


def parse_mailbox(text: str) -> Mailbox:
    """Read `asha@example.com`, or `Asha <asha@example.com>` with the name in quotes or not.

    Raises BadAddress.
    """
    return _mailbox(text, parse_address)


def parse_plain_mailbox(text: str) -> Mailbox:
    """The same with an address of ASCII, for senders. Raises BadAddress."""
    return _mailbox(text, parse_plain_address)


def _mailbox(text: str, parse: Callable[[str], str]) -> Mailbox:
    if "\r" in text or "\n" in text:
        raise BadAddress("The address contains a line break.")
    found = _NAMED.fullmatch(text)
    name = unquote(found["name"]) if found else ""
    if len(name) > LONGEST_NAME:
        raise BadAddress(f"The name has {len(name)} characters; at most {LONGEST_NAME} are allowed.")
    return Mailbox(name, parse(trim(found["email"] if found else text)))


__all__ = [
    "DOT_ATOM",
    "LONGEST",
    "SPECIAL_USE",
    "BadAddress",
    "Mailbox",
    "domain_name",
    "folded",
    "parse_address",
    "parse_mailbox",
    "parse_plain_address",
    "parse_plain_mailbox",
    "trim",
]
