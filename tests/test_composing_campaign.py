"""What a campaign adds to its mails: header fields, parameters of links, Gmail's Feedback-ID."""

import json
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest
from rest_framework.test import APIClient

from campaigns import attachments, preflight
from campaigns.composing import build_mime, compile_message, request_for_all, request_for_one
from campaigns.models import Campaign, EmailTemplate
from campaigns.providers import Line
from tests.admin_helpers import address, client_of, superuser
from tests.api_helpers import faults, path_of
from tests.campaign_helpers import send, started
from tests.letters import SENDER, letter
from tests.mail_servers import SmtpServer
from tests.test_composing_sendgrid import received
from users.models import User

pytestmark = pytest.mark.django_db

REFUSED_HEADERS = [
    ({"Bcc": "x@example.com"}, "The header 'Bcc' is not allowed; use a name that begins with X-, or one of "),
    ({"List-Unsubscribe": "<mailto:x@y>"}, "The header 'List-Unsubscribe' is not allowed"),
    ({"Feedback-ID": "a:b:c:sender"}, "The header 'Feedback-ID' is not allowed"),
    ({"X-A\r\nBcc": "x"}, "The header 'X-A\\r\\nBcc' is not allowed"),
    ({"X-A:": "x"}, "The header 'X-A:' is not allowed"),
    ({"": "x"}, "The header '' is not allowed"),
    ({"X-SMTPAPI": '{"to": ["x@y.z"]}'}, "The header X-SMTPAPI is not allowed: it would steer the provider."),
    ({"x-sg-eid": "x"}, "The header x-sg-eid is not allowed: it would steer the provider."),
    ({"X-A": "a\r\nBcc: x@example.com"}, "The header X-A must have a text of 1 to 500 ASCII characters"),
    ({"X-A": "é"}, "The header X-A must have a text"),
    ({"X-A": ""}, "The header X-A must have a text"),
    ({"X-A": 5}, "The header X-A must have a text"),
    ({"X-A": "x" * 501}, "The header X-A must have a text"),
    ({"X-A": "1", "x-a": "2"}, "Two headers have the same name."),
    ({f"X-{n}": "1" for n in range(21)}, "There are 21 headers; at most 20 are allowed."),
]
REFUSED_PARAMETERS = [
    ({"a b": "x"}, "The name 'a b' is not allowed"),
    ({"": "x"}, "The name '' is not allowed"),
    ({"a": ""}, "a must have a text of 1 to 200 printable characters."),
    ({"a": "x\n"}, "a must have a text"),
    ({"a": ["x"]}, "a must have a text"),
    ({"a": "x" * 201}, "a must have a text"),
    ({f"p{n}": "1" for n in range(21)}, "There are 21 link parameters; at most 20 are allowed."),
]
REFUSED = [
    *(("headers", value, words) for value, words in REFUSED_HEADERS),
    *(("link_parameters", value, words) for value, words in REFUSED_PARAMETERS),
]


class TestSave:
    @pytest.mark.parametrize(("field", "value", "words"), REFUSED)
    def test_names_what_is_wrong(
        self, api: APIClient, campaign: Campaign, field: str, value: dict[str, Any], words: str
    ) -> None:
        found = faults(api.patch(path_of("campaigns", campaign.pk), {field: value}))
        assert found.keys() == {field}
        assert str(found[field]).startswith(words)
        campaign.refresh_from_db()
        assert (campaign.headers, campaign.link_parameters) == ({}, {})

    @pytest.mark.parametrize(
        ("field", "value"), [("headers", {"Bcc": "x@example.com"}), ("link_parameters", {"a": ""})]
    )
    def test_names_it_in_the_admin_too(self, campaign: Campaign, field: str, value: dict[str, str]) -> None:
        page = client_of(superuser()).post(
            address(campaign, "change"), form(campaign, **{field: json.dumps(value)})
        )
        assert page.status_code == 200
        campaign.refresh_from_db()
        assert (campaign.headers, campaign.link_parameters) == ({}, {})

    def test_keeps_what_is_right(self, api: APIClient, boss: User, campaign: Campaign) -> None:
        headers = {"X-Campaign": "May 2026", "List-Id": "News <news.example.com>"}
        parameters = {"utm_source": "newsletter", "utm_campaign": "Mai & Juni"}
        fields = {"headers": headers, "link_parameters": parameters}
        assert api.patch(path_of("campaigns", campaign.pk), fields).status_code == 200
        in_the_form = {field: json.dumps(value) for field, value in fields.items()}
        typed = form(campaign, name="June", **in_the_form)
        assert client_of(boss).post(address(campaign, "change"), typed).status_code == 302
        campaign.refresh_from_db()
        assert (campaign.name, campaign.headers, campaign.link_parameters) == ("June", headers, parameters)

    @pytest.mark.parametrize(("field", "value", "words"), [REFUSED[0], REFUSED[-1]])
    def test_is_checked_again_before_the_start(
        self, campaign: Campaign, field: str, value: dict[str, Any], words: str
    ) -> None:
        setattr(campaign, field, value)
        with pytest.raises(preflight.CampaignNotReady) as refused:
            preflight.check(campaign)
        assert refused.value.problems.keys() == {field}


