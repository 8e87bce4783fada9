"""The mail as bytes: what a reader gets back, and that no value escapes from its place."""

import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from email import message_from_bytes
from email.header import decode_header, make_header
from email.headerregistry import AddressHeader
from email.message import EmailMessage
from email.policy import default
from typing import cast
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.composing import CompiledMessage, Letter, Rendered, Sender, build_mime
from campaigns.composing.headers import line_field, single_line, token_field
from tests.letters import letter, letters, message

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
ATTACKS = [
    "a\r\nBcc: x@example.com",
    "a\nBcc: x@example.com",
    "a\rb",
    "a\0b",
    "a\u2028b",
    "a\u2029b",
    "a\x85b",
]
NAMES = [
    "",
    "Ana",
    "Müller, Ana",
    'O"Neil',
    "back\\slash",
    "a <b@c.d>",
    "日本語",
    "=?utf-8?q?not?=",
    "(x)",
    "é; ü",
]

anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)
awkward = st.text('ab ,"\\=?é日😀;:<>@()_.\t\r\n', max_size=120)


def sent(compiled: CompiledMessage, to: Letter) -> EmailMessage:
    """Build a mail, hold it to the rules for its bytes, and read it back."""
    content = build_mime(compiled, to, now=NOW)
    assert content.isascii()
    lines = content.split(b"\r\n")
    assert all(len(line) <= 998 and b"\r" not in line and b"\n" not in line for line in lines)
    mail = message_from_bytes(content, policy=default)
    assert isinstance(mail, EmailMessage)
    assert mail.defects == []
    return mail


def part(mail: EmailMessage, kind: str) -> str:
    body = mail.get_body((kind,))
    assert body is not None
    return str(body.get_content())


def mailbox(mail: EmailMessage, field: str) -> tuple[str, str]:
    (address,) = cast(AddressHeader, mail[field]).addresses
    return address.display_name, address.addr_spec


def lines_of(text: str) -> list[str]:
    """Return what a mail keeps of a text: its lines, not which characters ended them."""
    return re.split("\r\n|\r|\n", text)


class TestAMail:
    def test_carries_the_text_and_the_html_as_rendered(self) -> None:
        compiled = message(html="<p>{{ name }}, ü</p>\n.\nFrom me \n", text=".{{ name }}\n..\nFrom me \t\n")
        mail = sent(compiled, letter(name="日本"))
        assert mail.get_content_type() == "multipart/alternative"
        assert [body.get_content_type() for body in mail.iter_parts()] == ["text/plain", "text/html"]
        assert lines_of(part(mail, "plain")) == [".日本", "..", "From me \t", ""]
        assert lines_of(part(mail, "html")) == ["<p>日本, ü</p>", ".", "From me ", ""]

    def test_is_one_part_without_html(self) -> None:
        mail = sent(message(text="ü\n"), letter())
        assert mail.get_content_type() == "text/plain"
        assert lines_of(part(mail, "plain")) == ["ü", ""]

    def test_may_have_an_empty_text(self) -> None:
        mail = sent(message(subject="{{ x }}", html="{{ x }}<br>", text="{{ x }}"), letter())
        assert (part(mail, "plain"), part(mail, "html"), mail["Subject"]) == ("", "<br>", "")

    def test_has_each_field_once(self) -> None:
        sender = Sender("news@example.com", "Nachrichten für alle", "answers@example.com")
        mail = sent(message(sender=sender), letter(7, name="Ana", unsubscribe_url="https://example.com/u/7"))
        assert dict(mail.items()) == {
            "Subject": "Hello Ana",
            "From": "Nachrichten für alle <news@example.com>",
            "To": "Ana <reader7@example.com>",
            "Reply-To": "answers@example.com",
            "Date": "Sun, 22 Nov 2026 03:00:00 +0000",
            "Message-ID": "<7.stable@example.com>",
            "List-Unsubscribe": "<https://example.com/u/7>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            "MIME-Version": "1.0",
            "Content-Type": 'text/plain; charset="utf-8"',
            "Content-Transfer-Encoding": "quoted-printable",
        }
        assert len(mail.items()) == 11

    def test_keeps_a_long_unsubscribe_address_in_one_piece(self) -> None:
        address = "https://mail.example.com/u/" + "a1B2" * 100
        content = build_mime(message(), letter(unsubscribe_url=address), now=NOW)
        assert f"\r\nList-Unsubscribe: <{address}>\r\n".encode() in content

    def test_is_dated_to_the_second_in_the_zone_of_its_moment(self) -> None:
        moment = datetime(2026, 11, 22, 3, 0, 59, 999_999, tzinfo=UTC)
        for zone, date in ((UTC, "03:00:59 +0000"), (ZoneInfo("Asia/Kolkata"), "08:30:59 +0530")):
            content = build_mime(message(), letter(), now=moment.astimezone(zone))
            assert f"\r\nDate: Sun, 22 Nov 2026 {date}\r\n".encode() in content

    def test_offers_one_click_only_over_https(self) -> None:
        mail = sent(message(), letter(unsubscribe_url="http://example.com/u/7"))
        assert mail["List-Unsubscribe"] == "<http://example.com/u/7>"
        assert "List-Unsubscribe-Post" not in mail

    @pytest.mark.parametrize(
        "address", ["", "nope", "@", "a@", "a b@c.d", "a@b@c.d", "ü\u2028@c.d", "a@ü.d", "a@b>\r\nX: y"]
    )
    def test_is_not_written_to_what_is_no_address(self, address: str) -> None:
        to = Letter(1, address, "", "1@example.com", {})
        with pytest.raises(ValueError, match=re.escape(f"To: {address!r} is not an address")):
            build_mime(message(), to, now=NOW)


