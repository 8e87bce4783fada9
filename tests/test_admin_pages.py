"""Every page of the admin answers, and lists of large tables count no further than they must."""

import re
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from django_celery_results.models import TaskResult

from campaigns.admin import large
from campaigns.models import Audience, Batch, Campaign, DeliveryLog, EmailTemplate, Recipient, Suppression
from tests.admin_helpers import PASSWORD, client_of, operator, superuser
from tests.campaign_helpers import started
from users.models import User

pytestmark = pytest.mark.django_db


@pytest.fixture
def boss() -> Client:
    return client_of(superuser())


def _models() -> list[str]:
    return sorted(f"{model._meta.app_label}_{model._meta.model_name}" for model in admin.site._registry)


class TestPages:
    def test_every_model_has_one(self) -> None:
        assert set(_models()) >= {
            "auth_group",
            "campaigns_audience",
            "campaigns_batch",
            "campaigns_campaign",
            "campaigns_deliverylog",
            "campaigns_emailtemplate",
            "campaigns_importjob",
            "campaigns_recipient",
            "campaigns_suppression",
            "django_celery_beat_crontabschedule",
            "django_celery_beat_periodictask",
            "django_celery_results_taskresult",
            "users_user",
        }

    @pytest.mark.parametrize("name", _models())
    def test_the_list_and_the_form_for_a_new_one_answer(self, boss: Client, name: str) -> None:
        assert boss.get(reverse(f"admin:{name}_changelist")).status_code == 200
        read_only = (
            *("campaigns_batch", "campaigns_deliverylog", "campaigns_importjob", "campaigns_outboundemail"),
            *("schedules_schedulerun", "schedules_taskrun"),
        )
        expected = 403 if name in read_only else 200
        assert boss.get(reverse(f"admin:{name}_add")).status_code == expected

    def test_the_page_of_each_row_answers(self, boss: Client, campaign: Campaign) -> None:
        started(campaign)
        interval = IntervalSchedule.objects.create(every=1, period="days")
        rows = [
            campaign,
            campaign.audience,
            campaign.template,
            Recipient.objects.first(),
            Batch.objects.first(),
            DeliveryLog.objects.first(),
            Suppression.objects.create(email="no@example.com"),
            User.objects.first(),
            interval,
            PeriodicTask.objects.create(name="a", task="b", interval=interval),
            TaskResult.objects.create(task_id="1"),
        ]
        for row in rows:
            assert row is not None
            name = f"admin:{row._meta.app_label}_{row._meta.model_name}"
            for page in ("change", "history"):
                assert boss.get(reverse(f"{name}_{page}", args=[row.pk])).status_code == 200, (name, page)

    def test_the_first_page_answers_in_each_state(self, boss: Client, campaign: Campaign) -> None:
        page = boss.get("/admin/")
        assert page.status_code == 200
        assert "Nothing is being sent." in page.text
        started(campaign)
        running = boss.get("/admin/").text
        assert f'id="campaign-{campaign.pk}-delivery"' in running
        assert f"live/?ids={campaign.pk}" in running
        assert "<b>5</b> pending" in running

    def test_an_operator_without_permissions_sees_no_numbers(self, campaign: Campaign) -> None:
        page = client_of(operator()).get("/admin/")
        assert page.status_code == 200
        assert campaign.name not in page.text
        assert 'class="mailer-card"' not in page.text

    def test_strangers_are_asked_to_sign_in(self, client: Client, campaign: Campaign) -> None:
        for address in ("/admin/", "/admin/campaigns/recipient/", "/admin/import-recipients/"):
            answer = client.get(address)
            assert (answer.status_code, answer["Location"].split("?")[0]) == (302, "/admin/login/")

    def test_signing_in_takes_the_address_in_any_case(self, client: Client) -> None:
        superuser()
        answer = client.post("/admin/login/", {"username": "BOSS@Example.com", "password": PASSWORD})
        assert (answer.status_code, answer["Location"]) == (302, "/admin/")


