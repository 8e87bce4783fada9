"""Addresses with letters outside ASCII before the @-sign, over SMTP: RFC 6531 and RFC 6532."""

from datetime import UTC, datetime
from email import message_from_bytes, message_from_string
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTPUTF8, default
from typing import Any

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st

from campaigns.composing import Addressee, Letter, Part, PartKind, Sender, SingleMail, build_mime
from campaigns.providers import Verdict
from tests.letters import letter, message
from tests.mail_servers import smtp_server
from tests.scripted_smtp import scripted, send, smtp

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
JOERG = "jörg@xn--bcher-kva.example"
OFFERED = {"EHLO": "250-at your service\r\n250-8BITMIME\r\n250 SMTPUTF8"}
PIPELINED = {"EHLO": "250-at your service\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8"}


def is_address(text: str) -> bool:
    try:
        return validate_email(text, check_deliverability=False).normalized == text
    except EmailNotValidError:
        return False


# as they are stored; RFC 5322 has its specials quoted, which these are not
LOCALS = st.text(st.characters(exclude_categories=("C", "Z", "Lu", "Lt")), min_size=1, max_size=16)
ADDRESSES = LOCALS.map(lambda local: f"é{local}@example.com").filter(is_address)
NAMES = st.text(st.characters(categories=("L", "N")), max_size=9)  # one encoded word; longer ones elsewhere
SUBJECTS = st.lists(st.text(st.characters(exclude_categories=("C", "Z")), min_size=1), max_size=6).map(
    " ".join
)


def mail(*addressees: Addressee, **changes: Any) -> SingleMail:
    standard: dict[str, Any] = {
        "sender": Sender("desk@example.com", "Büro"),
        "addressees": addressees,
        "subject": "Grüße",
        "text": "text",
        "html": "",
        "message_id": "1@example.com",
        "written_at": NOW,
    }
    return SingleMail(**standard | changes)


def commands(lines: list[bytes]) -> list[str]:
    return [line.decode().removesuffix("\r\n") for line in lines]


class TestACampaignsMail:
    @given(address=ADDRESSES, name=NAMES, subject=SUBJECTS)
    def test_reads_like_the_one_that_the_standard_library_builds(
        self, address: str, name: str, subject: str
    ) -> None:
        to = letter(email=address, name=name, subject=subject)
        content = build_mime(message(subject="{{ subject }}", text="ü"), to, now=NOW)
        found = message_from_string(content.decode(), policy=SMTPUTF8)
        theirs = EmailMessage(policy=SMTPUTF8)
        theirs["Subject"] = subject
        theirs["To"] = Address(name, *address.rsplit("@", 1))
        (ours,), (wanted,) = found["To"].addresses, theirs["To"].addresses
        assert (ours.display_name, ours.addr_spec) == (wanted.display_name, wanted.addr_spec)
        assert str(found["Subject"]) == str(theirs["Subject"])
        assert found["Message-ID"] == "<1.stable@example.com>"
        assert found.defects == []

    def test_is_read_from_its_bytes(self) -> None:
        to = letter(email=JOERG, name="Jörg, Dr.")
        content = build_mime(message(text="ü"), to, now=NOW)
        found = message_from_bytes(content, policy=default)
        assert str(found["To"]) == f'"Jörg, Dr." <{JOERG}>'

    def test_differs_from_any_other_in_that_address_alone(self) -> None:
        compiled = message(subject="Grüße", html="<p>ü</p>", text="ü")
        here, there = (
            build_mime(compiled, letter(email=email, name="Jörg"), now=NOW)
            for email in (JOERG, "joerg@example.com")
        )
        assert here == there.replace(b"joerg@example.com", JOERG.encode())
        assert there.isascii()

    @pytest.mark.parametrize("local", ["ä\u2028Bcc:x", "ä\x85x", "ä x", "ä>x", "ä,x", "ä\r\nBcc:x"])
    def test_has_no_address_that_could_end_its_line(self, local: str) -> None:
        with pytest.raises(ValueError, match="is not an address"):
            build_mime(message(), letter(email=f"{local}@example.com"), now=NOW)

    def test_has_no_such_sender(self) -> None:
        with pytest.raises(ValueError, match=r"From: .* is not an address of ASCII"):
            build_mime(message(sender=Sender(JOERG)), letter(), now=NOW)


class TestASingleMail:
    JOERG = Addressee(1, "to", "Jörg, Dr.", JOERG)
    ASHA = Addressee(2, "to", "Asha", "asha@example.com")

    def test_shows_the_address_to_those_whose_mail_needs_smtputf8(self) -> None:
        single = mail(self.JOERG, self.ASHA)
        to_joerg, _ = single.letters([1, 2])
        found = message_from_string(single.content_for(to_joerg).decode(), policy=SMTPUTF8)
        assert [each.addr_spec for each in found["To"].addresses] == [JOERG, "asha@example.com"]

    def test_shows_the_others_a_name_without_an_address(self) -> None:
        single = mail(self.JOERG, self.ASHA)
        _, to_asha = single.letters([1, 2])
        content = single.content_for(to_asha)
        assert content.isascii()
        found = message_from_bytes(content, policy=default)
        assert [each.addr_spec for each in found["To"].addresses] == ["asha@example.com"]
        assert [group.display_name for group in found["To"].groups] == [f"Jörg, Dr. {JOERG}", None]
        assert [*found["To"].defects, *found.defects] == []

    def test_is_as_ever_where_no_address_is_outside_ascii(self) -> None:
        single = mail(self.ASHA)
        assert single.content_for(single.letters([2])[0]) is single.content
        assert single.content == single.utf8_content

    def test_never_names_the_hidden(self) -> None:
        single = mail(self.ASHA, Addressee(3, "bcc", "Jörg", JOERG))
        assert single.content == single.utf8_content
        assert b"xn--bcher-kva" not in single.content


