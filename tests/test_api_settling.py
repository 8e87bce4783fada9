"""Settling unconfirmed mails over the API and on the command line."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from rest_framework.test import APIClient

from campaigns import lifecycle
from campaigns.models import Campaign, DeliveryLog, Settlement
from tests.api_helpers import client_of, faults, operator, path_of, problem
from tests.campaign_helpers import clock, counts, leave_in_doubt, row, started
from users.models import User

pytestmark = pytest.mark.django_db(transaction=True)

SETTLE = path_of("deliveries") + "settle/"


@pytest.fixture
def doubtful(campaign: Campaign) -> Campaign:
    """A campaign in progress of which nothing but doubts is left."""
    (batch_id,) = started(campaign)
    leave_in_doubt(batch_id)
    return campaign


def _ids(campaign: Campaign) -> list[int]:
    return list(DeliveryLog.objects.filter(campaign=campaign).order_by("id").values_list("id", flat=True))


def _unchanged(campaign: Campaign) -> bool:
    return counts(campaign) == {"unconfirmed": 5} and not Settlement.objects.exists()


class TestApi:
    def test_settles_all_of_a_campaign(self, api: APIClient, doubtful: Campaign) -> None:
        answer = api.post(SETTLE, {"campaign": doubtful.pk, "decision": "give_up"})
        assert (answer.status_code, answer.json()) == (200, {"settled": 5, "decision": "give_up"})
        assert counts(doubtful) == {"failed": 5}
        again = api.post(SETTLE, {"campaign": doubtful.pk, "decision": "give_up"})
        assert (again.status_code, again.json()["settled"]) == (200, 0)

    def test_settles_those_that_are_named_and_tells_who_did(
        self, api: APIClient, boss: User, doubtful: Campaign
    ) -> None:
        first, second, *_ = _ids(doubtful)
        body = {"deliveries": [first, second], "decision": "sent", "note": "in the relay's log"}
        assert api.post(SETTLE, body).json() == {"settled": 2, "decision": "sent"}
        assert counts(doubtful) == {"sent": 2, "unconfirmed": 3}
        document = api.get(path_of("deliveries", first)).json()
        (kept,) = document["settlements"]
        assert kept.pop("decided_at").endswith("Z")
        assert kept == {
            "decision": "sent",
            "decided_by": boss.pk,
            "decided_by_email": "boss@example.com",
            "note": "in the relay's log",
        }
        assert (document["status"], document["sent_at"], document["doubts"]) == ("sent", None, 1)

    def test_names_those_that_are_not_unconfirmed_and_settles_none(
        self, api: APIClient, doubtful: Campaign
    ) -> None:
        first, second, *_ = _ids(doubtful)
        api.post(SETTLE, {"deliveries": [second], "decision": "sent"})
        answer = problem(api.post(SETTLE, {"deliveries": [first, second], "decision": "give_up"}), 409)
        assert (answer["code"], answer["deliveries"]) == ("not_unconfirmed", [second])
        assert str(second) in answer["detail"]
        assert counts(doubtful) == {"sent": 1, "unconfirmed": 4}

    def test_sends_nothing_again_of_a_cancelled_campaign(self, api: APIClient, doubtful: Campaign) -> None:
        lifecycle.cancel(doubtful.pk, now=clock())
        for which in ({"campaign": doubtful.pk}, {"deliveries": _ids(doubtful)[:1]}):
            answer = problem(api.post(SETTLE, {**which, "decision": "send_again"}), 409)
            assert (answer["code"], answer["from"]) == ("campaign_cancelled", "cancelled")
        assert _unchanged(doubtful)

    @pytest.mark.parametrize(
        ("body", "fields"),
        [
            ({"decision": "sent"}, {"deliveries", "campaign"}),
            ({"campaign": 1, "deliveries": [1], "decision": "sent"}, {"deliveries", "campaign"}),
            ({"campaign": 99_999, "decision": "sent"}, {"campaign"}),
            ({"campaign": None, "decision": "sent"}, {"campaign"}),
            ({"deliveries": [], "decision": "sent"}, {"deliveries"}),
            ({"deliveries": ["x"], "decision": "sent"}, {"deliveries.0"}),
            ({"deliveries": [10**30], "decision": "sent"}, {"deliveries.0"}),
            ({"deliveries": list(range(1, 1_002)), "decision": "sent"}, {"deliveries"}),
            ({"deliveries": [1], "decision": "lost"}, {"decision"}),
            ({"deliveries": [1]}, {"decision"}),
            ({"deliveries": [1], "decision": "sent", "notes": "x"}, {"notes"}),
            ({"deliveries": [1], "decision": "sent", "note": "a\0b"}, {"note"}),
            ({"deliveries": [1], "decision": "sent", "note": "x" * 2_001}, {"note"}),
        ],
    )
    def test_refuses_what_it_does_not_understand(
        self, api: APIClient, doubtful: Campaign, body: dict[str, Any], fields: set[str]
    ) -> None:
        if body.get("campaign") == 1:
            body = {**body, "campaign": doubtful.pk}
        assert faults(api.post(SETTLE, body)).keys() == fields
        assert _unchanged(doubtful)

    def test_refuses_a_note_that_cannot_be_stored(self, api: APIClient, doubtful: Campaign) -> None:
        text = f'{{"campaign": {doubtful.pk}, "decision": "sent", "note": "\\ud800"}}'
        problem(api.post(SETTLE, text, content_type="application/json"), 400)
        assert _unchanged(doubtful)

    def test_needs_the_permission_to_change_deliveries(self, doubtful: Campaign) -> None:
        body = {"campaign": doubtful.pk, "decision": "sent"}
        reader = client_of(operator("reader@example.com", may=("view_deliverylog",)))
        problem(reader.post(SETTLE, body), 403)
        problem(APIClient().post(SETTLE, body), 401)
        assert _unchanged(doubtful)
        decider = client_of(operator("decider@example.com", may=("change_deliverylog",)))
        assert decider.post(SETTLE, body).status_code == 200

    def test_is_not_a_page_to_get(self, api: APIClient) -> None:
        problem(api.get(SETTLE), 405)


def _command(*arguments: object) -> str:
    out = StringIO()
    call_command("settle_unconfirmed", *map(str, arguments), stdout=out)
    return out.getvalue()


class TestCommand:
    def test_settles_all_of_a_campaign(self, boss: User, doubtful: Campaign) -> None:
        said = _command(doubtful.pk, "sent", "--by", "BOSS@example.com", "--note", "seen")
        assert said == f"Settled 5 deliveries of campaign {doubtful.pk}: it arrived: count it as sent.\n"
        assert counts(doubtful) == {"sent": 5}
        assert set(Settlement.objects.values_list("decided_by_email", "note")) == {
            ("boss@example.com", "seen")
        }
        assert _command(doubtful.pk, "sent", "--by", "boss@example.com") == (
            f"Campaign {doubtful.pk} has nothing that is unconfirmed.\n"
        )

    def test_settles_those_that_are_named(self, boss: User, doubtful: Campaign) -> None:
        first, second, third, *_ = _ids(doubtful)
        said = _command(
            doubtful.pk, "give_up", "--by", boss.email,
            "--delivery", first, second, "--delivery", third, "--json",
        )  # fmt: skip
        assert json.loads(said) == {"campaign": doubtful.pk, "decision": "give_up", "settled": 3}
        assert counts(doubtful) == {"failed": 3, "unconfirmed": 2}

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ((99_999, "sent", "--by", "boss@example.com"), "There is no campaign 99999."),
            ((0, "sent", "--by", "nobody@example.com"), "--by: there is no account nobody@example.com."),
            (
                (0, "sent", "--by", "reader@example.com"),
                "--by: reader@example.com may not change deliveries.",
            ),
            ((0, "lost", "--by", "boss@example.com"), "invalid choice: 'lost'"),
            ((0, "sent"), "the following arguments are required: --by"),
            ((0, "sent", "--by", "boss@example.com", "--delivery", 99_999), "--delivery: not of campaign"),
            ((0, "sent", "--by", "boss@example.com", "--delivery", 10**30), "--delivery: not of campaign"),
        ],
    )
    def test_says_what_is_wrong_and_changes_nothing(
        self, boss: User, doubtful: Campaign, arguments: tuple[object, ...], words: str
    ) -> None:
        operator("reader@example.com", may=("view_deliverylog",))
        with pytest.raises(CommandError) as refusal:
            _command(arguments[0] or doubtful.pk, *arguments[1:])
        assert words in str(refusal.value)
        assert refusal.value.returncode == 1
        assert _unchanged(doubtful)

    def test_passes_on_what_the_domain_refuses(self, boss: User, doubtful: Campaign) -> None:
        first, *_ = _ids(doubtful)
        _command(doubtful.pk, "sent", "--by", boss.email, "--delivery", first)
        with pytest.raises(CommandError, match=f"these deliveries are not unconfirmed: {first}"):
            _command(doubtful.pk, "sent", "--by", boss.email, "--delivery", first)
        lifecycle.cancel(doubtful.pk, now=clock())
        with pytest.raises(CommandError, match="was cancelled, so nothing of it is sent again"):
            _command(doubtful.pk, "send_again", "--by", boss.email)
        assert row("p1@example.com").status == "unconfirmed"