class TestSorting:
    """?o= names columns by their numbers; anybody can type it."""

    @pytest.mark.parametrize("name", _models())
    def test_by_any_column_shows_each_row_once(self, boss: Client, campaign: Campaign, name: str) -> None:
        started(campaign)
        Suppression.objects.create(email="no@example.com", campaign=campaign)
        page = reverse(f"admin:{name}_changelist")
        plain, asked = _list_and_queries(boss, page)
        for typed in (*range(1, 10), "-2", "-1.-2.-3.-4.-5.-6.-7.-8.-9", "99.-99.x"):
            sorted_by, queries = _list_and_queries(boss, page, o=str(typed))
            assert len(queries) <= len(asked), (name, typed)
            assert not any("OFFSET" in query and query.count(" JOIN ") > 2 for query in queries)
            assert sorted(row.pk for row in sorted_by.result_list) == sorted(
                row.pk for row in plain.result_list
            )
            if isinstance(sorted_by.model_admin, large.Large):
                assert {*sorted_by.queryset.query.order_by} <= {*plain.queryset.query.order_by, "-pk"}

    @pytest.mark.parametrize("name", _models())
    def test_no_column_has_the_name_of_a_relation_to_many(self, boss: Client, name: str) -> None:
        listed = boss.get(reverse(f"admin:{name}_changelist")).context["cl"]
        to_many = {
            field.name
            for field in listed.lookup_opts.get_fields(include_hidden=True)
            if field.one_to_many or field.many_to_many
        }
        assert not to_many & set(listed.list_display)

    def test_by_a_heading_sorts(self, boss: Client) -> None:
        for letter in "BCA":
            Audience.objects.create(name=letter)
        listed, _ = _list_and_queries(boss, reverse("admin:campaigns_audience_changelist"), o="-1")
        assert [audience.name for audience in listed.result_list] == ["C", "B", "A"]


def _list_and_queries(client: Client, page: str, **typed: str) -> tuple[Any, list[str]]:
    with CaptureQueriesContext(connection) as queries:
        answer = client.get(page, typed)
    assert answer.status_code == 200, (page, typed)
    return answer.context["cl"], [query["sql"] for query in queries.captured_queries]


class TestUsers:
    def test_are_added_with_an_address_and_a_password(self, boss: Client) -> None:
        answer = boss.post(
            reverse("admin:users_user_add"),
            {
                "email": "new@example.com", "name": "New", "timezone": "Asia/Kolkata",
                "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD,
            },
        )  # fmt: skip
        assert answer.status_code == 302
        assert User.objects.get(email="new@example.com").check_password(PASSWORD)

    def test_an_address_is_taken_whatever_its_case(self, boss: Client) -> None:
        answer = boss.post(
            reverse("admin:users_user_add"),
            {"email": "Boss@Example.com", "timezone": "UTC", "password1": PASSWORD, "password2": PASSWORD},
        )
        assert answer.status_code == 200
        assert "A user with this e-mail address exists already." in answer.text
        assert User.objects.count() == 1


