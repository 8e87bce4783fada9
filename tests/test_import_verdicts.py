"""The verdicts of email-validator on the addresses of its own test suite, and ours beside them."""

import json
from pathlib import Path

import pytest
from email_validator import EmailNotValidError, validate_email

from campaigns.addresses import SPECIAL_USE, BadAddress, parse_address

SUITE = Path(__file__).parent / "data" / "addresses" / "email_validator.json"
ADDRESSES = [
    (test, address) for test, addresses in json.loads(SUITE.read_text()).items() for address in addresses
]


def theirs(address: str) -> str | None:
    """As email-validator writes it for servers that know ASCII only, or None where it refuses."""
    try:
        found = validate_email(address, check_deliverability=False, allow_smtputf8=False)
    except EmailNotValidError:
        return None
    return f"{found.local_part}@{found.ascii_domain.lower()}"


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
