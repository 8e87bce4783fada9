"""HTML made ready: styles written into tags, links marked, a preheader; and all else letter for letter."""

import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns.composing import TemplateRefused, prepare_html, tags
from campaigns.composing.plain_text import plain_text_template
from tests.letters import message

RED = "<style>.a { color: red }</style>"
UTM = {"utm_source": "news"}


def inlined(html: str) -> str:
    """What becomes of `html` behind a style sheet that makes the class `a` red."""
    prepared = prepare_html(RED + html)
    assert prepared.startswith(RED)
    return prepared.removeprefix(RED)


def linked(html: str, **parameters: str) -> str:
    return prepare_html(html, link_parameters=parameters or UTM)


class TestStyles:
    @pytest.mark.parametrize(
        ("html", "expected"),
        [
            ("<p class=a>x</p>", '<p style="color: red" class=a>x</p>'),
            ("<P CLASS='a b'>x", "<P style=\"color: red\" CLASS='a b'>x"),
            ("<img class=a src=x />", '<img style="color: red" class=a src=x />'),
            ("<p class=a style='margin: 0'>", '<p class=a style="color: red;margin: 0">'),
            ("<p class=a style=margin:0>", '<p class=a style="color: red;margin: 0">'),
            ('<p class="a" style="color: blue">', '<p class="a" style="color: blue">'),
            ("<!--[if mso]><p class=a><![endif]--><b>", "<!--[if mso]><p class=a><![endif]--><b>"),
            ("<p title='class=a'>&lt;p class=a>", "<p title='class=a'>&lt;p class=a>"),
            ("<title><p class=a></title>", "<title><p class=a></title>"),
            ("<p data-css-inline=ignore class=a>", "<p data-css-inline=ignore class=a>"),
            ("1 < 2 <3 </ <!", "1 < 2 <3 </ <!"),
        ],
    )
    def test_are_written_into_the_tags(self, html: str, expected: str) -> None:
        assert inlined(html) == expected

    @pytest.mark.parametrize(
        ("html", "expected"),
        [
            (
                "<table>{% for i in l %}<tr class=a><td>{{ i }}{% endfor %}</table>",
                '<table>{% for i in l %}<tr style="color: red" class=a><td>{{ i }}{% endfor %}</table>',
            ),
            (
                "{% if x %}<div class=a>{% else %}<div>{% endif %}y</div>",
                '{% if x %}<div style="color: red" class=a>{% else %}<div>{% endif %}y</div>',
            ),
            (
                '<p class="a {{ k }}" id="{{ \'"\' }}">{{ x|default("<p class=a>") }}',
                '<p style="color: red" class="a {{ k }}" id="{{ \'"\' }}">{{ x|default("<p class=a>") }}',
            ),
            (
                "<p class=a style='top: {{ t|default(\"0\") }}'>",
                "<p class=a style='color: red; top: {{ t|default(\"0\") }}'>",
            ),
            ("<p {% if x %}class=a{% endif %}>", "<p {% if x %}class=a{% endif %}>"),
            ("<p class=a {# > #}>", "<p class=a {# > #}>"),
            (
                "{% raw %}<b class=a>{{ x }}{% endraw %}",
                '{% raw %}<b style="color: red" class=a>{{ x }}{% endraw %}',
            ),
            (
                "{%- if x -%}\n <b class=a> {%- endif %}",
                '{%- if x -%}\n <b style="color: red" class=a> {%- endif %}',
            ),
            ("<{{ tag }} class=a>", "<{{ tag }} class=a>"),
            (
                "<a class=a href='{{ u }}?x={{ y }}'>",
                "<a style=\"color: red\" class=a href='{{ u }}?x={{ y }}'>",
            ),
        ],
    )
    def test_leave_every_construct_where_it_is(self, html: str, expected: str) -> None:
        assert inlined(html) == expected

    def test_stay_for_what_cannot_be_inlined(self) -> None:
        css = "<style>@media print { .b { color: red } } .b:hover { top: 0 } .b { left: 0 }</style>"
        assert prepare_html(f"{css}<p class=b>") == f'{css}<p style="left: 0" class=b>'

    @pytest.mark.parametrize(
        "style",
        [
            "<style>p { color: {{ c }} }</style>",
            "<style media=print>p { color: red }</style>",
            "<style>}}}</style>",
        ],
    )
    def test_are_left_out_where_they_are_not_the_same_for_everybody(self, style: str) -> None:
        style = style.replace("}}}", "} x { }")
        assert prepare_html(f"{style}<p>") == f"{style}<p>"

    def test_keep_their_quotes(self) -> None:
        css = "<style>p { font-family: \"A 'B'\", 'C'; background: url(\"x&y\") }</style>"
        prepared = prepare_html(f"{css}<p>").removeprefix(css)
        (value,) = re.findall(r'^<p style="([^"]*)">$', prepared)
        assert "{" not in value
        assert "<" not in value

    def test_can_be_switched_off(self) -> None:
        assert prepare_html(f"{RED}<p class=a>", inline_css=False) == f"{RED}<p class=a>"

    def test_keep_the_lines_of_the_template(self) -> None:
        html = f"{RED}\r\n<p\r\n class=a>\r{{{{ x|round }}}}"
        prepared = prepare_html(html, preheader="a\nb", link_parameters=UTM)
        assert prepared.count("\n") == 3

    def test_are_counted_without_what_holds_no_selector(self) -> None:
        words = "no + selector , here " * 500
        css = f"<style>/* {words} */ .b {{ left: 0; font-family: '{words}', a, b }}</style>"
        prepared = prepare_html(f"{css}<p class=b>" + "<i></i>" * 9_000)
        assert prepared.removeprefix(css).startswith('<p style="left: 0')

    @pytest.mark.parametrize(
        ("html", "problem"),
        [
            (RED + "<b>" * 101, "its elements are nested 101 deep; styles can be inlined 100 deep"),
            (RED + "<b></b>" * 20_000, "it has 20,001 tags; styles can be inlined into 20,000"),
            (
                "<style>" + "i{top:0}" * 1_000 + "</style>" + "<b></b>" * 10_000,
                "it has too many styles for so many elements to inline them",
            ),
            (
                "<style>" + ("+".join("p" * 1_000) + "{top:0}") * 150 + "</style>" + "<p>" * 19_000,
                "it has too many styles for so many elements to inline them",
            ),
            (
                "<style>p" + ":not(.x)" * 1_000 + "{top:0}</style>" + "<b></b>" * 10_000,
                "it has too many styles for so many elements to inline them",
            ),
            (
                "<style>x{content:'/*'}p" + " p" * 1_000 + "{top:0}</style>" + "<b></b>" * 10_000,
                "it has too many styles for so many elements to inline them",
            ),
            (
                "<style>" + "i ~ b {top:0}" * 3 + "</style>" + "<b></b>" * 10_000,
                "it has too many styles for so many elements to inline them",
            ),
        ],
    )
    def test_are_refused_where_inlining_would_take_long(self, html: str, problem: str) -> None:
        with pytest.raises(TemplateRefused) as refused:
            prepare_html(html)
        assert str(refused.value) == f"HTML, line 1: {problem}"
        assert prepare_html(html, inline_css=False) == html