class TestRights:
    """Somebody who may change accounts, and is no superuser."""

    @pytest.fixture
    def clerk(self) -> User:
        user = operator()
        rights = ("add_user", "change_user", "delete_user", "view_user", "change_group", "view_group")
        user.user_permissions.set(Permission.objects.filter(codename__in=rights))
        return user

    def _data(self, user: User, **typed: Any) -> dict[str, Any]:
        return {"email": user.email, "name": "New", "timezone": "UTC", "is_active": "on", **typed}

    def test_cannot_be_taken(self, clerk: User) -> None:
        group = Group.objects.create(name="All")
        permission = Permission.objects.get(codename="delete_campaign")
        before = set(clerk.user_permissions.all())
        forged = self._data(
            clerk, is_superuser="on", is_staff="", groups=[group.pk], user_permissions=[permission.pk]
        )
        page = reverse("admin:users_user_change", args=[clerk.pk])
        assert client_of(clerk).post(page, forged).status_code == 302
        clerk.refresh_from_db()
        assert (clerk.name, clerk.is_superuser, clerk.is_staff) == ("New", False, True)
        assert not clerk.groups.exists()
        assert set(clerk.user_permissions.all()) == before

    def test_cannot_be_given_with_a_new_account(self, clerk: User) -> None:
        data = {
            "email": "new@example.com", "timezone": "UTC", "usable_password": "true",
            "password1": PASSWORD, "password2": PASSWORD, "is_superuser": "on", "is_staff": "on",
        }  # fmt: skip
        client_of(clerk).post(reverse("admin:users_user_add"), data)
        made = User.objects.get(email="new@example.com")
        assert (made.is_superuser, made.is_staff) == (False, False)

    def test_cannot_be_given_to_a_group(self, clerk: User) -> None:
        group = Group.objects.create(name="All")
        forged = {"name": "New", "permissions": [Permission.objects.first().pk]}  # type: ignore[union-attr]  # there are many
        page = reverse("admin:auth_group_change", args=[group.pk])
        assert client_of(clerk).post(page, forged).status_code == 302
        group.refresh_from_db()
        assert group.name == "New"
        assert not group.permissions.exists()

    @pytest.mark.parametrize("rights", [{"is_superuser": True, "is_staff": True}, {"is_staff": True}])
    def test_another_operators_account_is_out_of_reach(self, clerk: User, rights: dict[str, bool]) -> None:
        chief, client = User.objects.create_user("chief@example.com", PASSWORD, **rights), client_of(clerk)
        page = client.get(reverse("admin:users_user_change", args=[chief.pk]))
        assert page.status_code == 200
        assert chief.password not in page.text
        assert 'name="email"' not in page.text
        password = {"password1": "another-long-one", "password2": "another-long-one"}
        for name, data in (
            ("users_user_change", self._data(chief)),
            ("auth_user_password_change", password),
            ("users_user_delete", {"post": "yes"}),
        ):
            assert client.post(reverse(f"admin:{name}", args=[chief.pk]), data).status_code == 403
        client.post(
            reverse("admin:users_user_changelist"),
            {"action": "delete_selected", "_selected_action": [chief.pk], "post": "yes"},
        )
        chief.refresh_from_db()
        assert chief.name == ""
        assert chief.check_password(PASSWORD)

    def test_suffice_for_ones_own_password_and_that_of_others_without_rights(self, clerk: User) -> None:
        client = client_of(clerk)
        for user in (User.objects.create_user("new@example.com", PASSWORD), clerk):
            new = {"password1": "another-long-one", "password2": "another-long-one"}
            page = reverse("admin:auth_user_password_change", args=[user.pk])
            assert client.post(page, new).status_code == 302
            user.refresh_from_db()
            assert user.check_password("another-long-one")

    def test_are_given_by_superusers(self, clerk: User) -> None:
        chief = superuser()
        page = reverse("admin:users_user_change", args=[clerk.pk])
        assert client_of(chief).post(page, self._data(clerk, is_superuser="on")).status_code == 302
        clerk.refresh_from_db()
        assert (clerk.is_superuser, clerk.is_staff) == (True, False)


class TestSuppressions:
    def test_are_kept_in_lower_case(self, boss: Client) -> None:
        boss.post(
            reverse("admin:campaigns_suppression_add"), {"email": "No.More@Example.COM", "reason": "manual"}
        )
        assert Suppression.objects.get().email == "no.more@example.com"

    def test_hold_addresses_as_they_are_sent_to(self, boss: Client) -> None:
        page = reverse("admin:campaigns_suppression_add")
        boss.post(page, {"email": " Zo ë@BÜCHER.example", "reason": "manual"})
        assert not Suppression.objects.exists()
        boss.post(page, {"email": " Zoë@BÜCHER.example\u200b", "reason": "manual"})
        assert Suppression.objects.get().email == "zoë@xn--bcher-kva.example"