def form(campaign: Campaign, **changed: object) -> dict[str, object]:
    return {
        "name": campaign.name, "audience": campaign.audience_id, "template": campaign.template_id,
        "variables": "{}", "from_email": "", "from_name": "", "reply_to": "", "link_parameters": "{}",
        "headers": "{}", "timezone": campaign.timezone,
        "timing": campaign.timing, **changed,
    }  # fmt: skip


class TestAMail:
    def test_carries_the_headers_on_both_paths(self, campaign: Campaign) -> None:
        campaign.headers = {"X-Campaign": "=?utf-8?q?May?=", "X-Long": "x" * 500}
        compiled = preflight.compile_template_of(campaign)
        feedback_id = f"campaign{campaign.pk}:audience{campaign.audience_id}:campaign:127001"
        content = build_mime(compiled, letter(), now=datetime.now(UTC))
        assert f"\r\nFeedback-ID: {feedback_id}\r\nX-Campaign: ".encode() in content
        mail = message_from_bytes(content, policy=default)
        assert (mail["Feedback-ID"], mail["X-Long"]) == (feedback_id, "x" * 500)
        for request in (
            request_for_one(compiled, letter()),
            request_for_all(compiled, [letter(1), letter(2)]),
        ):
            for personalization in received(request)["personalizations"]:
                assert personalization["headers"].keys() == {
                    "Feedback-ID",
                    "X-Campaign",
                    "X-Long",
                    "Message-ID",
                }
                assert personalization["headers"]["Feedback-ID"] == feedback_id

    def test_cannot_have_its_own_headers_replaced(self, campaign: Campaign) -> None:
        campaign.headers = {"X-A": "1"}
        names = [name.lower() for name, _ in preflight.headers_of(campaign)]
        assert len(names) == len(set(names)) == 2

    def test_is_made_ready(self, campaign: Campaign, template: EmailTemplate) -> None:
        template.html = "<style>p{top:0}</style><body><p><a href='https://a.org/'>{{ name }}</a>"
        template.preheader = "For {{ name }}"
        template.save()
        campaign.template = template
        campaign.link_parameters = {"utm_source": "may"}
        subject, html, text = preflight.parts_of(campaign)
        assert (subject, text) == (template.subject, "")
        assert html.endswith(
            '<body><div style="display:none;max-height:0;overflow:hidden;mso-hide:all">For {{ name }}</div>'
            "<p style=\"top: 0\"><a href='https://a.org/?utm_source=may'>{{ name }}</a>"
        )

    def test_with_a_header_that_cannot_be_written_is_not_written(self) -> None:
        headers = (("X-A", "a\r\nBcc: x"),)
        compiled = compile_message(SENDER, subject="s", html="", text="t", headers=headers)
        with pytest.raises(ValueError, match=r"X-A: .* cannot stand in a header"):
            build_mime(compiled, letter(), now=datetime.now(UTC))


def test_a_campaign_sends_what_its_template_was_made_into_at_the_start(
    campaign: Campaign, template: EmailTemplate, smtp: SmtpServer, smtp_line: Line
) -> None:
    EmailTemplate.objects.update(
        html="<style>p{top:0}</style><p><a href='https://a.org/'>{{ name }}</a>", preheader="For {{ name }}"
    )
    Campaign.objects.update(link_parameters={"utm_source": "may"}, headers={"X-Campaign": "May"})
    file = attachments.add(template, "a.pdf", b"1")
    (batch_id,) = started(campaign)
    attachments.remove(file)
    EmailTemplate.objects.update(html="<p>later", preheader="later")
    send(batch_id, smtp_line)
    mails = [message_from_bytes(content, policy=default) for _, content in smtp.accepted]
    assert len(mails) == 5
    for mail in mails:
        name = mail["Subject"].removeprefix("Hello ")
        body = mail.get_body(("html",))
        assert body is not None
        html = body.get_content()
        assert html.endswith(f"<p style=\"top: 0\"><a href='https://a.org/?utm_source=may'>{name}</a>")
        assert f">For {name}</div>" in html
        assert [part.get_filename() for part in mail.iter_attachments()] == ["a.pdf"]
        assert mail["X-Campaign"] == "May"
        assert mail["Feedback-ID"].startswith(f"campaign{campaign.pk}:")
