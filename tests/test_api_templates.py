"""Templates over the API: refused when saved, shown before they are sent."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from campaigns.models import Audience, EmailTemplate, Recipient
from tests.api_helpers import faults, path_of, problem

pytestmark = pytest.mark.django_db

GOOD = {"name": "Welcome", "subject": "Hello {{ name }}", "html": "<p>{{ city }}</p>"}


class TestSave:
    def test_keeps_what_was_written(self, api: APIClient) -> None:
        html = "  <p>{{ city }}</p>\n"
        answer = api.post(path_of("templates"), {**GOOD, "html": html})
        assert (answer.status_code, answer.json()["html"]) == (201, html)
        assert EmailTemplate.objects.get().html == html

    @pytest.mark.parametrize(
        ("fields", "field", "words"),
        [
            ({"subject": "Hello {{ name"}, "subject", "Line 1: "),
            ({"html": "<p>\n\n{% if %}</p>"}, "html", "Line 3: "),
            ({"text": "a\n{{ f() }}"}, "text", "Line 2: calls are not available"),
            ({"html": "{{ 'a' * 100000000 }}"}, "html", "templates do not calculate"),
            ({"html": "{{ ''.__class__ }}"}, "html", "Line 1: "),
            ({"html": "{% include 'x' %}"}, "html", "a template stands alone"),
            ({"html": "", "text": ""}, "html", "Give an HTML part"),
            ({"subject": "Hello\nBcc: x@example.com"}, "subject", "line break"),
            ({"subject": ""}, "subject", "blank"),
            ({"html": "a\0b"}, "html", "Null characters"),
            ({"html": "{{ a" + "[0]" * 5_000 + " }}"}, "html", ""),
            ({"html": "{{ " + "(" * 5_000 + "a" + ")" * 5_000 + " }}"}, "html", ""),
            ({"html": "{% if a %}" * 2_000 + "{% endif %}" * 2_000}, "html", ""),
            ({"html": "{{ a" + "|upper" * 5_000 + " }}"}, "html", ""),
            ({"html": "{{ " + "not " * 5_000 + "a }}"}, "html", ""),
            ({"html": "x" * 1_000_001}, "html", "1,000,000"),
            ({"html": "x" * 5_000_000}, "html", "it has 5,000,000 characters; at most 1,000,000 are allowed"),
            ({"text": "a\0b"}, "text", "Null characters"),
            ({"subject": "x" * 2_000}, "subject", "no more than 998 characters"),
            ({"preheader": "{{ f() }}"}, "preheader", "Line 1: calls are not available"),
            ({"preheader": "a\nb"}, "preheader", "line break"),
            ({"preheader": "a\0b"}, "preheader", "Null characters"),
            ({"preheader": "x" * 301}, "preheader", "no more than 300 characters"),
            ({"html": "<style>b{top:0}</style>" + "<b>" * 200}, "html", "nested 200 deep"),
            ({"inline_css": "perhaps"}, "inline_css", "boolean"),
        ],
    )
    def test_names_the_part_and_the_line(
        self, api: APIClient, template: EmailTemplate, fields: dict[str, str], field: str, words: str
    ) -> None:
        found = faults(api.post(path_of("templates"), {**GOOD, **fields}))
        assert found.keys() == {field}
        assert words in found[field]
        assert faults(api.patch(path_of("templates", template.pk), fields)).keys() == {field}
        assert EmailTemplate.objects.get() == template
        before = template.html
        template.refresh_from_db()
        assert template.html == before

    def test_takes_what_cannot_be_inlined_where_nothing_is_to_be(self, api: APIClient) -> None:
        html = "<style>b{top:0}</style>" + "<b>" * 200
        answer = api.post(path_of("templates"), {**GOOD, "html": html, "inline_css": False})
        assert (answer.status_code, answer.json()["inline_css"], answer.json()["preheader"]) == (
            201,
            False,
            "",
        )

    def test_has_a_name_of_its_own(self, api: APIClient, template: EmailTemplate) -> None:
        assert faults(api.post(path_of("templates"), {**GOOD, "name": "GREETING"})) == {
            "name": "A template with this name exists already."
        }


class TestRender:
    def test_shows_a_recipients_mail(
        self, api: APIClient, template: EmailTemplate, audience: Audience
    ) -> None:
        recipient = Recipient.objects.get(email="p0@example.com")
        document = api.post(path_of("templates", template.pk, "render/"), {"recipient": recipient.pk}).json()
        assert document["subject"] == "Hello P 0"
        assert "Dear P 0 of Pune" in document["html"]
        assert "Dear P 0 of Pune" in document["text"]
        assert document["missing"] == []

    def test_shows_the_html_made_ready(self, api: APIClient, template: EmailTemplate) -> None:
        EmailTemplate.objects.update(preheader="For {{ name }}", html="<style>p{top:0}</style><p>Hi</p>")
        document = api.post(path_of("templates", template.pk, "render/"), {"context": {"name": "<b>"}}).json()
        assert '>For &lt;b&gt;</div><style>p{top:0}</style><p style="top: 0">Hi</p>' in document["html"]
        assert document["text"] == "Hi\n"

    def test_takes_values_and_names_those_that_are_missing(
        self, api: APIClient, template: EmailTemplate
    ) -> None:
        document = api.post(path_of("templates", template.pk, "render/"), {"context": {"name": "<b>"}}).json()
        assert document["subject"] == "Hello <b>"
        assert "Dear &lt;b&gt; of " in document["html"]
        assert document["missing"] == ["city"]

    def test_takes_nothing_too(self, api: APIClient, template: EmailTemplate) -> None:
        document = api.post(path_of("templates", template.pk, "render/")).json()
        assert document["missing"] == ["city", "name"]

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"recipient": 99_999}, "recipient"),
            ({"recipient": "\0"}, "recipient"),
            ({"context": []}, "context"),
            ({"context": {"a": "\0"}}, "context"),
        ],
    )
    def test_names_the_field_that_is_wrong(
        self, api: APIClient, template: EmailTemplate, body: dict[str, Any], field: str
    ) -> None:
        assert faults(api.post(path_of("templates", template.pk, "render/"), body)).keys() == {field}

    def test_says_when_values_do_not_fit(self, api: APIClient, template: EmailTemplate) -> None:
        EmailTemplate.objects.update(html="{% if n > 3 %}many{% endif %}")
        answer = api.post(path_of("templates", template.pk, "render/"), {"context": {"n": "many"}})
        assert faults(answer).keys() == {"context"}

    def test_needs_an_existing_template(self, api: APIClient) -> None:
        problem(api.post(path_of("templates", 99_999, "render/"), {}), 404)
