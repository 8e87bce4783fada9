"""What a template may say, what it may not, and what comes of it for one recipient."""

from typing import Any

import pytest

from campaigns.composing import CannotRender, TemplateRefused, compile_message, shared_values
from campaigns.composing.bounds import MAX_STEPS
from campaigns.composing.quoted_printable import Spliced
from tests.letters import SENDER, letter, message

LIST_REFUSED = (
    "a list is written only behind 'in', as in {% if plan in ('pro', 'plus') %}; "
    "write values one after the other, {{ a }}, {{ b }}, or put the list into a field"
)
TOO_MANY_STEPS = "it takes more than 200,000 steps; loop over fewer items, or read shorter texts"


def text_of(source: str, **context: Any) -> str:
    return message(text=source).text.render(context)


def html_of(source: str, **context: Any) -> str:
    html = message(html=source, text="-").html
    assert html is not None
    return html.render(context)


class TestWhatATemplateMaySay:
    @pytest.mark.parametrize(
        ("source", "context", "expected"),
        [
            ("just words", {}, "just words"),
            ("{{ a }} and {{ b }}", {"a": 1, "b": "two"}, "1 and two"),
            ("{{ 'constant' }}{{ 3 }}{{ true }}", {}, "constant3True"),
            ("{{ a.b.c }}{{ a['b']['c'] }}", {"a": {"b": {"c": 7}}}, "77"),
            ("{{ a[0] }}{{ a[1].n }}", {"a": ["x", {"n": "y"}]}, "xy"),
            ("{% if a %}yes{% elif b %}perhaps{% else %}no{% endif %}", {"b": 1}, "perhaps"),
            ("{% if a == 1 and b != 2 or not c %}yes{% endif %}", {"a": 1, "b": 3, "c": 1}, "yes"),
            ("{% if a < 2 <= b and 'x' in c %}yes{% endif %}", {"a": 1, "b": 2, "c": "xy"}, "yes"),
            ("{{ 'Ms' if a else 'Mr' }}", {"a": True}, "Ms"),
            ("{% if a in ('x', 'y') or a in ['z'] %}in{% endif %}", {"a": "z"}, "in"),
            ("{% if a not in ['x', b] %}out{% endif %}", {"a": "z", "b": "y"}, "out"),
            ("{% for i in list %}{{ i }};{% endfor %}", {"list": [1, 2]}, "1;2;"),
            ("{% for i in list if i %}{{ i }}{% else %}none{% endfor %}", {"list": [0]}, "none"),
            ("{% for a, b in o.pairs %}{{ a }}{{ b }}{% endfor %}", {"o": {"pairs": [[1, 2]]}}, "12"),
            ("{% for k in d %}{{ k }}{% endfor %}", {"d": {"x": 1, "y": 2}}, "xy"),
            (
                "{% for i in a %}{% for j in i %}{{ j }}{% endfor %}|{% endfor %}",
                {"a": [[1], [2, 3]]},
                "1|23|",
            ),
            (
                "{% for i in a %}{{ loop.index }}{{ loop.index0 }}{{ loop.length }}"
                "{% if loop.first %}f{% endif %}{% if loop.last %}l{% endif %} {% endfor %}",
                {"a": ["x", "y"]},
                "102f 212l ",
            ),
            ("{{ a is defined }}{{ b is undefined }}{{ b is none }}", {"a": 1}, "TrueTrueTrue"),
            ("{% raw %}{{ not a field }}{% endraw %}{# a comment #}", {}, "{{ not a field }}"),
            ("a {%- if true %} b {% endif -%} c\n", {}, "a b c\n"),
            ("{{ range }}{{ dict }}{{ lipsum }}{{ cycler }}", {}, ""),
        ],
    )
    def test_is_rendered(self, source: str, context: dict[str, Any], expected: str) -> None:
        assert text_of(source, **context) == expected

    @pytest.mark.parametrize(
        ("expression", "value", "expected"),
        [
            ("default('you')", None, "you"),
            ("d('you')", None, "you"),
            ("default('you', true)", "", "you"),
            ("escape", "<b>", "&lt;b&gt;"),
            ("e", "<b>", "&lt;b&gt;"),
            ("join(', ')", ["a", 1, None], "a, 1, "),
            ("first", ["a", "b"], "a"),
            ("last", ["a", "b"], "b"),
            ("length", "abc", "3"),
            ("round(1)", 1.26, "1.3"),
            ("round(0, 'floor')", 1.9, "1.0"),
            ("capitalize", "aB", "Ab"),
            ("lower", "aB", "ab"),
            ("title", "ada l", "Ada L"),
            ("trim", " a ", "a"),
            ("truncate(9)", "one two three four", "one..."),
            ("upper", "aB", "AB"),
        ],
    )
    def test_has_these_filters(self, expression: str, value: Any, expected: str) -> None:
        assert text_of(f"{{{{ x|{expression} }}}}", x=value) == expected