@pytest.fixture
def requests() -> Iterator[tuple[str, list[str]]]:
    """The address of a server on this machine, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"p { color: red }")

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


class TestNothing:
    @pytest.mark.parametrize(
        "html",
        [
            '<link rel="stylesheet" href="{url}/a.css"><p>x</p>',
            '<link rel="stylesheet" href="{file}"><p>x</p>',
            '<style>@import url("{url}/b.css"); @import "{file}"; b {{ top: 0 }}</style><p>x</p>',
            '<base href="{url}/"><link rel=stylesheet href=c.css><style>b {{ top: 0 }}</style><p>x</p>',
            '<style>i {{ background: url("{url}/d.png") }}</style><img src="{url}/e.png"><p>x</p>',
            '<iframe src="{url}/f"></iframe><object data="{file}"></object><p>x</p>',
            '<script src="{url}/g"></script><embed src="{url}/h"><p>x</p>',
        ],
    )
    def test_is_fetched(self, requests: tuple[str, list[str]], tmp_path: Path, html: str) -> None:
        url, asked = requests
        (tmp_path / "a.css").write_text("p { color: red }")
        html = html.format(url=url, file=(tmp_path / "a.css").as_uri())
        assert prepare_html(html) == html
        assert asked == []


class TestLinks:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("http://a.org", "http://a.org/?utm_source=news"),
            ("HTTPS://a.org/b", "HTTPS://a.org/b?utm_source=news"),
            ("https://a.org/b#c", "https://a.org/b?utm_source=news#c"),
            ("https://a.org/it&#39;s", "https://a.org/it&#39;s?utm_source=news"),
            ("https://a.org/?x=1&amp;y", "https://a.org/?utm_source=news&amp;x=1&amp;y"),
            ("https://a.org/?#c", "https://a.org/?utm_source=news#c"),
            ("https://a.org/?x={{ x }}", "https://a.org/?utm_source=news&amp;x={{ x }}"),
            ("https://a.org/?{{ x }}", "https://a.org/?utm_source=news&amp;{{ x }}"),
        ],
    )
    def test_carry_the_parameters(self, before: str, after: str) -> None:
        assert linked(f'<a href="{before}">l</a>') == f'<a href="{after}">l</a>'

    @pytest.mark.parametrize(
        "address",
        [
            "{{ unsubscribe_url }}",
            "{{ unsubscribe_url }}?x=1",
            "mailto:a@b.org?subject=x",
            "tel:1",
            "#top",
            "/path",
            "",
            "https://{{ host }}/",
            "https://a.org/{{ path }}",
            "https://a.org/{{ path }}?x=1",
            "https://a.org/?utm_source=own",
            "https://a.org/?x=1&amp;utm_source=own",
        ],
    )
    def test_are_left_alone(self, address: str) -> None:
        assert linked(f'<a href="{address}">l</a>') == f'<a href="{address}">l</a>'

    def test_are_those_that_people_click(self) -> None:
        html = '<link href="https://a.org/x"><img src="https://a.org/y"><!-- <a href="https://a.org/z"> -->'
        assert linked(html) == html
        assert linked("<area href=https://a.org/b>") == "<area href=https://a.org/b?utm_source=news>"

    def test_carry_any_characters(self) -> None:
        found = linked('<a href="https://a.org/">', a="ü & {{ x }}", b="1")
        assert found == '<a href="https://a.org/?a=%C3%BC%20%26%20%7B%7B%20x%20%7D%7D&amp;b=1">'

    def test_show_in_the_text_made_from_the_html(self) -> None:
        assert (
            plain_text_template(linked("<a href='https://a.org/'>l</a>"))
            == "l (https://a.org/?utm_source=news)\n"
        )


class TestThePreheader:
    HIDDEN = '<div style="display:none;max-height:0;overflow:hidden;mso-hide:all">{}</div>'

    @pytest.mark.parametrize(
        "html",
        [
            "<html><head><title>t</title></head><body class=x>|<p>Hi</p>",
            "<!doctype html><html><head></head>|<p>Hi</p>",
            "<html>|<p>Hi</p>",
            "|<p>Hi</p>",
            "<!-- <body> --><body {% if x %}class=y{% endif %}>|Hi",
        ],
    )
    def test_stands_first_in_the_body(self, html: str) -> None:
        expected = html.replace("|", self.HIDDEN.format("News"))
        assert prepare_html(html.replace("|", ""), preheader="News") == expected

    def test_is_escaped_but_for_its_constructs(self) -> None:
        prepared = prepare_html("<p>", preheader="A & <b>, {{ x|default('<') }}\n{% if x %}&{% endif %}")
        escaped = "A &amp; &lt;b&gt;, {{ x|default('<') }} {% if x %}&amp;{% endif %}"
        assert prepared == self.HIDDEN.format(escaped) + "<p>"

    def test_is_not_in_the_text(self) -> None:
        assert plain_text_template(prepare_html("<p>Hi", preheader="News")) == "Hi\n"

    def test_is_held_to_what_templates_may_say(self) -> None:
        with pytest.raises(TemplateRefused, match=r"^preheader, line 1: calls are not available"):
            prepare_html("<p>", preheader="{{ x() }}")


@pytest.mark.parametrize(
    "unit", ["<!--", "<a ", '<a x="', "</", "<?", "<", "&", "<style>", "<p x='>", "<a =", "</a x", "<a/"]
)
def test_endless_markup_takes_no_long_time(unit: str) -> None:
    html = RED + unit * (200_000 // len(unit))
    with suppress(TemplateRefused):  # for its many tags
        assert prepare_html(html).startswith(RED)


def test_many_different_names_are_read_to_their_end() -> None:
    html = "".join(f"<x{number}>" for number in range(110_000))
    assert tags.read_tags(html).depth == 110_000
    with pytest.raises(TemplateRefused) as refused:
        prepare_html(RED + html)
    assert str(refused.value) == "HTML, line 1: it has 110,001 tags; styles can be inlined into 20,000"


markup = st.lists(
    st.sampled_from(
        [
            "<p class=a>",
            "</p>",
            "<table>",
            "</table>",
            "<tr class='a b'>",
            "<td>",
            "</td>",
            "<div>",
            "</div>",
            "<br/>",
            "{{ x }}",
            "{% if x %}",
            "{% else %}",
            "{% endif %}",
            "<!-- ",
            "-->",
            "<a href=",
            '"',
            "'",
            "https://a.org/",
            ">",
            "<",
            " ",
            "{% raw %}",
            "{% endraw %}",
            "{# c #}",
            "\n",
            "words",
            "&amp;",
            "=",
            "<style>",
            "</style>",
            "p{left:0}",
            "<body>",
            "{{ y|default('>') }}",
        ]
    ),
    max_size=25,
).map("".join)


@settings(deadline=None, max_examples=200)
@given(markup)
def test_only_attributes_are_added(html: str) -> None:
    html = RED + html
    try:
        prepared = prepare_html(html, link_parameters=UTM)
    except TemplateRefused:
        return
    remaining = iter(prepared)
    assert all(character in remaining for character in html)
    before, after = (message(html=each, text="-").html for each in (html, prepared))
    assert before is not None
    assert after is not None
    assert [isinstance(piece, str) for piece in before.pieces] == [
        isinstance(piece, str) for piece in after.pieces
    ]
    assert before.variables == after.variables
    read_before, read_after = (tags.read_tags(each) for each in (html, prepared))
    assert [tag.name for tag in read_before.starts] == [tag.name for tag in read_after.starts]
    assert read_before.order == read_after.order
