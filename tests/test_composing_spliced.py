"""The spliced bytes say what a message of the standard library says, and are fit for SMTP as they are."""

import re
from binascii import a2b_qp
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP, default
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from campaigns.composing import Letter, Rendered, build_mime, mime_pieces, quoted_printable
from campaigns.composing.quoted_printable import Spliced, is_empty, quoted
from tests.letters import letter, message

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)

values = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.text("a =.\t\r\nFrom é日😀", max_size=160),
    st.sampled_from(["From me", "From ", ".", "..", " ", "\r", "\n", "\r\n", "\t\n", "=", "=\r\n", "a" * 76]),
    st.integers(60, 90).map("x".__mul__),
    st.integers(60, 90).map(" ".__mul__),
    st.integers(60, 90).map(".".__mul__),
)
words = st.one_of(
    st.text("ab .=\t\n<>&éF日From", max_size=12),
    st.integers(65, 80).map("y".__mul__),
    st.integers(65, 80).map(lambda length: "z" * length + " "),
)
names = st.sampled_from(["a", "b", "c"])
constructs = st.one_of(
    words,
    names.map("{{{{ {} }}}}".format),
    names.map("{{{{ {}|default('none') }}}}".format),
    st.tuples(names, words).map(
        lambda pair: f"{{% if {pair[0]} %}}{pair[1]}{{{{ {pair[0]} }}}}{{% endif %}}"
    ),
    words.map(lambda word: f"{{% for i in l %}}{word}{{{{ i }}}}{{% else %}}.{{% endfor %}}"),
)
templates = st.lists(constructs, max_size=8).map("".join)
contexts = st.fixed_dictionaries(
    {}, optional={"a": values, "b": values, "c": values, "l": st.lists(values, max_size=3)}
)


def body(mail: EmailMessage, kind: str) -> list[str]:
    """The lines of one part; a mail's last line ends with a line end, whether the text's does or not."""
    part = mail.get_body((kind,))
    return [] if part is None else lines_of(str(part.get_content()))


def lines_of(text: str) -> list[str]:
    return re.sub("\r\n|\r", "\n", text).removesuffix("\n").split("\n")


def built_by_the_standard_library(rendered: Rendered) -> EmailMessage:
    mail = EmailMessage(SMTP)
    mail.set_content(rendered.text, cte="quoted-printable")
    if rendered.html:
        mail.add_alternative(rendered.html, subtype="html", cte="quoted-printable")
    return parsed(mail.as_bytes())


def parsed(content: bytes) -> EmailMessage:
    mail = message_from_bytes(content, policy=default)
    assert isinstance(mail, EmailMessage)
    assert mail.defects == []
    return mail


def assert_fit_for_smtp(content: bytes) -> None:
    assert content.isascii()
    assert content.endswith(b"\r\n")
    head, _, rest = content.partition(b"\r\n\r\n")
    assert max(map(len, head.split(b"\r\n"))) <= 998
    for line in rest.split(b"\r\n"):
        assert len(line) <= 76
        assert not line.startswith((b".", b"From "))
        assert not re.search(rb"[\r\n\0]|[ \t]$", line)


@settings(deadline=None, max_examples=300)
@given(templates, templates, templates, contexts)
@example("{{ a }}", "", "{{ a }}\n{{ b }}", {"a": "x\r", "b": "\ny"})
@example("{{ a }}", "<p>{{ a }}</p>", "{{ a }}{{ b }}.", {"a": "x" * 75, "b": "\r\n"})
@example("s", "{{ a }}{{ b }}", "-", {})
@example("s", "{{ a }}", ".\nFrom {{ b }}\n.", {"a": " "})
def test_a_mail_says_what_the_standard_library_would_say(
    subject: str, html: str, text: str, context: dict[str, Any]
) -> None:
    compiled, to = message(subject=subject, html=html, text=text or "-"), letter(**context)
    rendered = Rendered.of(compiled, to)
    content = build_mime(compiled, to, now=NOW)
    assert_fit_for_smtp(content)
    mail, meant = parsed(content), built_by_the_standard_library(rendered)
    assert mail["Subject"] == rendered.subject
    assert body(mail, "plain") == body(meant, "plain") == lines_of(rendered.text)
    assert body(mail, "html") == body(meant, "html")
    assert mail.get_content_type() == meant.get_content_type()
    assert len(mail.items()) == (7 if rendered.html else 8)


