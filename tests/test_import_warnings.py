"""Addresses that are taken and flagged."""

import pytest

from campaigns.importing.warnings import PROVIDERS, warner
from campaigns.models import Audience
from tests.import_helpers import counts, csv_bytes, import_file, reasons, stored, warnings

NOBODY = ()


class TestMisspeltDomain:
    @pytest.mark.parametrize(
        ("domain", "meant"),
        [
            ("gmial.com", "gmail.com"),
            ("gmal.com", "gmail.com"),
            ("gmaill.com", "gmail.com"),
            ("gamil.com", "gmail.com"),
            ("gmail.co", "gmail.com"),
            ("gmail.con", "gmail.com"),
            ("yahooo.com", "yahoo.com"),
            ("hotmial.com", "hotmail.com"),
            ("outlok.com", "outlook.com"),
            ("redifmail.com", "rediffmail.com"),
            ("yahooo.co.uk", "yahoo.co.uk"),
            ("hotmial.fr", "hotmail.fr"),
            ("example.con", "example.com"),
            ("shop.example.comm", "shop.example.com"),
        ],
    )
    def test_is_flagged_with_the_one_that_was_probably_meant(self, domain: str, meant: str) -> None:
        assert warner(NOBODY)(f"ann@{domain}") == f"The domain {domain} looks like a misspelt {meant}."

    @pytest.mark.parametrize(
        "domain",
        [
            *PROVIDERS,
            "mail.com",
            "email.com",
            "ymail.com",
            "yahoo.co.id",
            "yahoo.co.il",
            "hotmail.gr",
            "gmx.de",
            "example.com",
            "example.co",
            "mailer.test",
        ],
    )
    def test_is_not_seen_in_a_real_one(self, domain: str) -> None:
        assert warner(NOBODY)(f"ann@{domain}") == ""


class TestRole:
    @pytest.mark.parametrize("local", ["info", "Sales", "NO-REPLY", "postmaster"])
    def test_is_flagged_where_that_is_asked_for(self, local: str) -> None:
        address = f"{local}@example.com"
        assert warner(["role"])(address) == f'"{local}" is the address of a role, not of a person.'
        assert warner(NOBODY)(address) == ""

    def test_is_not_seen_in_a_part_of_a_name(self) -> None:
        assert warner(["role"])("info.lee@example.com") == ""


class TestDisposable:
    @pytest.mark.parametrize("domain", ["mailinator.com", "inbox.mailinator.com", "yopmail.com"])
    def test_is_flagged_where_that_is_asked_for(self, domain: str) -> None:
        reason = f"Addresses at {domain} are disposable: made for a few minutes."
        assert warner(["disposable"])(f"ann@{domain}") == reason
        assert warner(["role"])(f"ann@{domain}") == ""


@pytest.mark.django_db
class TestImport:
    def test_does_not_warn_of_a_duplicate(self) -> None:
        audience = Audience.objects.create(name="Customers")
        rows = [("ann@gmial.com", "Ann", ""), ("ANN@gmial.com", "Twin", "")]
        job = import_file(audience, "p.csv", csv_bytes(rows))
        assert counts(job) == {"read": 2, "created": 1, "duplicate": 1, "warnings": 1}
        assert [line for line, *_ in warnings(job)] == [2]
        assert reasons(job) == [(3, "email", "The address stands in line 2 already.")]

    def test_takes_the_flagged_rows_and_lists_them_beside_the_refused(self) -> None:
        audience = Audience.objects.create(name="Customers")
        rows = [("ann@gmial.com", "Ann", ""), ("bob", "Bob", ""), ("info@example.com", "", "")]
        job = import_file(audience, "p.csv", csv_bytes(rows), warn_about=["role"])
        assert counts(job) == {"read": 3, "created": 2, "refused": 1, "warnings": 2}
        assert warnings(job) == [
            (2, "email", "The domain gmial.com looks like a misspelt gmail.com."),
            (4, "email", '"info" is the address of a role, not of a person.'),
        ]
        assert [email for email, *_ in stored(audience)] == ["ann@gmial.com", "info@example.com"]
