"""The text part of a message that was written in HTML only."""

import pytest

from campaigns.composing.plain_text import plain_text_template
from tests.letters import message


class TestATextMadeFromHtml:
    @pytest.mark.parametrize(
        ("html", "text"),
        [
            ("<h1>Hello</h1><p>one\n  two</p>", "Hello\n\none two\n"),
            ("a<br>b<br/>c<hr>d", "a\nb\nc\nd\n"),
            ("<ul><li>a</li><li>b</li></ul>", "a\n\nb\n"),
            ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\n\nc\n"),
            (
                'See <a href="https://example.com/?a=1&amp;b=2">this</a>!',
                "See this (https://example.com/?a=1&b=2)!\n",
            ),
            ('<a href="#top">up</a> <a name="x">here</a>', "up here\n"),
            ('<img src="x.png" alt="Our logo"> <img src="y.png">', "Our logo\n"),
            ("&lt;b&gt; &amp; &eacute;&nbsp;x", "<b> & é x\n"),
            ("", "\n"),
        ],
    )
    def test_keeps_words_blocks_and_links(self, html: str, text: str) -> None:
        assert plain_text_template(html) == text

    @pytest.mark.parametrize("beginning", ["<!--", "<a ", "</a ", "<!x", "<?"])
    def test_comes_to_an_end_with_what_never_does(self, beginning: str) -> None:
        # the standard library's HTMLParser needs minutes for each
        assert plain_text_template("Hi" + beginning * 50_000) == "Hi\n"

    @pytest.mark.parametrize(
        "html",
        [
            "<style>p { color: red }</style>Hi",
            "<head><title>t</title><style>x</style></head><body>Hi</body>",
            "<script>if (a < b) { x() }</script>Hi",
            '<div style="display:none">pre<b>header</b><br></div>Hi',
            '<div style="Color: red; DISPLAY : none !important"><div>a</div>b<img src=x></div>Hi',
            '<img src="pixel.gif" alt="." style="display:none">Hi',
            "<!-- a comment {{ with.a }} field -->Hi",
            "<!--[if mso]><table><![endif]-->Hi",
        ],
    )
    def test_leaves_out_what_is_not_displayed(self, html: str) -> None:
        assert plain_text_template(html) == "Hi\n"

    @pytest.mark.parametrize(
        ("html", "text"),
        [
            ('{{ x|default("<b>") }}', '{{ x|default("<b>") }}\n'),
            ("{{ x|default('}}') }}<i>{{ y }}</i>", "{{ x|default('}}') }}{{ y }}\n"),
            (
                '<a href="{{ link|default("https://x.org") }}">go</a>',
                'go ({{ link|default("https://x.org") }})\n',
            ),
            ('<a href="{% if a %}x{% else %}y{% endif %}">l</a>', "l ({% if a %}x{% else %}y{% endif %})\n"),
            ("<p {% if a %}class=b{% endif %}>t</p>", "t\n"),
            (
                "<table>{% for i in list %}{% if i %}<tr><td>{{ i }}</tr>{% endif %}{% endfor %}</table>",
                "{% for i in list %}{% if i %}\n{{ i }}\n{% endif %}{% endfor %}\n",
            ),
            ("it's {{ x }} isn't {{ y }}", "it's {{ x }} isn't {{ y }}\n"),
            ("a{# <b> not shown #}b", "ab\n"),
        ],
    )
    def test_keeps_the_constructs(self, html: str, text: str) -> None:
        assert plain_text_template(html) == text

    @pytest.mark.parametrize("html", ["&#123;&#123; x }}", "{% raw %}{{ x }}{% endraw %}", "<b>{</b>{ x }}"])
    def test_shows_braces_that_are_words(self, html: str) -> None:
        assert message(html=html).text.render({"x": "no"}) == "{{ x }}\n"

    def test_survives_the_characters_that_stand_in_for_constructs(self) -> None:
        assert plain_text_template("a\ue0007\ue001{{ b }}") == "a\ufffd7\ue001{{ b }}\n"

    def test_renders_like_the_html(self) -> None:
        compiled = message(
            html="<table>{% for i in list %}<tr><td>{{ i.n }} &mdash; {{ i.what|default('?') }}</td></tr>"
            "{% else %}<tr><td>nothing</td></tr>{% endfor %}</table>"
        )
        assert compiled.text.render({"list": [{"n": 2, "what": "<tea>"}]}) == "\n2 — <tea>\n\n"
        assert compiled.text.render({}) == "\nnothing\n\n"