@given(st.lists(values | words, max_size=6))
def test_any_text_comes_back_from_its_lines(pieces: list[str]) -> None:
    text = re.sub("\r\n?", "\n", "".join(pieces))
    encoded = quoted(text)
    assert all(len(line) <= 76 for line in encoded.split(b"\r\n"))
    mail = parsed(
        b"Content-Transfer-Encoding: quoted-printable\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
        + encoded
    )
    assert re.sub("\r\n", "\n", str(mail.get_content())) == text


class TestQuoted:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", b""),
            ("a=b", b"a=3Db"),
            ("a \nb\t\n\n", b"a=20\r\nb=09\r\n\r\n"),
            (".\n..\n.a", b"=2E\r\n=2E.\r\n=2Ea"),
            ("From here\nnot From there\nFromage", b"=46rom here\r\nnot From there\r\nFromage"),
            ("é", b"=C3=A9"),
            ("x" * 75, b"x" * 75),
            ("x" * 76, b"x" * 75 + b"=\r\nx"),
            ("x" * 75 + ".", b"x" * 75 + b"=\r\n=2E"),
            ("x" * 74 + "=", b"x" * 74 + b"=\r\n=3D"),
            ("x" * 75 + " ", b"x" * 75 + b"=\r\n=20"),
            (" " * 77, b" " * 75 + b"=\r\n =20"),
            ("." * 75, b"=2E" + b"." * 72 + b"=\r\n=2E."),
            ("\0\x7f", b"=00=7F"),
        ],
    )
    def test_escapes_and_wraps(self, text: str, expected: bytes) -> None:
        assert quoted(text) == expected


def filled(template: str, **context: Any) -> bytes:
    (lines,) = Spliced(message(text=template).text.pieces).fill(context)
    return b"".join(lines)


class TestSpliced:
    def test_begins_each_slot_on_a_line_of_its_own(self) -> None:
        content = filled("Dear {{ a }}{{ b }},\n{{ a }}\n", a="Ana", b=".")
        assert content == b"Dear=20=\r\nAna=\r\n=2E=\r\n,\r\nAna\r\n"

    def test_is_empty_where_no_slot_says_anything(self) -> None:
        assert is_empty(filled("{{ a }}{{ b }}"))
        assert not is_empty(filled("{{ a }}{{ b }}", a="\n"))

    def test_keeps_a_line_end_within_a_value_apart_from_the_templates(self) -> None:
        assert filled("{{ a }}\n-", a="x\r") == b"x\r\n\r\n-"

    @given(values, values)
    def test_says_a_field_at_each_of_its_places_as_each_part_has_it(self, a: str, b: str) -> None:
        compiled = message(text="{{ a }}-{{ b }}{{ a }}", html="{{ b }}<{{ a }}>{{ a|upper }}")
        assert compiled.html is not None
        context = {"a": a, "b": b}
        text, html = Spliced(compiled.text.pieces, compiled.html.pieces).fill(context)
        assert lines(text) == compiled.text.render(context)
        assert lines(html) == compiled.html.render(context)

    def test_shares_what_is_the_same_for_everybody(self) -> None:
        compiled = message(text="Dear {{ a }},\nwelcome.", html="<p>{{ a }}{{ a|upper }}</p>")
        mails = [mime_pieces(compiled, letter(a=a), now=NOW) for a in ("Ana", "Bo")]
        different = [one for one, other in zip(*mails, strict=True) if one is not other]
        assert different[1:] == [b"Ana", b"Ana", b"ANA"]
        assert b"To: reader1@example.com" in different[0]


def lines(pieces: list[bytes]) -> str:
    """Read quoted-printable lines back."""
    return a2b_qp(b"".join(pieces)).decode().replace("\r\n", "\n")


def test_encodes_what_is_the_same_for_everybody_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []

    def note(text: str) -> bytes:
        encoded.append(text)
        return quoted(text)

    monkeypatch.setattr(quoted_printable, "quoted", note)
    compiled = message(html="<p>ü{{ name }}</p>", text="ü{{ name }}")
    for number in range(3):
        build_mime(compiled, letter(number, name="é"), now=NOW)
    assert encoded == ["ü", "<p>ü", "</p>", *["é"] * 6]


def test_a_letter_with_half_a_surrogate_pair_is_refused() -> None:
    to = Letter(1, "a@example.com", "", "1@example.com", {"name": "\ud800"})
    with pytest.raises(ValueError, match="surrogates not allowed"):
        build_mime(message(), to, now=NOW)
