"""Addresses with letters outside ASCII before the @-sign, wherever they come in and go out."""

import sys
from collections.abc import Iterator
from unicodedata import category, normalize

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from rest_framework.test import APIClient

from campaigns import outbound
from campaigns.addresses import BadAddress, folded, parse_address, parse_mailbox, parse_plain_address
from campaigns.exporting.exports import EXTENSIONS, export
from campaigns.importing.warnings import NEEDS_SMTPUTF8, warner
from campaigns.mail import MailRefused, send_email
from campaigns.models import Audience, Campaign, OutboundRecipient, Recipient, Suppression, SuppressionReason
from campaigns.providers import Line
from campaigns.suppression import of_single_mails, suppress
from tests.admin_helpers import client_of, superuser
from tests.api_helpers import faults, path_of
from tests.import_helpers import counts, csv_bytes, import_file, reasons, stored, warnings
from tests.mail_servers import SendGridServer, SmtpServer
from tests.test_smtputf8_delivery import JOERG, OFFERS_NONE, old_smtp, smtp_of
from users import accounts
from users.models import User

pytestmark = pytest.mark.django_db

__all__ = ["old_smtp"]  # a fixture
TOO_LONG = "ä" * 33 + "@example.com"
anything = st.text(st.characters(min_codepoint=33), min_size=1, max_size=12)


def every_letter() -> Iterator[str]:
    """Each character that an address may have outside ASCII, in one as it is stored."""
    for code in range(0x80, sys.maxunicode + 1):
        if category(chr(code))[0] not in "CZ":
            yield folded(f"x{chr(code)}@example.com")


class TestAnAddress:
    @pytest.mark.parametrize(
        ("text", "address"),
        [
            ("jörg@example.com", "jörg@example.com"),
            ("Jörg.Müller@Bücher.example", "jörg.müller@xn--bcher-kva.example"),
            (normalize("NFD", "Jörg@example.com"), "jörg@example.com"),
            ("ΟΔΟΣ@example.com", "οδοσ@example.com"),
            ("J\u030c@example.com", "ǰ@example.com"),
            ("İstanbul@example.com", "i̇stanbul@example.com"),
            ("用户@例え.jp", "用户@xn--r8jz45g.jp"),
            ("राम@उदाहरण.भारत", "राम@xn--p1b6ci4b4b3a.xn--h2brj9c"),
            ("\u212a@example.com", "k@example.com"),
            ("ä" * 32 + "@example.com", "ä" * 32 + "@example.com"),
        ],
    )
    def test_is_stored_composed_and_in_lower_case(self, text: str, address: str) -> None:
        assert parse_address(text) == address

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (TOO_LONG, "The part before the @-sign has 66 bytes of UTF-8; at most 64 are allowed."),
            (
                f"{'ä' * 32}@{'.'.join(['d' * 46] * 4)}.com",
                "The address has 256 bytes of UTF-8; at most 254 are allowed.",
            ),
            ("ä b@example.com", "The email address contains invalid characters before the @-sign: SPACE."),
            ("\u0308a@example.com", "The email address contains unsafe characters: COMBINING DIAERESIS."),
            (
                "j\u00adörg@example.com",
                "The address has an invisible character in it (U+00AD); type it anew.",
            ),
            (
                "Jörg <jörg@example.com>",
                "A display name and angle brackets around the email address are not permitted here.",
            ),
            ("jörg@localhost", "The part after the @-sign is not valid. It should have a period."),
            (
                "jörg@example.com, ann@example.com",
                "The cell holds several addresses; give each a row of its own.",
            ),
        ],
    )
    def test_is_refused_in_words(self, text: str, reason: str) -> None:
        with pytest.raises(BadAddress) as refused:
            parse_address(text)
        assert str(refused.value) == reason

    @given(local=anything)
    def test_is_the_same_when_it_is_read_again(self, local: str) -> None:
        try:
            address = parse_address(f"{local}@example.com")
        except BadAddress:
            return
        assert parse_address(address) == address
        assert address.isascii() or folded(address) == address.lower() == address

    @given(local=anything)
    def test_is_the_same_however_it_is_composed_or_capitalised(self, local: str) -> None:
        try:
            address = parse_address(f"ä{local}@example.com")
        except BadAddress:
            return
        for form in ("NFC", "NFD"):
            assert parse_address(normalize(form, address)) == address
        assert folded(address.upper()).casefold() == folded(address).upper().lower().casefold()

    def test_is_left_as_it_is_by_the_database(self) -> None:
        addresses = list(every_letter())
        assert len(addresses) > 100_000
        with connection.cursor() as cursor:
            cursor.execute(
                """
                SELECT count(*) FILTER (WHERE lower(address) <> address),
                       count(*) FILTER (WHERE lower(address COLLATE "C") <> address),
                       count(*) FILTER (WHERE normalize(address) <> address)
                  FROM unnest(%s::text[]) AS address
                """,
                [addresses],
            )
            assert cursor.fetchone() == (0, 0, 0)

    def test_may_have_a_name(self) -> None:
        assert parse_mailbox("Jörg, Dr. <JÖRG@example.com>") == ("Jörg, Dr.", JOERG)


