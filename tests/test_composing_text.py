"""The text part of a message that was written in HTML only."""

import pytest

from campaigns.composing import TemplateRefused
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

    def test_closes_many_hidden_elements(self) -> None:
        html = "<head>" + "<p>" * 150_000 + "</b>" * 130_000 + "</p>" * 150_000
        assert plain_text_template(html + "x</head>Hi") == "Hi\n"

    def test_hides_what_stands_in_the_outer_one_of_two_of_a_name(self) -> None:
        html = '<div style="display:none"><div><b>a</div>b</b></i>c</div>Hi</div>'
        assert plain_text_template(html) == "Hi\n"

    @pytest.mark.parametrize("html", ["&#123;&#123; x }}", "{% raw %}{{ x }}{% endraw %}", "<b>{</b>{ x }}"])
    def test_shows_braces_that_are_words(self, html: str) -> None:
        assert message(html=html).text.render({"x": "no"}) == "{{ x }}\n"

    def test_survives_the_characters_that_stand_in_for_constructs(self) -> None:
        assert plain_text_template("a\ue0007\ue001{{ b }}") == "a\ufffd7\ue001{{ b }}\n"

    @pytest.mark.parametrize(
        ("html", "text"),
        [
            ("<p>&#xE000;99&#xE001;</p>", "\ufffd99\ue001\n"),
            ("{{ a }} &#xE000;0&#xE001;", "A \ufffd0\ue001\n"),
            ("{{ a }} &#57344;0\ue001", "A \ufffd0\ue001\n"),
            ('{{ a }} <img alt="&#xE000;0&#xE001;">', "A \ufffd0\ue001\n"),
            ('{{ a }} <a href="&#xe000;0&#xE001;">b</a>', "A b (\ufffd0\ue001)\n"),
        ],
    )
    def test_puts_no_construct_where_such_characters_stand(self, html: str, text: str) -> None:
        assert message(html=html).text.render({"a": "A"}) == text

    @pytest.mark.parametrize(
        ("html", "text"),
        [
            ("{<b>{{ code }}</b>}", "{X}\n"),
            ("{<b>{% if code %}</b>y{% endif %}}", "{y}\n"),
            ("{{ '{' }}{<b>{{ code }}</b>", "{{X\n"),
            ("{<b>{</b><i>{</i>{{ code }}}}", "{{{X}}\n"),
            ("{<b>{</b>% if %}{{ code }}", "{{% if %}X\n"),
            ("&#123;{{ code }}&#125;", "{X}\n"),
            ('<img alt="{&quot;{{ code }}"> <img alt="&#123;{{ code }}">', '{"X {X\n'),
        ],
    )
    def test_keeps_a_brace_before_a_construct(self, html: str, text: str) -> None:
        assert message(html=html).text.render({"code": "X"}) == text

    @pytest.mark.parametrize(
        ("html", "problem"),
        [
            ('<td {% if x %}class="a">{% else %}>{% endif %}', "Encountered unknown tag 'else'"),
            (
                '<div style="display:none">{% if a %}</div>b{% else %}c</div>{% endif %}',
                "Encountered unknown tag 'else'",
            ),
        ],
    )
    def test_is_refused_where_half_an_if_is_left_of_it(self, html: str, problem: str) -> None:
        with pytest.raises(TemplateRefused) as refused:
            message(html=html)
        assert str(refused.value) == (
            f"text, line 1: it was made from the HTML, and so it is no template: {problem}; "
            "write a text part of your own"
        )
        assert message(html=html, text="mine").text.render({}) == "mine"

    def test_renders_like_the_html(self) -> None:
        compiled = message(
            html="<table>{% for i in list %}<tr><td>{{ i.n }} &mdash; {{ i.what|default('?') }}</td></tr>"
            "{% else %}<tr><td>nothing</td></tr>{% endfor %}</table>"
        )
        assert compiled.text.render({"list": [{"n": 2, "what": "<tea>"}]}) == "\n2 — <tea>\n\n"
        assert compiled.text.render({}) == "\nnothing\n\n"