class TestRecipients:
    def _post(self, boss: Client, audience: Audience, **typed: str) -> Any:
        data = {"audience": audience.pk, "email": "a@example.com", "attributes": "{}", **typed}
        return boss.post(reverse("admin:campaigns_recipient_add"), data)

    def test_are_stored_as_the_importer_would(self, boss: Client) -> None:
        audience = Audience.objects.create(name="New")
        typed = {"email": " Asha@BÜCHER.example\u200b", "attributes": '{"city": "Pune"}'}
        assert self._post(boss, audience, **typed).status_code == 302
        made = Recipient.objects.get()
        assert (made.email, made.attributes) == ("Asha@xn--bcher-kva.example", {"city": "Pune"})

    def test_without_attributes_have_an_empty_object(self, boss: Client) -> None:
        audience = Audience.objects.create(name="New")
        assert self._post(boss, audience, attributes="").status_code == 302
        assert Recipient.objects.get().attributes == {}

    @pytest.mark.parametrize(
        ("field", "typed"),
        [
            ("attributes", "[1]"),
            ("attributes", "null"),
            ("attributes", "{'city': 1}"),
            ("attributes", '{"city": "\\u0000"}'),
            ("attributes", "[" * 100_000),
            ("email", "mül ler@example.com"),
            ("email", "a@b@example.com"),
            ("email", "a\0@example.com"),
            ("email", ""),
            ("name", "A\nB"),
        ],
    )
    def test_that_are_wrong_are_refused_by_field(self, boss: Client, field: str, typed: str) -> None:
        answer = self._post(boss, Audience.objects.create(name="New"), **{field: typed})
        assert answer.status_code == 200
        assert answer.context["adminform"].form.errors.keys() == {field}
        assert not Recipient.objects.exists()


class TestAudiences:
    def test_show_how_many_recipients_they_have_in_one_query(self, boss: Client, audience: Audience) -> None:
        Audience.objects.create(name="Empty")
        page = boss.get(reverse("admin:campaigns_audience_changelist"))
        counts = re.findall(r'audience__id__exact=\d+">(\d+)</a>', page.text)
        assert counts == ["0", "5"]

    def test_are_deleted_with_their_recipients(self, boss: Client, audience: Audience) -> None:
        address = reverse("admin:campaigns_audience_delete", args=[audience.pk])
        assert "Friends: 5 recipients" in boss.get(address).text
        assert boss.post(address, {"post": "yes"}).status_code == 302
        assert (Audience.objects.count(), Recipient.objects.count()) == (0, 0)

    def test_stay_while_a_campaign_needs_them(self, boss: Client, campaign: Campaign) -> None:
        address = reverse("admin:campaigns_audience_delete", args=[campaign.audience_id])
        assert "campaign May, sent to Friends" in boss.get(address).text
        assert boss.post(address, {"post": "yes"}).status_code == 200
        assert Recipient.objects.count() == 5