class TestHeaders:
    @pytest.mark.parametrize("value", ATTACKS)
    def test_keep_line_breaks_and_control_characters_out(self, value: str) -> None:
        clean = re.sub("[\0\r\n\u2028\u2029\x85]", " ", value)
        compiled = message(subject="{{ name }}", sender=Sender("news@example.com", value))
        mail = sent(compiled, letter(name=value))
        assert mail["Subject"] == clean
        in_names = " ".join(clean.split())
        assert mailbox(mail, "From") == (in_names, "news@example.com")
        assert mailbox(mail, "To") == (in_names, "reader1@example.com")
        assert "Bcc" not in mail
        assert len(mail.items()) == 8

    @pytest.mark.parametrize(
        "subject",
        [
            "x" * 2000,
            "ab " * 667,
            "é" * 2000,
            "日本 語" * 500,
            " led and trailed ",
            "two  blanks",
            "=?utf-8?q?x?=",
            "a" * 70 + " é",
        ],
    )
    def test_give_a_subject_back(self, subject: str) -> None:
        assert sent(message(subject="{{ s }}"), letter(s=subject))["Subject"] == subject

    @pytest.mark.parametrize("name", NAMES)
    def test_give_names_back(self, name: str) -> None:
        mail = sent(message(sender=Sender("news@example.com", name)), letter(name=name))
        assert mailbox(mail, "From") == (name, "news@example.com")
        assert mailbox(mail, "To") == (name, "reader1@example.com")

    def test_never_make_two_recipients_of_a_long_name_with_commas(self) -> None:
        name = "a,b" * 60
        assert mailbox(sent(message(), letter(name=name)), "To") == (name, "reader1@example.com")

    def test_give_a_long_name_outside_ascii_back(self) -> None:
        name = "Überlänge mit Äpfeln " * 20 + "日本語"
        content = build_mime(message(), letter(name=name), now=NOW)
        # CPython 3.11 puts blanks between the encoded words of a name; decode_header follows RFC 2047 §6.2
        field = str(make_header(decode_header(message_from_bytes(content)["To"])))
        assert re.sub(r"\s+<", " <", field) == f"{name} <reader1@example.com>"


class TestFields:
    def test_replace_what_would_end_a_line_or_controls_and_nothing_else(self) -> None:
        replaced = {point for point in range(sys.maxunicode + 1) if single_line(chr(point)) != chr(point)}
        assert replaced == {*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029}
        assert single_line("a\x00\nb\u2028") == "a  b "

    def test_take_tokens_of_printable_ascii(self) -> None:
        assert {point for point in range(0x3001) if takes(token_field, chr(point))} == {*range(0x21, 0x7F)}
        assert takes(token_field, "x" * 900)
        for value in ("", "a b", "a ", "x" * 901):
            assert not takes(token_field, value)

    def test_take_lines_of_printable_ascii_with_blanks_inside(self) -> None:
        inside = {point for point in range(0x3001) if takes(line_field, f"a{chr(point)}b")}
        assert inside == {*range(0x20, 0x7F)}
        for value in ("", " ", " a", "a ", "x" * 901):
            assert not takes(line_field, value)


def takes(field: Callable[[str, str], str], value: str) -> bool:
    try:
        return field("X-Field", value) == f"X-Field: {value}"
    except ValueError:
        return False


@given(subject=anything | awkward, name=awkward, text=anything | awkward, value=anything | awkward)
def test_every_mail_says_what_was_rendered(subject: str, name: str, text: str, value: str) -> None:
    compiled = message(subject="{{ s }}!", html="<p>{{ v }}</p>", text="{{ t }}{% if v %}{{ v }}{% endif %}")
    to = letter(name=name, s=subject, t=text, v=value)
    mail, rendered = sent(compiled, to), Rendered.of(compiled, to)
    assert mail["Subject"] == rendered.subject
    assert lines_of(part(mail, "plain")) == lines_of(rendered.text)
    assert lines_of(part(mail, "html")) == lines_of(rendered.html)
    assert len(cast(AddressHeader, mail["To"]).addresses) == 1
    assert mailbox(mail, "To")[1] == "reader1@example.com"
    assert len(mail.items()) == 7


def test_no_recipients_value_is_in_anothers_mail() -> None:
    compiled = message(subject="{{ secret }}", html="<b>{{ secret }}</b>", text="{{ secret }}")
    for number, to in enumerate(letters(1000)):
        to.context["secret"] = f"secret-{number}-"
        content = build_mime(compiled, to, now=NOW).decode()
        assert set(re.findall("secret-[0-9]+-", content)) == {f"secret-{number}-"}
        assert set(re.findall("reader[0-9]+@", content)) == {f"reader{number + 1}@"}