class TestASender:
    WHY = "The part before the @-sign has letters outside ASCII, which many mail servers refuse; "

    def test_has_none(self) -> None:
        with pytest.raises(BadAddress, match=self.WHY):
            parse_plain_address(JOERG)
        assert parse_plain_address("Ann@Bücher.example") == "Ann@xn--bcher-kva.example"

    @pytest.mark.parametrize("field", ["from_email", "reply_to"])
    def test_of_a_campaign_is_refused_by_field(self, api: APIClient, campaign: Campaign, field: str) -> None:
        (why,) = faults(api.patch(path_of("campaigns", campaign.pk), {field: JOERG})).items()
        assert why[0] == field
        assert why[1].startswith(self.WHY)
        campaign.refresh_from_db()
        assert (campaign.from_email, campaign.reply_to) == ("", "")

    def test_of_the_settings_keeps_campaigns_from_starting(
        self, api: APIClient, campaign: Campaign, settings: object
    ) -> None:
        settings.DEFAULT_FROM_EMAIL = JOERG  # type: ignore[attr-defined]  # pytest-django's
        found = faults(api.post(f"{path_of('campaigns', campaign.pk)}start/"))
        assert found == {"from_email": f"{JOERG!r} cannot be used: {self.WHY}recipients may have them, "
                         "senders and accounts not."}  # fmt: skip

    def test_of_a_single_mail_is_refused_by_field(self) -> None:
        with pytest.raises(MailRefused) as refused:
            send_email("Hello", "Hi", [JOERG], from_email=f"J <{JOERG}>", reply_to=["a@example.com", JOERG])
        assert refused.value.problems.keys() == {"from_email", "reply_to.1"}
        assert not OutboundRecipient.objects.exists()

    def test_nor_has_an_account(self, api: APIClient) -> None:
        with pytest.raises(BadAddress, match=self.WHY):
            accounts.create(JOERG)
        assert faults(api.post(path_of("users"), {"email": JOERG})).keys() == {"email"}
        assert User.objects.count() == 1


class TestImport:
    ROWS = (
        ("Jörg@example.com", "Jörg", "Köln"),
        ("ann@example.com", "Ann", ""),
        (normalize("NFD", "JÖRG@example.com"), "Twin", ""),
        (TOO_LONG, "", ""),
        ("jörg@gmial.com", "", ""),
    )

    def test_takes_them_with_a_warning(self) -> None:
        audience = Audience.objects.create(name="Customers")
        job = import_file(audience, "p.csv", csv_bytes(self.ROWS))
        assert counts(job) == {"read": 5, "created": 3, "duplicate": 1, "refused": 1, "warnings": 2}
        assert [email for email, *_ in stored(audience)] == ["ann@example.com", JOERG, "jörg@gmial.com"]
        assert warnings(job) == [
            (2, "email", NEEDS_SMTPUTF8),
            (6, "email", f"The domain gmial.com looks like a misspelt gmail.com. {NEEDS_SMTPUTF8}"),
        ]
        assert (4, "email", "The address stands in line 2 already.") in reasons(job)

    def test_says_what_they_need(self) -> None:
        assert warner(())(JOERG) == (
            "The address has letters outside ASCII before the @-sign: it needs a mail server that offers "
            "SMTPUTF8; the SendGrid API takes none such."
        )
        assert warner(())("ann@xn--bcher-kva.example") == ""

    def test_knows_them_again_and_those_that_are_suppressed(self) -> None:
        audience = Audience.objects.create(name="Customers")
        suppress("JÖRG@example.com", SuppressionReason.UNSUBSCRIBE)
        import_file(audience, "p.csv", csv_bytes(self.ROWS[:2]))
        again = import_file(audience, "p.csv", csv_bytes([("JÖRG@EXAMPLE.com", "Jörg II", "Köln")]))
        assert counts(again) == {"read": 1, "updated": 1, "warnings": 1}
        assert again.suppressed == 1
        assert [name for _, name, *_ in stored(audience)] == ["Ann", "Jörg II"]

    @pytest.mark.parametrize("extension", EXTENSIONS)
    def test_takes_an_export_as_it_was(self, extension: str) -> None:
        audience = Audience.objects.create(name="Customers")
        import_file(audience, "p.csv", csv_bytes(self.ROWS[:2]))
        written = b"".join(export(audience, extension).pieces)
        other = Audience.objects.create(name="Others")
        import_file(other, f"p.{extension}", written)
        assert stored(other) == stored(audience)


