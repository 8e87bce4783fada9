"""The verdicts of email-validator on the addresses of its own test suite, and ours beside them."""

import json
from pathlib import Path
from unicodedata import normalize

import pytest
from email_validator import EmailNotValidError, validate_email

from campaigns.addresses import LONGEST, SPECIAL_USE, BadAddress, parse_address

SUITE = Path(__file__).parent / "data" / "addresses" / "email_validator.json"
ADDRESSES = [
    (test, address) for test, addresses in json.loads(SUITE.read_text()).items() for address in addresses
]


def theirs(address: str) -> str | None:
    """As email-validator writes it, or None where it refuses.

    Where only SMTPUTF8 carries it, in lower case and held to the octets that a local part may have
    (RFC 5321 §4.5.3.1.1), which email-validator does not count.
    """
    if len(address.encode(errors="replace")) > LONGEST:
        address = normalize("NFC", address)  # it may fit once it is composed, as it is stored
    try:
        found = validate_email(address, check_deliverability=False)
    except EmailNotValidError:
        return None
    local = found.local_part.lower() if found.smtputf8 else found.local_part
    if found.smtputf8 and len(local.encode()) > 64:
        return None
    return f"{local}@{found.ascii_domain.lower()}"


def ours(address: str) -> str | None:
    try:
        return parse_address(address)
    except BadAddress:
        return None


class TestAddressOfTheSuite:
    def test_is_one_of_many(self) -> None:
        assert len(ADDRESSES) > 150

    @pytest.mark.parametrize(("test", "address"), ADDRESSES)
    def test_is_judged_and_written_as_email_validator_does(self, test: str, address: str) -> None:
        if test.endswith("reserved_domain") and address.rpartition(".")[2].lower() in SPECIAL_USE:
            assert theirs(address) is None
            assert ours(address) == address  # a rehearsal needs them; see `addresses`
        else:
            assert ours(address) == theirs(address)