class TestWhatATemplateMayNotSay:
    @pytest.mark.parametrize(
        ("source", "problem"),
        [
            ("{{ a() }}", "calls are not available; use a filter, such as {{ name|upper }}"),
            ("{{ a.pop() }}", "calls are not available; use a filter, such as {{ name|upper }}"),
            ("{% set a = 1 %}", "values cannot be set in a template; add them to the campaign's variables"),
            (
                "{% set a %}{% endset %}",
                "values cannot be set in a template; add them to the campaign's variables",
            ),
            ("{% include 'a' %}", "a template stands alone; paste the other one's text"),
            ("{% extends 'a' %}", "a template stands alone; paste the other one's text"),
            ("{% import 'a' as b %}", "a template stands alone; paste the other one's text"),
            ("{% from 'a' import b %}", "a template stands alone; paste the other one's text"),
            ("{% block a %}{% endblock %}", "a template stands alone; write the text without the block"),
            ("{% macro a() %}{% endmacro %}", "macros are not available; write the text where it is used"),
            ("{{ 'a' * 10**8 }}", "templates do not calculate; put the result into a field"),
            ("{{ -a }}", "templates do not calculate; put the result into a field"),
            ("{{ a ~ b }}", "write the values one after the other: {{ a }}{{ b }}"),
            ("{{ {'a': 1} }}", "put the values into a field"),
            ("{{ [a, b] }}", LIST_REFUSED),
            ("{{ a, b }}", LIST_REFUSED),
            ("{{ [a, b]|join(' ') }}", LIST_REFUSED),
            ("{% if a == ['x'] %}{% endif %}", LIST_REFUSED),
            ("{% if a in [[b]] %}{% endif %}", LIST_REFUSED),
            ("{% if ('x', 'y') in a %}{% endif %}", LIST_REFUSED),
            ("{{ a[1:2] }}", "use the filters first, last or truncate"),
            ("{{ a[b] }}", "a key is written out, such as {{ order['id'] }}"),
            ("{{ a.__class__ }}", "the key '__class__' starts with an underscore; such keys cannot be read"),
            ("{{ self }}", "'self' is not a field"),
            ("{% for i in [1] %}{% endfor %}", "a loop runs over a field, such as {% for item in items %}"),
            ("{% for i in a recursive %}{% endfor %}", "loops cannot be recursive"),
            ("{% for i in a %}" * 3 + "{% endfor %}" * 3, "loops may be nested 2 deep"),
            ("{% autoescape false %}{% endautoescape %}", "escaping is not a template's business"),
            ("{% with a = 1 %}{% endwith %}", "the construct With is not available in e-mail templates"),
            (
                "{% filter upper %}{% endfilter %}",
                "the construct FilterBlock is not available in e-mail templates",
            ),
            ("{{ a|join(attribute='b') }}", "the construct Keyword is not available in e-mail templates"),
            ("{{ 1e999 }}", "a number is too large; put it into a field"),
            ("{% trans %}", "Encountered unknown tag 'trans'."),
            ("{{ a", "unexpected end of template, expected 'end of print statement'."),
        ],
    )
    def test_is_refused_with_its_line(self, source: str, problem: str) -> None:
        with pytest.raises(TemplateRefused) as refused:
            message(text=f"first\nsecond {source}")
        assert str(refused.value) == f"text, line 2: {problem}"
        assert (refused.value.part, refused.value.line, refused.value.problem) == ("text", 2, problem)

    @pytest.mark.parametrize("name", ["safe", "attr", "map", "format", "replace", "center", "tojson"])
    def test_names_the_filters_that_there_are(self, name: str) -> None:
        with pytest.raises(
            TemplateRefused, match=f"^text, line 1: there is no filter '{name}' here; available: "
        ):
            message(text=f"{{{{ a|{name} }}}}")

    def test_names_the_tests_that_there_are(self) -> None:
        with pytest.raises(
            TemplateRefused, match=r"there is no test 'odd' here; available: defined, none, undefined$"
        ):
            message(text="{{ a is odd }}")

    @pytest.mark.parametrize(("part", "key"), [("subject", "subject"), ("HTML", "html"), ("text", "text")])
    def test_names_the_part(self, part: str, key: str) -> None:
        parts = {"subject": "s", "html": "h", "text": "t", key: "\n\n{{ a() }}"}
        with pytest.raises(TemplateRefused, match=f"^{part}, line 3: calls"):
            compile_message(SENDER, **parts)

    @pytest.mark.parametrize(
        "source",
        [
            "{{ " + "(" * 20_000 + "a" + ")" * 20_000 + " }}",
            "{% if " + "not " * 500 + "a %}{% endif %}",
            "{{ a" + ".b" * 500 + " }}",
            "{% if a %}" * 99 + "{% endif %}" * 99,
        ],
    )
    def test_is_not_nested_without_end(self, source: str) -> None:
        with pytest.raises(TemplateRefused, match=r"^text, line 1: it is nested more than 50 deep$"):
            message(text=source)

    def test_has_no_number_that_python_does_not_read(self) -> None:
        with pytest.raises(
            TemplateRefused, match=r"^text, line 1: a number in it has more than 4,300 digits$"
        ):
            message(text=f"{{{{ {'9' * 4_301} }}}}")

    def test_is_not_longer_than_a_million_characters(self) -> None:
        message(text="x" * 1_000_000)
        with pytest.raises(
            TemplateRefused, match="it has 1,000,001 characters; at most 1,000,000 are allowed"
        ):
            message(text="x" * 1_000_001)

    def test_has_no_more_than_ten_thousand_constructs(self) -> None:
        with pytest.raises(TemplateRefused, match=r"^text, line 1: it has more than 10,000 constructs$"):
            message(text="{{ a }}" * 10_000)