class TestWhereTheServerOffersIt:
    @pytest.mark.parametrize("offered", [OFFERED, PIPELINED], ids=["one by one", "pipelined"])
    def test_only_the_mail_that_needs_it_asks_for_it(self, offered: dict[str, str]) -> None:
        group = [letter(1), letter(2, email=JOERG), letter(3)]
        with scripted(**offered) as server:
            sending = send(smtp(server.port), *group)
        assert [outcome.verdict for outcome in sending.outcomes] == [Verdict.ACCEPTED] * 3
        assert commands(server.lines)[1:] == [
            "MAIL FROM:<news@example.com>",
            "RCPT TO:<reader1@example.com>",
            "DATA",
            "MAIL FROM:<news@example.com> SMTPUTF8",
            f"RCPT TO:<{JOERG}>",
            "DATA",
            "MAIL FROM:<news@example.com>",
            "RCPT TO:<reader3@example.com>",
            "DATA",
            "QUIT",
        ]
        assert [content.isascii() for content in server.contents] == [True, False, True]
        assert f"\r\nTo: {JOERG}\r\n".encode() in server.contents[1]

    def test_the_body_is_called_eight_bit_where_it_is(self) -> None:
        forwarded = b"Content-Type: message/rfc822\r\n\r\nSubject: Gr\xc3\xbc\xc3\x9fe\r\n\r\n."
        whole = Part(PartKind.WHOLE, "message/rfc822", forwarded)
        with scripted(**OFFERED) as server:
            for single in (
                mail(Addressee(1, "to", "", JOERG)),
                mail(Addressee(1, "to", "", JOERG), parts=(whole,)),
            ):
                with smtp(server.port) as provider:
                    provider.send(single, single.letters([1]), still_ours=lambda: True)
        assert [line for line in commands(server.lines) if line.startswith("MAIL")] == [
            "MAIL FROM:<desk@example.com> SMTPUTF8",
            "MAIL FROM:<desk@example.com> SMTPUTF8 BODY=8BITMIME",
        ]

    def test_a_real_server_takes_it(self) -> None:
        with smtp_server(enable_SMTPUTF8=True) as server:
            sending = send(smtp(server.port), letter(1), letter(2, email=JOERG))
        assert [outcome.verdict for outcome in sending.outcomes] == [Verdict.ACCEPTED] * 2
        assert (server.recipients, server.utf8) == (["reader1@example.com", JOERG], [JOERG])
        assert f"To: {JOERG}\r\n".encode() in server.accepted[1][1]

    def test_an_address_that_is_refused_fails_as_any_other(self) -> None:
        with smtp_server(enable_SMTPUTF8=True) as server:
            server.rcpt[JOERG] = "550 5.1.1 no such user"
            sending = send(smtp(server.port), letter(1, email=JOERG), letter(2))
        assert [outcome.verdict for outcome in sending.outcomes] == [Verdict.REFUSED, Verdict.ACCEPTED]


class TestWhereItDoesNot:
    NEEDS_IT = letter(2, email=JOERG)

    def test_says_so_once_it_is_open(self) -> None:
        with smtp_server(enable_SMTPUTF8=False) as server, smtp(server.port) as provider:
            why = provider.declines(self.NEEDS_IT)
            assert provider.declines(letter()) == ""
        assert why == (
            f"smtp: 127.0.0.1:{server.port} offers no SMTPUTF8 (RFC 6531), which an address with letters "
            "outside ASCII needs"
        )

    def test_says_nothing_before(self) -> None:
        assert smtp(1).declines(self.NEEDS_IT) == ""

    def test_a_server_that_offers_it_declines_none(self) -> None:
        with smtp_server(enable_SMTPUTF8=True) as server, smtp(server.port) as provider:
            assert provider.declines(self.NEEDS_IT) == ""

    @pytest.mark.parametrize("pipelining", [{}, {"EHLO": "250-at your service\r\n250 PIPELINING"}])
    def test_what_is_given_to_it_nevertheless_waits_and_holds_up_nobody(
        self, pipelining: dict[str, str]
    ) -> None:
        with scripted(**pipelining) as server:
            sending = send(smtp(server.port), letter(1), self.NEEDS_IT, letter(3))
        assert [outcome.verdict for outcome in sending.outcomes] == [
            Verdict.ACCEPTED,
            Verdict.DEFERRED,
            Verdict.ACCEPTED,
        ]
        assert [line for line in commands(server.lines) if line.startswith("RCPT")] == [
            "RCPT TO:<reader1@example.com>",
            "RCPT TO:<reader3@example.com>",
        ]
        assert all(line.isascii() for line in [*server.lines, *server.contents])


def test_every_letter_whose_address_is_ascii_can_do_without() -> None:
    assert not Letter(1, "asha@xn--bcher-kva.example", "Jörg", "1@example.com", {}).needs_smtputf8
