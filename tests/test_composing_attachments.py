"""Files that go with a mail: what a reader gets back, on both paths; encoded once."""

from base64 import b64decode
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import pytest

from campaigns.composing import (
    Attachment,
    CompiledMessage,
    build_mime,
    check_attachment_name,
    compile_message,
    request_for_all,
    request_for_one,
)
from tests.letters import SENDER, letter, letters
from tests.test_composing_sendgrid import received
from tests.test_composing_spliced import assert_fit_for_smtp

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
FILES = (
    Attachment("report.pdf", bytes(range(256)) * 40),
    Attachment("Übersicht 日本.csv", "a;b\n.\nFrom é".encode()),
    Attachment("one.bin", b"\0"),
    Attachment("forwarded.eml", b"Subject: x\r\n\r\ny"),
    Attachment("archive.tar.gz", b"--=_mixed--\r\n.\r\n"),
)


def with_files(*files: Attachment, html: str = "<p>{{ name }}</p>") -> CompiledMessage:
    return compile_message(SENDER, subject="s", html=html, text="Dear {{ name }}", attachments=files)


def read(compiled: CompiledMessage, name: str = "Ana") -> EmailMessage:
    content = build_mime(compiled, letter(name=name), now=NOW)
    assert_fit_for_smtp(content)
    mail = message_from_bytes(content, policy=default)
    assert isinstance(mail, EmailMessage)
    assert [part.defects for part in mail.walk()] == [[] for _ in mail.walk()]
    return mail


class TestAMail:
    @pytest.mark.parametrize("html", ["<p>{{ name }}</p>", "", "{{ missing }}"])
    def test_gives_the_files_back_beside_its_text(self, html: str) -> None:
        mail = read(with_files(*FILES, html=html))
        assert mail.get_content_type() == "multipart/mixed"
        attached = list(mail.iter_attachments())
        assert [(part.get_filename(), part.get_content_type()) for part in attached] == [
            ("report.pdf", "application/pdf"),
            ("Übersicht 日本.csv", "text/csv"),
            ("one.bin", "application/octet-stream"),
            ("forwarded.eml", "application/octet-stream"),
            ("archive.tar.gz", "application/octet-stream"),
        ]
        assert [part.get_payload(decode=True) for part in attached] == [file.content for file in FILES]
        body = mail.get_body(("plain",))
        assert body is not None
        assert body.get_content().strip() == "Dear Ana"
        shown = mail.get_body(("html",))
        assert (shown is not None) == (html == "<p>{{ name }}</p>")

    def test_is_read_by_the_standard_library_as_its_own(self) -> None:
        own = EmailMessage()
        own.set_content("Dear Ana")
        own.add_alternative("<p>Ana</p>", subtype="html")
        own.add_attachment(FILES[0].content, maintype="application", subtype="pdf", filename="report.pdf")
        kinds = [
            [part.get_content_type() for part in mail.walk()] for mail in (own, read(with_files(FILES[0])))
        ]
        assert kinds[0] == kinds[1]

    def test_shares_the_encoded_files_with_the_next(self) -> None:
        compiled = with_files(Attachment("a.bin", b"x" * 3_000_000))
        first, second = (build_mime(compiled, each, now=NOW) for each in letters(2))
        assert first[-4_000_000:] == second[-4_000_000:]
        assert len(first) < 4_110_000


class TestARequest:
    def test_has_the_files_once_for_all(self) -> None:
        compiled = with_files(*FILES)
        for request in (request_for_all(compiled, letters(3)), request_for_one(compiled, letter())):
            files = received(request)["attachments"]
            assert [file["filename"] for file in files] == [file.name for file in FILES]
            assert [b64decode(file["content"]) for file in files] == [file.content for file in FILES]
            assert {file["disposition"] for file in files} == {"attachment"}

    def test_has_none_where_there_are_none(self) -> None:
        assert "attachments" not in request_for_one(with_files(), letter())


@pytest.mark.parametrize(
    "name",
    ["", "x" * 101, "a/b", "a\\b", 'a"b', "a\r\nb", "a\0b", "..", ".a", "a.", " a", "a\u202eb", "\ud800"],
)
def test_a_name_that_cannot_be_written_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^A file's name has "):
        check_attachment_name(name)


def test_other_names_are_taken() -> None:
    for name in (
        "a",
        "a b.pdf",
        "Übersicht (1), final.pdf",
        "日" * 100,
        "😀" * 100,
        "a" * 100,
        "a;b='c'.txt",
        "a%20b",
    ):
        check_attachment_name(name)
        (attached,) = read(with_files(Attachment(name, b"x"))).iter_attachments()
        assert attached.get_filename() == name
