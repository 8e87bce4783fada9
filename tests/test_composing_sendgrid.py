"""Requests to SendGrid: held to its published schema, and saying to each recipient what was rendered."""

import json
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns.composing import Rendered, Sender, request_for_all, request_for_one, shared_values
from tests.letters import letter, letters, message
from tests.mail_servers import SendGridServer

Request = dict[str, Any]


def received(request: Request) -> Request:
    """Return the request as SendGrid reads it, held to the schema that SendGrid publishes."""
    server = SendGridServer()
    request = json.loads(json.dumps(request))
    server.answer(request)
    assert server.faults == []
    return request


def texts_for(request: Request, position: int) -> Rendered:
    """Return what SendGrid makes of the request for one personalization."""
    substitutions = request["personalizations"][position].get("substitutions", {})

    def filled(text: str) -> str:
        for tag, value in substitutions.items():
            text = text.replace(tag, value)
        return text

    content = {part["type"]: filled(part["value"]) for part in request["content"]}
    return Rendered(filled(request["subject"]), content.get("text/html", ""), content.get("text/plain", ""))


class TestARequestForAll:
    def test_is_written_once_with_what_differs_apart(self) -> None:
        compiled = message(
            subject="Hi {{ name }}",
            html="<p>{{ name }}</p>",
            text="T",
            sender=Sender("a@b.org", "A", "r@b.org"),
        )
        request = received(
            request_for_all(compiled, [letter(1, name="<Ana>", unsubscribe_url="https://x.org/u/1")])
        )
        (personalization,) = request.pop("personalizations")
        in_subject, in_html = personalization.pop("substitutions").items()
        assert request == {
            "from": {"email": "a@b.org", "name": "A"},
            "reply_to": {"email": "r@b.org"},
            "subject": f"Hi {in_subject[0]}",
            "content": [
                {"type": "text/plain", "value": "T"},
                {"type": "text/html", "value": f"<p>{in_html[0]}</p>"},
            ],
            "tracking_settings": {"subscription_tracking": {"enable": False}},
        }
        assert personalization == {
            "to": [{"email": "reader1@example.com", "name": "<Ana>"}],
            "headers": {
                "Message-ID": "<1.stable@example.com>",
                "List-Unsubscribe": "<https://x.org/u/1>",
                "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            },
            "custom_args": {"delivery_id": "1"},
        }
        assert (in_subject[1], in_html[1]) == ("<Ana>", "&lt;Ana&gt;")

    def test_says_to_each_of_200_what_was_rendered_for_them(self) -> None:
        compiled = message(
            subject="{{ name }}{{ word }}",
            html="{{ word }}{{ name }}<p>{% if word %}{{ word }}{% endif %}</p>{{ name }}",
            text="{{ word }}{{ word }}{{ name }}\n",
        )
        old_tags = list(request_for_all(compiled, letters(1))["personalizations"][0]["substitutions"])
        words = ["{{ name }}", "{% if %}", "\r\n.\r\n", "\"quoted\" 'too'", "-{{ x }}-", "<b>&", *old_tags]
        readers = letters(200)
        for position, to in enumerate(readers):
            to.context["word"] = f"{words[position % len(words)]}{position}"
        request = received(request_for_all(compiled, readers))
        assert [texts_for(request, position) for position in range(200)] == [
            Rendered.of(compiled, to) for to in readers
        ]

    def test_holds_no_recipients_value_for_another(self) -> None:
        compiled = message(subject="{{ name }}", html="{{ name }}", text="{{ name }}")
        request = request_for_all(compiled, letters(1000))
        for number, personalization in enumerate(request["personalizations"], start=1):
            assert set(personalization["substitutions"].values()) == {f"Reader {number}"}
            assert personalization["to"] == [
                {"email": f"reader{number}@example.com", "name": f"Reader {number}"}
            ]
            assert personalization["headers"] == {"Message-ID": f"<{number}.stable@example.com>"}
            assert personalization["custom_args"] == {"delivery_id": str(number)}
        del request["personalizations"]
        assert "Reader" not in json.dumps(request)

    def test_draws_its_tags_anew(self) -> None:
        first, second = (
            set(request_for_all(message(), letters(1))["personalizations"][0]["substitutions"])
            for _ in range(2)
        )
        assert len(first) == len(second) == 2
        assert first.isdisjoint(second)


class TestAnyRequest:
    @pytest.mark.parametrize("write", ["one", "all"])
    @pytest.mark.parametrize(
        ("subject", "html", "text"),
        [
            ("{{ x }}", "", "{{ x }}"),
            ("{{ x }}", "<p>{{ x }}</p>", "{{ x }}"),
            ("{{ x }}", "{{ x }}", "words"),
            ("{{ x }}", "{{ x }}", "{{ x }}"),
            ("words", "<img src=x>", ""),
        ],
    )
    def test_is_valid_where_a_part_renders_empty(
        self, write: str, subject: str, html: str, text: str
    ) -> None:
        compiled, to = message(subject=subject, html=html, text=text), letter(1)
        if write == "one":
            request = received(request_for_one(compiled, to))
            assert all(part["value"] for part in request["content"])
            assert request["subject"] == (" " if subject == "{{ x }}" else "words")
        else:
            request = received(request_for_all(compiled, [to]))
            assert texts_for(request, 0) == Rendered.of(compiled, to)

    @pytest.mark.parametrize("value", ["a\r\nBcc: x@y.z", "a\nb", "a\0b", "a\u2028b"])
    def test_keeps_line_breaks_out_of_names_and_subject(self, value: str) -> None:
        compiled = message(subject="{{ name }}", sender=Sender("a@b.org", value))
        to = letter(name=value)
        for request in (request_for_one(compiled, to), request_for_all(compiled, [to])):
            names = [request["from"]["name"], request["personalizations"][0]["to"][0]["name"]]
            for text in (*names, texts_for(request, 0).subject):
                assert text.isprintable()
                assert text[0] == "a"

    def test_puts_the_text_before_the_html(self) -> None:
        request = received(request_for_one(message(html="<p>h</p>", text="t"), letter()))
        assert [part["type"] for part in request["content"]] == ["text/plain", "text/html"]


class TestFitsTogether:
    def test_up_to_150_slots(self) -> None:
        assert shared_values(message(subject="s", text="{{ x }}" * 150), letter())
        assert shared_values(message(subject="s", text="{{ x }}" * 151), letter()) is None

    def test_up_to_ten_thousand_bytes_of_values_and_tags(self) -> None:
        compiled = message(subject="s", text="{{ x }}{{ y }}")
        # each of the two values counts 32 bytes for its tag: 10,000 - 64 = 9,936, and "é" is two bytes
        assert shared_values(compiled, letter(x="a" * 9_000, y="é" * 468))
        assert shared_values(compiled, letter(x="a" * 9_001, y="é" * 468)) is None

    def test_leaves_no_request_over_the_limit(self) -> None:
        compiled = message(subject="s", text="{{ x }}" * 150)
        to = letter(x="a" * 34)
        assert shared_values(compiled, to)
        substitutions = request_for_all(compiled, [to])["personalizations"][0]["substitutions"]
        assert len(substitutions) == 150
        assert len(json.dumps(substitutions)) <= 10_000


values = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.text(
    "{}%-.0123 <>&'\"\r\n", max_size=20
)
names = st.sampled_from(["a", "b", "c"])
words = st.text(string.ascii_letters + " <>&é.-0123\n", max_size=8)
constructs = st.one_of(
    words,
    names.map("{{{{ {} }}}}".format),
    names.map("{{{{ {}.key|default('none') }}}}".format),
    st.tuples(names, words).map(
        lambda pair: f"{{% if {pair[0]} %}}{pair[1]}{{{{ {pair[0]} }}}}{{% endif %}}"
    ),
    st.tuples(names, words).map(
        lambda pair: f"{{% for i in l{pair[0]} %}}{pair[1]}{{{{ i }}}}{{% endfor %}}"
    ),
)
templates = st.lists(constructs, max_size=8).map("".join)
contexts = st.fixed_dictionaries(
    {},
    optional={
        "a": values,
        "b": values | st.none() | st.integers(),
        "c": st.dictionaries(st.just("key"), values),
        "la": st.lists(values, max_size=3),
    },
)


@settings(deadline=None)
@given(templates, templates, templates, st.lists(contexts, min_size=1, max_size=5))
def test_requests_say_what_was_rendered(
    subject: str, html: str, text: str, given_contexts: list[dict[str, Any]]
) -> None:
    compiled = message(subject=subject, html=html, text=text or "-")
    readers = [letter(number, **context) for number, context in enumerate(given_contexts)]
    together = received(request_for_all(compiled, readers))
    for position, to in enumerate(readers):
        rendered = Rendered.of(compiled, to)
        alone = texts_for(received(request_for_one(compiled, to)), 0)
        assert alone.subject == (rendered.subject or " ")
        assert alone.html == rendered.html
        assert alone.text == rendered.text or (rendered.text, rendered.html, alone.text) == ("", "", " ")
        found = texts_for(together, position)
        assert found.html == rendered.html
        assert found.text == rendered.text
        assert found.subject == rendered.subject or (compiled.subject.pieces, found.subject) == ((), " ")