class TestADot:
    """reads keys of mappings and places of lists, and nothing else of anything"""

    @pytest.mark.parametrize(
        ("source", "context"),
        [
            ("{{ a.items }}", {"a": [1]}),
            ("{{ a.keys }}", {"a": {"b": 1}}),
            ("{{ a.upper }}{{ a.format }}{{ a[0] }}", {"a": "word"}),
            ("{{ a.real }}", {"a": 5}),
            ("{{ a[9] }}{{ a['0'] }}", {"a": ["x"]}),
            ("{{ a.b.c.d }}", {}),
            ("{{ a.b.c }}", {"a": {"b": None}}),
            ("{% for i in a %}{{ loop.changed }}{{ loop.nextitem }}{% endfor %}", {"a": [1, 2]}),
        ],
    )
    def test_finds_nothing_else(self, source: str, context: dict[str, Any]) -> None:
        assert text_of(source, **context) == ""

    def test_reads_a_key_that_is_called_like_a_method(self) -> None:
        assert text_of("{{ a.items }} {{ a.keys }}", a={"items": 3, "keys": "k"}) == "3 k"


class TestMissingFields:
    @pytest.mark.parametrize("context", [{}, {"x": None}])
    @pytest.mark.parametrize(
        "source",
        [
            "{{ x }}",
            "{{ x.y }}",
            "{{ x|upper }}{{ x|title }}{{ x|trim }}{{ x|truncate(3) }}{{ x|capitalize }}{{ x|lower }}",
            "{{ x|join(', ') }}{{ x|first }}{{ x|last }}",
            "{% for i in x %}{{ i }}{% endfor %}",
            "{% if x %}x{% endif %}{% if x != none %}x{% endif %}{% if x is defined %}x{% endif %}",
        ],
    )
    def test_are_blank(self, source: str, context: dict[str, Any]) -> None:
        assert text_of(source, **context) == ""
        assert html_of(source, **context) == ""

    def test_take_the_default(self) -> None:
        source = "{{ x|default('a') }}{{ y.z|default('b') }}"
        assert text_of(source, x=None, y={"z": None}) == "ab"

    def test_are_named_by_the_message(self) -> None:
        compiled = message(
            subject="{{ a }}",
            html="{{ b.c }}{% for i in d %}{{ i }}{{ loop.index }}{% endfor %}",
            text="{% if e %}{{ f|default(g) }}{% endif %}",
        )
        assert compiled.variables == {"a", "b", "d", "e", "f", "g"}