class TestApi:
    def test_takes_a_recipient_once_whatever_the_case(self, api: APIClient, audience: Audience) -> None:
        body = {"audience": audience.pk, "email": "JÖRG@example.com"}
        answer = api.post(path_of("recipients"), body)
        assert (answer.status_code, answer.json()["email"]) == (201, JOERG)
        again = api.post(path_of("recipients"), {**body, "email": normalize("NFD", JOERG)})
        assert faults(again) == {"email": "This audience has a recipient with this e-mail address already."}

    def test_suppresses_and_finds(self, api: APIClient) -> None:
        answer = api.post(path_of("suppressions"), {"email": "ΟΔΟΣ@example.com"})
        assert (answer.status_code, answer.json()["email"]) == (201, "οδοσ@example.com")
        assert Suppression.objects.get().email == "οδοσ@example.com"
        assert faults(api.post(path_of("suppressions"), {"email": "οδοσ@example.com"})).keys() == {"email"}

    def test_queues_a_mail(self, api: APIClient) -> None:
        body = {"subject": "Hello", "body": "Hi", "recipient_list": ["Jörg <JÖRG@example.com>", JOERG]}
        assert api.post(path_of("emails"), body).status_code == 202
        assert list(OutboundRecipient.objects.values_list("name", "email")) == [("Jörg", JOERG)]


class TestAdmin:
    def test_takes_a_recipient_and_finds_it(self, audience: Audience) -> None:
        client = client_of(superuser())
        page = reverse("admin:campaigns_recipient_add")
        assert 'type="text" name="email"' in client.get(page).content.decode()
        fields = {"audience": audience.pk, "email": "JÖRG@example.com", "name": "", "timezone": ""}
        assert client.post(page, {**fields, "attributes": "{}"}).status_code == 302
        assert Recipient.objects.filter(email=JOERG).count() == 1
        found = client.get(
            reverse("admin:campaigns_recipient_changelist"), {"q": normalize("NFD", "Jörg@example.com")}
        )
        assert JOERG in found.content.decode()

    def test_takes_a_suppression(self, client: Client) -> None:
        client = client_of(superuser())
        page = reverse("admin:campaigns_suppression_add")
        assert client.post(page, {"email": "JÖRG@example.com", "reason": "manual"}).status_code == 302
        assert Suppression.objects.get().email == JOERG

    def test_takes_no_such_sender(self, campaign: Campaign) -> None:
        client = client_of(superuser())
        page = reverse("admin:campaigns_campaign_change", args=[campaign.pk])
        answer = client.post(page, {"from_email": JOERG})
        assert TestASender.WHY in answer.content.decode()


class TestSuppression:
    def test_is_one_whatever_the_case(self) -> None:
        first = suppress("ΟΔΟΣ@example.com", SuppressionReason.BOUNCE)
        assert suppress("οδοσ@EXAMPLE.com", SuppressionReason.MANUAL) == first
        assert of_single_mails(["ΟΔΟΣ@example.com"]) == {"οδοσ@example.com": "bounce"}


@pytest.mark.django_db(transaction=True)
class TestASingleMail:
    def test_goes_to_each_by_the_provider_that_takes_it(
        self, sendgrid: SendGridServer, smtp: SmtpServer, both_lines: Line
    ) -> None:
        mail = send_email("Hello", "Hi", ["Jörg <JÖRG@example.com>", "asha@example.com"])
        outbound.post(mail.id, owner="a test", line=both_lines)
        assert set(OutboundRecipient.objects.values_list("email", "status", "provider")) == {
            (JOERG, "sent", "smtp"),
            ("asha@example.com", "sent", "sendgrid"),
        }
        assert (sendgrid.recipients, smtp.recipients, smtp.utf8) == (["asha@example.com"], [JOERG], [JOERG])
        shown = f"To: =?utf-8?b?SsO2cmc=?=\r\n <{JOERG}>,\r\n asha@example.com\r\n"
        assert shown.encode() in smtp.accepted[0][1]

    def test_fails_for_the_one_and_leaves_for_the_other(self, old_smtp: SmtpServer, redis: Redis) -> None:
        mail = send_email("Hello", "Hi", [JOERG, "asha@example.com"])
        posted = outbound.post(mail.id, owner="a test", line=Line((smtp_of(old_smtp),), redis))
        assert posted == outbound.Posted(None)
        assert old_smtp.recipients == ["asha@example.com"]
        assert old_smtp.accepted[0][1].isascii()
        failed = OutboundRecipient.objects.get(email=JOERG)
        assert failed.reason == f"smtp: 127.0.0.1:{old_smtp.port} {OFFERS_NONE}"
        assert (failed.status, failed.attempts, failed.mail.status) == ("failed", 0, "failed")
        assert failed.mail.finished_at is not None

    def test_is_stopped_by_a_bounce(self, smtp: SmtpServer, smtp_line: Line) -> None:
        mail = send_email("Hello", "Hi", [JOERG, "asha@example.com"])
        suppress("JÖRG@example.com", SuppressionReason.BOUNCE)
        outbound.post(mail.id, owner="a test", line=smtp_line)
        assert smtp.recipients == ["asha@example.com"]
        assert OutboundRecipient.objects.get(email=JOERG).status == "suppressed"