class TestLargeLists:
    def test_are_counted_exactly_up_to_a_bound_and_estimated_above(
        self, boss: Client, audience: Audience, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        page = boss.get("/admin/campaigns/recipient/")
        assert "5 rows" in page.text
        assert "about 5" not in page.text
        monkeypatch.setattr(large, "EXACT", 3)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE campaigns_recipient")
        assert "about 5 rows" in boss.get("/admin/campaigns/recipient/").text

    def test_an_address_is_found_by_the_index(self, boss: Client, audience: Audience) -> None:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            page = boss.get("/admin/campaigns/recipient/", {"q": " P3@Example.com "})
        assert set(re.findall(r"p\d@example\.com", page.text)) == {"p3@example.com"}
        searches = [query["sql"] for query in queries if "LOWER(" in query["sql"]]
        assert searches
        assert all('"audience_id" IN (' in search for search in searches)

    def test_part_of_an_address_is_enough(self, boss: Client, audience: Audience) -> None:
        page = boss.get("/admin/campaigns/recipient/", {"q": "P3@"})
        assert set(re.findall(r"p\d@example\.com", page.text)) == {"p3@example.com"}

    def test_deliveries_are_filtered_by_campaign_and_status(self, boss: Client, campaign: Campaign) -> None:
        (batch_id,) = started(campaign)
        DeliveryLog.objects.filter(email="p1@example.com").update(status="sent")
        Batch.objects.filter(pk=batch_id).update(pending=4, sent=1)

        def shown(**filters: str | int) -> set[str]:
            page = boss.get("/admin/campaigns/deliverylog/", filters)
            assert page.status_code == 200
            return set(re.findall(r"p\d@example\.com", page.text))

        assert shown(campaign__id__exact=campaign.pk, status__exact="sent") == {"p1@example.com"}
        assert len(shown(campaign__id__exact=campaign.pk, status__exact="pending")) == 4
        assert shown(campaign__id__exact=campaign.pk, status__exact="failed") == set()
        assert shown(status__exact="nonsense") == set()

    def test_the_ledger_cannot_be_written(self, boss: Client, campaign: Campaign) -> None:
        started(campaign)
        row = DeliveryLog.objects.first()
        assert row is not None
        for page in ("change", "delete"):
            address = reverse(f"admin:campaigns_deliverylog_{page}", args=[row.pk])
            assert boss.post(address, {"status": "sent"}).status_code == 403
        assert set(DeliveryLog.objects.values_list("status", flat=True)) == {"pending"}


class TestTemplates:
    def _post(self, boss: Client, **parts: str) -> str:
        no_files = {"attachments-TOTAL_FORMS": "0", "attachments-INITIAL_FORMS": "0"}
        data = {"name": "T", "subject": "Hi", "html": "", "text": "", **no_files, **parts}
        return boss.post(reverse("admin:campaigns_emailtemplate_add"), data).text

    def test_what_cannot_be_compiled_is_refused_by_field_and_line(self, boss: Client) -> None:
        page = self._post(boss, html="<p>\n{{ name.upper() }}</p>")
        assert "Line 2: calls are not available" in page
        assert "Line 1:" in self._post(boss, subject="{{ oops", html="<p>a</p>")
        assert "It contains a line break" in self._post(boss, subject="a\nb", html="<p>a</p>")
        assert not EmailTemplate.objects.exists()

    def test_a_good_one_is_kept(self, boss: Client) -> None:
        self._post(boss, html="<p>{{ name }}</p>")
        assert EmailTemplate.objects.get().html == "<p>{{ name }}</p>"

    def test_the_preview_runs_no_scripts_and_asks_no_server(
        self, boss: Client, audience: Audience, template: EmailTemplate
    ) -> None:
        address = reverse("admin:campaigns_emailtemplate_preview", args=[template.pk])
        answer = boss.get(address)
        assert "Dear P 4 of Pune" in answer.text
        policy = answer["Content-Security-Policy"]
        assert "sandbox;" in policy
        assert "default-src 'none'" in policy
        assert "img-src data:;" in policy
        assert answer["X-Frame-Options"] == "SAMEORIGIN"
        assert "img-src data: https:" in boss.get(address, {"images": 1})["Content-Security-Policy"]

    def test_the_preview_of_the_form_stores_nothing(self, boss: Client, audience: Audience) -> None:
        answer = boss.post(
            reverse("admin:campaigns_emailtemplate_preview_form"),
            {"subject": "S", "html": "<b>{{ name }}, {{ nickname }}</b>"},
        )
        assert answer.text == "<b>P 4, [nickname]</b>"
        assert not EmailTemplate.objects.exists()

    def test_the_preview_says_why_there_is_none(self, boss: Client) -> None:
        data = {"subject": "S", "html": "{% if %}"}
        answer = boss.post(reverse("admin:campaigns_emailtemplate_preview_form"), data)
        assert "HTML, line 1" in answer.text
        summary = boss.post(reverse("admin:campaigns_emailtemplate_summary"), data)
        assert "HTML, line 1" in summary.text

    def test_the_preview_wants_the_permission(self, template: EmailTemplate) -> None:
        client = client_of(operator())
        address = reverse("admin:campaigns_emailtemplate_preview", args=[template.pk])
        assert client.get(address).status_code == 403