class TestEscaping:
    VALUE = "<b>&\"'"

    def test_happens_in_html(self) -> None:
        escaped = "&lt;b&gt;&amp;&#34;&#39;"
        assert html_of("{{ x }}{% if x %}{{ x }}{% endif %}", x=self.VALUE) == escaped * 2
        assert html_of("{{ x|join('<') }}{{ y|default('<') }}", x=["&", "&"]) == "&amp;&lt;&amp;&lt;"

    def test_does_not_happen_in_text_and_subject(self) -> None:
        compiled = message(subject="{{ x }}", text="{{ x }}{% if x %}{{ x }}{% endif %}")
        assert compiled.subject.render({"x": self.VALUE}) == self.VALUE
        assert compiled.text.render({"x": self.VALUE}) == self.VALUE * 2


class TestValuesThatDoNotFit:
    @pytest.mark.parametrize(
        ("source", "value", "reason"),
        [
            ("{% if x > 3 %}{% endif %}", "a", "'>' not supported between instances of 'str' and 'int'"),
            ("{{ x|round }}", "a", "type str doesn't define __round__ method"),
            ("{{ x|truncate(2) }}", "abcdefghijk", "expected length >= 3, got 2"),
            ("{{ x|first }}", 5, "'int' object is not iterable"),
            ("{% for i in x %}{% endfor %}", "word", "a loop runs over a list, and this is str 'word'"),
            ("{{ x|join(',') }}", "word", "a loop runs over a list, and this is str 'word'"),
            ("{% if x > 3 %}{% endif %}", None, "'x' is undefined"),
        ],
    )
    def test_are_reported_with_the_line(self, source: str, value: Any, reason: str) -> None:
        with pytest.raises(CannotRender) as error:
            text_of(f"one\ntwo\n{source}", x=value)
        assert str(error.value) == f"template, line 3: {reason}"


