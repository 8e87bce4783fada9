"""A single mail as bytes says what was asked for, whatever that is; as a request, too."""

from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP, default
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from campaigns.composing import Addressee, Part, PartKind, Sender, SingleMail

# what may stand in a header: no control characters, which are refused, nor blanks that its folding may eat
LETTERS = st.characters(exclude_categories=("C", "Z"))
WORDS = st.lists(st.text(LETTERS, min_size=1, max_size=30), max_size=12).map(" ".join)
TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.just("\n"), max_size=400)
NAMES = st.lists(WORDS, min_size=1, max_size=4)


def mail(**changes: Any) -> SingleMail:
    standard: dict[str, Any] = {
        "sender": Sender("desk@example.com", "The Desk"),
        "addressees": (Addressee(1, "to", "", "asha@example.com"),),
        "subject": "Hello",
        "text": "text",
        "html": "",
        "message_id": "1@example.com",
        "written_at": datetime(2026, 5, 4, 9, 0, tzinfo=UTC),
    }
    return SingleMail(**standard | changes)


def parsed(single: SingleMail) -> EmailMessage:
    """Read what a server stores: SMTP has undoubled the dots that begin a line (RFC 5321 §4.5.2)."""
    stored = single.content.replace(b"\r\n..", b"\r\n.")
    return message_from_bytes(stored.replace(b"\r\n", b"\n"), policy=default)


class TestBytes:
    @given(subject=WORDS, text=TEXTS, html=TEXTS)
    def test_hold_the_texts_as_they_are(self, subject: str, text: str, html: str) -> None:
        found = parsed(mail(subject=subject, text=text, html=html))
        assert str(found["Subject"] or "") == subject
        plain, rich = found.get_body(("plain",)), found.get_body(("html",))
        if text or not html:
            assert plain is not None
            assert plain.get_content().removesuffix("\n") == text.removesuffix("\n")
        if html:
            assert rich is not None
            assert rich.get_content().removesuffix("\n") == html.removesuffix("\n")

    @given(names=NAMES)
    def test_name_every_recipient_once(self, names: list[str]) -> None:
        people = tuple(Addressee(n, "cc", name, f"p{n}@example.com") for n, name in enumerate(names))
        found = parsed(mail(addressees=people))["Cc"].addresses
        assert [each.addr_spec for each in found] == [each.email for each in people]
        # the standard library's reader drops a quote that stands alone, and knows no encoded words in quotes
        plain = [n for n, name in enumerate(names) if name.isascii() and not set('"\\=') & set(name)]
        assert [found[n].display_name for n in plain] == [names[n] for n in plain]

    @given(subject=WORDS, text=TEXTS, names=NAMES)
    def test_have_lines_that_every_server_takes(self, subject: str, text: str, names: list[str]) -> None:
        people = tuple(Addressee(n, "to", name, f"p{n}@example.com") for n, name in enumerate(names))
        content = mail(subject=subject, text=text, addressees=people).content
        assert content.isascii()
        assert content.endswith(b"\r\n")
        lines = content.split(b"\r\n")
        assert all(len(line) <= 998 and b"\n" not in line and b"\r" not in line for line in lines)
        assert not any(line.startswith(b".") for line in lines)

    def test_carry_a_forwarded_mail_with_its_dots_doubled(self) -> None:
        forwarded = EmailMessage()
        forwarded["Subject"] = "the first"
        forwarded.set_content(".one\n..two\n")
        whole = b"Content-Type: message/rfc822\r\n\r\n" + forwarded.as_bytes(policy=SMTP)
        single = mail(parts=(Part(PartKind.WHOLE, "message/rfc822", whole),))
        assert b"\r\n..one\r\n...two" in single.content
        inner = list(parsed(single).walk())[-1]
        assert inner.get_content() == ".one\n..two\n"

    def test_never_name_the_hidden(self) -> None:
        seen, hidden = (
            Addressee(1, "to", "", "a@example.com"),
            Addressee(2, "bcc", "Secret", "hidden@example.com"),
        )
        people = (seen, hidden)
        content = mail(addressees=people).content
        assert b"hidden" not in content
        assert b"Secret" not in content


class TestRequest:
    def test_leaves_out_those_who_are_not_in_the_group(self) -> None:
        people = tuple(Addressee(n, "to", "", f"p{n}@example.com") for n in range(3))
        single = mail(addressees=people)
        (together,) = single.request(single.letters([0, 2]))["personalizations"]
        assert [each["email"] for each in together["to"]] == ["p0@example.com", "p2@example.com"]

    def test_shows_pictures_inline(self) -> None:
        parts = (
            Part(PartKind.INLINE, "image/png", b"png", "p.png", "pic"),
            Part(PartKind.ALTERNATIVE, "text/calendar; method=REQUEST", b"BEGIN:VCALENDAR"),
        )
        single = mail(html="<img src='cid:pic'>", parts=parts)
        request = single.request(single.letters([1]))
        assert request["attachments"] == [
            {
                "content": "cG5n",
                "type": "image/png",
                "filename": "p.png",
                "disposition": "inline",
                "content_id": "pic",
            }
        ]
        assert [each["type"] for each in request["content"]] == [
            "text/plain",
            "text/html",
            "text/calendar; method=REQUEST",
        ]
