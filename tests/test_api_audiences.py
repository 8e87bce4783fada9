"""Audiences, recipients, suppressions and imports over the API."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from campaigns.models import Audience, Campaign, Recipient, Suppression
from tests.api_helpers import faults, path_of, problem, without

pytestmark = pytest.mark.django_db


class TestAudience:
    def test_is_made_listed_changed_and_deleted(self, api: APIClient) -> None:
        made = api.post(path_of("audiences"), {"name": "Friends"})
        assert made.status_code == 201
        document = made.json()
        assert without(document, "id", "created_at") == {"name": "Friends", "description": ""}
        assert api.get(path_of("audiences")).json() == {
            "count": 1,
            "next": None,
            "previous": None,
            "results": [document],
        }
        path = path_of("audiences", document["id"])
        assert api.patch(path, {"description": "Old ones"}).json()["description"] == "Old ones"
        assert api.delete(path).status_code == 204
        problem(api.get(path), 404)

    def test_has_a_name_of_its_own_whatever_the_case(self, api: APIClient, audience: Audience) -> None:
        assert faults(api.post(path_of("audiences"), {"name": "FRIENDS"})) == {
            "name": "An audience with this name exists already."
        }
        other = Audience.objects.create(name="Others")
        assert faults(api.patch(path_of("audiences", other.pk), {"name": "friends"})).keys() == {"name"}
        assert sorted(Audience.objects.values_list("name", flat=True)) == ["Friends", "Others"]

    def test_that_a_campaign_refers_to_is_kept(self, api: APIClient, campaign: Campaign) -> None:
        document = problem(api.delete(path_of("audiences", campaign.audience_id)), 409)
        assert document["detail"] == "It cannot be deleted: campaigns refer to it."
        assert Recipient.objects.count() == 5


class TestRecipient:
    def test_is_stored_as_the_importer_would(self, api: APIClient, audience: Audience) -> None:
        answer = api.post(
            path_of("recipients"),
            {
                "audience": audience.pk,
                "email": " Asha@BÜCHER.example\u200b",
                "name": "Asha",
                "timezone": "Asia/Kolkata",
                "attributes": {"city": "Pune", "orders": [{"id": 1}]},
            },
        )
        assert answer.status_code == 201
        assert without(answer.json(), "id", "created_at", "updated_at") == {
            "audience": audience.pk,
            "email": "Asha@xn--bcher-kva.example",
            "name": "Asha",
            "timezone": "Asia/Kolkata",
            "attributes": {"city": "Pune", "orders": [{"id": 1}]},
        }

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"email": "mül ler@example.com"}, "email"),
            ({"email": "nobody"}, "email"),
            ({"email": ""}, "email"),
            ({"email": "a@b@example.com"}, "email"),
            ({"email": "a\0@example.com"}, "email"),
            ({"email": "a@example.com\r\nBcc: b@example.com"}, "email"),
            ({"email": f"{'a' * 64}@{'b' * 60}.{'c' * 60}.{'d' * 60}.{'e' * 60}.com"}, "email"),
            ({"email": None}, "email"),
            ({"email": {"a": 1}}, "email"),
            ({"name": "A\nB"}, "name"),
            ({"name": "A\0"}, "name"),
            ({"name": "A" * 201}, "name"),
            ({"timezone": "Mars/Olympus"}, "timezone"),
            ({"attributes": "city"}, "attributes"),
            ({"attributes": {"city": "\0"}}, "attributes"),
            ({"attributes": {"\0": "Pune"}}, "attributes"),
            ({"attributes": {"a": [{"b": "\0"}]}}, "attributes"),
            ({"audience": 10**30}, "audience"),
            ({"audience": True}, "audience"),
            ({"audience": {}}, "audience"),
            ({"audience": None}, "audience"),
        ],
    )
    def test_that_is_wrong_is_refused_by_field(
        self, api: APIClient, audience: Audience, fields: dict[str, Any], field: str
    ) -> None:
        body = {"audience": audience.pk, "email": "asha@example.com", **fields}
        assert faults(api.post(path_of("recipients"), body)).keys() == {field}
        assert Recipient.objects.count() == 5

    def test_is_in_an_audience_once_whatever_the_case(self, api: APIClient, audience: Audience) -> None:
        body = {"audience": audience.pk, "email": "P0@Example.com"}
        assert faults(api.post(path_of("recipients"), body)) == {
            "email": "This audience has a recipient with this e-mail address already."
        }
        second = Recipient.objects.get(email="p1@example.com")
        answer = api.patch(path_of("recipients", second.pk), {"email": "p0@example.com"})
        assert faults(answer).keys() == {"email"}
        second.refresh_from_db()
        assert second.email == "p1@example.com"

    def test_is_found_by_audience_and_text(self, api: APIClient, audience: Audience) -> None:
        other = Audience.objects.create(name="Others")
        Recipient.objects.create(audience=other, email="p0@example.com", name="Zoe")

        def emails(query: str) -> list[str]:
            rows = api.get(f"{path_of('recipients')}?{query}").json()["results"]
            return [row["email"] for row in rows]

        assert emails(f"audience={other.pk}") == ["p0@example.com"]
        assert emails(f"audience={audience.pk}&search=P3@") == ["p3@example.com"]
        assert emails("search=zoe") == ["p0@example.com"]
        assert len(emails("")) == 6
        assert emails(f"audience={audience.pk}&page_size=2&page=3") == ["p4@example.com"]


class TestSuppression:
    def test_is_kept_in_lower_case(self, api: APIClient) -> None:
        answer = api.post(path_of("suppressions"), {"email": "Asha@Example.com", "note": "By phone."})
        assert answer.status_code == 201
        assert without(answer.json(), "id", "created_at") == {
            "email": "asha@example.com",
            "reason": "manual",
            "note": "By phone.",
            "campaign": None,
        }

    def test_stands_once(self, api: APIClient) -> None:
        api.post(path_of("suppressions"), {"email": "asha@example.com"})
        assert faults(api.post(path_of("suppressions"), {"email": "ASHA@example.com"})) == {
            "email": "This address is suppressed already."
        }
        assert Suppression.objects.count() == 1

    def test_can_be_lifted_but_not_rewritten(self, api: APIClient) -> None:
        path = path_of(
            "suppressions", api.post(path_of("suppressions"), {"email": "a@example.com"}).json()["id"]
        )
        problem(api.patch(path, {"email": "b@example.com"}), 405)
        assert api.delete(path).status_code == 204
        assert not Suppression.objects.exists()

    def test_with_a_reason_nested_without_end_is_refused(self, api: APIClient) -> None:
        answer = api.post(
            path_of("suppressions"),
            b'{"email": "a@example.com", "reason": ' + b"[" * 250 + b"]" * 250 + b"}",
            content_type="application/json",
        )
        assert faults(answer).keys() == {"reason"}
        assert not Suppression.objects.exists()

    def test_names_the_reasons_there_are(self, api: APIClient) -> None:
        answer = api.post(path_of("suppressions"), {"email": "a@example.com", "reason": "whim"})
        assert faults(answer) == {"reason": '"whim" is not a valid choice.'}
        assert not Suppression.objects.exists()