class TestATemplateCannotRunLongOrGrow:
    @pytest.mark.parametrize(
        ("source", "value", "reason"),
        [
            ("{{ 1.5|round(100000000, 'ceil') }}", None, "round keeps at most 15 digits, not 100000000"),
            ("{{ 1.5|round(x, 'ceil') }}", 10**9, "round keeps at most 15 digits, not 1000000000"),
            ("{{ x|join('" + "y" * 10_000 + "') }}", ["a"] * 1000, "it grows over 1,000,000 characters"),
            (
                "{% for i in x %}{% for j in x %}" + "0123456789" * 10 + "{% endfor %}{% endfor %}",
                [1] * 1000,
                "it grows over 1,000,000 characters",
            ),
            ("{% for i in x %}{% endfor %}", [1] * 1001, "a list of 1,001 items; at most 1,000 are allowed"),
        ],
    )
    def test_so_it_is_stopped(self, source: str, value: Any, reason: str) -> None:
        with pytest.raises(CannotRender) as error:
            text_of(source, x=value)
        assert str(error.value) == f"template, line 1: {reason}"

    @pytest.mark.parametrize(
        "source",
        [
            "{% for a in x %}{% for b in x %}{% endfor %}{% endfor %}",
            "{% for a in x %}{% for b in x %}{% if a|title == b|title %}{% endif %}{% endfor %}{% endfor %}",
            "{% for a in x %}{% for b in x if b|lower == 'no' %}{% endfor %}{% endfor %}",
            "{% for a in x %}"
            + "{% for b in none_of_it %}{% else %}"
            + "{{ c }}" * 200
            + "{% endfor %}{% endfor %}",
            "{% for a in x %}{% if a in x %}{% endif %}{% endfor %}",
            "{% for a in x %}{% if x == y %}{% endif %}{% endfor %}",
            "{% for a in x %}{% if a in ('z', x) %}{% endif %}{% endfor %}",
            "{% for a in x %}{% if t|title %}{% endif %}{% endfor %}",
            "{% for a in x %}{% if a|truncate(10000, true, t) %}{% endif %}{% endfor %}",
            "{% for a in x %}{% if t == a %}{% endif %}{% endfor %}",
            "{% for a in x %}{% if x|join(s) %}{% endif %}{% endfor %}",
            "{% for a in x %}{% if o|upper %}{% endif %}{% endfor %}",
            "{% for a in x %}{% if a == '" + "y" * 10_000 + "' %}{% endif %}{% endfor %}",
        ],
    )
    def test_so_what_its_loops_do_is_counted(self, source: str) -> None:
        items = [str(number) for number in range(1000)]
        context = {"x": items, "y": [*items], "t": "ab " * 3300, "s": "ab " * 300, "o": {"k": items}}
        with pytest.raises(CannotRender) as error:
            text_of(source, **context)
        assert str(error.value) == f"template, line 1: {TOO_MANY_STEPS}"

    def test_so_all_its_slots_share_what_may_be_done(self) -> None:
        loop = (
            "{% for a in x %}{% for b in x %}{% if a|title == b|title %}{% endif %}{% endfor %}{% endfor %}"
        )
        html = "<p>Hi {{ name }}</p>" + loop * 600
        compiled, context = message(html=html, text="-"), {"x": ["a"] * 20}
        assert compiled.html is not None
        for render in (compiled.html.render, Spliced(compiled.html.pieces).fill):
            with pytest.raises(CannotRender, match=r"^template, line 1: it takes more than 200,000 steps"):
                render(context)
        with pytest.raises(CannotRender, match=r"^template, line 1: it takes more than 200,000 steps"):
            shared_values(compiled, letter(x=["a"] * 20))

    def test_so_a_slot_without_a_loop_counts_what_it_reads(self) -> None:
        source = "{% if t|title == t|lower %}{% endif %}" * 100
        with pytest.raises(CannotRender) as error:
            text_of(source, t="a " * 50_000)
        assert str(error.value) == f"template, line 1: {TOO_MANY_STEPS}"
        assert text_of(source, t="a " * 400) == ""

    def test_which_leaves_room_for_a_long_table(self) -> None:
        cells = "".join(f"<td>{{{{ i.{key}|default('-')|upper }}}}</td>" for key in "abcdefgh")
        source = "{% for i in x %}<tr>" + cells + "</tr>{% endfor %}"
        row = {key: f"value {key}" for key in "abcdefgh"}
        expected = "<tr>" + "".join(f"<td>VALUE {key}</td>" for key in "ABCDEFGH") + "</tr>"
        assert html_of(source, x=[row] * 1000) == expected * 1000

    def test_and_the_next_recipient_begins_anew(self) -> None:
        compiled = message(text="{% for i in x %}{% if i|lower == 'b' %}b{% endif %}{% endfor %}").text
        for _ in range(MAX_STEPS // 1000):
            assert compiled.render({"x": ["B"] * 1000}) == "b" * 1000
