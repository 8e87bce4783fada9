"""Files that go with a template's mails: limits, the API, the admin, and what a started campaign keeps."""

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from campaigns import attachments
from campaigns.attachments import AttachmentRefused
from campaigns.models import Attachment, Campaign, EmailTemplate
from tests.admin_helpers import client_of, superuser
from tests.api_helpers import faults, path_of
from users.models import User

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def limits(settings: Any) -> None:
    settings.ATTACHMENTS_MAX, settings.ATTACHMENT_MAX_BYTES = 2, 100
    settings.ATTACHMENTS_MAX_TOTAL_BYTES = 150


def upload(api: APIClient, template: EmailTemplate, name: str, content: bytes) -> Any:
    fields = {"template": template.pk, "file": SimpleUploadedFile(name, content)}
    return api.post(path_of("attachments"), fields, format="multipart")


REFUSED = [
    ([("a.txt", b"x" * 101)], "a.txt: it has 101 bytes; 1 to 100 are allowed."),
    ([("a.txt", b"")], "a.txt: it has 0 bytes; 1 to 100 are allowed."),
    (
        [("a.txt", b"x" * 100), ("b.txt", b"x" * 51)],
        "Together the files have 151 bytes; at most 150 are allowed.",
    ),
    ([("a.txt", b"x"), ("A.TXT", b"x")], "Two files have the same name."),
    ([("a", b"x"), ("b", b"x"), ("c", b"x")], "There are 3 files; at most 2 are allowed."),
    ([("x" * 101, b"x")], f"'{'x' * 99}: A file's name has 1 to 100 characters."),
]


class TestLimits:
    @pytest.mark.parametrize(("files", "words"), REFUSED)
    def test_name_the_file_and_the_limit(
        self, template: EmailTemplate, files: list[tuple[str, bytes]], words: str
    ) -> None:
        for name, content in files[:-1]:
            attachments.add(template, name, content)
        with pytest.raises(AttachmentRefused) as refused:
            attachments.add(template, *files[-1])
        assert str(refused.value) == words
        assert template.attachments.count() == len(files) - 1


class TestApi:
    def test_takes_lists_and_removes_files(self, api: APIClient, template: EmailTemplate) -> None:
        answer = upload(api, template, "Übersicht.pdf", b"\0%PDF")
        assert answer.status_code == 201
        stored = answer.json()
        assert (stored["template"], stored["name"], stored["size"]) == (template.pk, "Übersicht.pdf", 5)
        assert "file" not in stored
        assert bytes(Attachment.objects.get().content) == b"\0%PDF"
        assert api.get(path_of("attachments"), {"template": template.pk}).json()["results"] == [stored]
        assert api.delete(path_of("attachments", stored["id"])).status_code == 204
        assert not Attachment.objects.exists()

    def test_names_the_limit(self, api: APIClient, template: EmailTemplate) -> None:
        found = faults(upload(api, template, "a.txt", b"x" * 101))
        assert found == {"file": "a.txt: it has 101 bytes; 1 to 100 are allowed."}
        assert not Attachment.objects.exists()

    @pytest.mark.parametrize("account", [None, "reader@example.com"])
    def test_is_for_operators(self, template: EmailTemplate, account: str | None) -> None:
        client = APIClient()
        if account:
            client.force_authenticate(User.objects.create_user(account, "pass-word-4"))
        kept = attachments.add(template, "a.txt", b"x")
        answers = [
            upload(client, template, "b.txt", b"x"),
            client.get(path_of("attachments")),
            client.delete(path_of("attachments", kept.pk)),
        ]
        assert {answer.status_code for answer in answers} == {403 if account else 401}
        assert Attachment.objects.count() == 1


class TestAdmin:
    def _save(self, boss: Client, template: EmailTemplate, *files: tuple[str, bytes], **more: object) -> Any:
        stored = template.attachments.count()
        data: dict[str, object] = {
            "name": template.name, "subject": template.subject, "html": template.html, "text": "",
            "preheader": "", "description": "", "inline_css": "on",
            "attachments-TOTAL_FORMS": stored + len(files), "attachments-INITIAL_FORMS": stored, **more,
        }  # fmt: skip
        for number, row in enumerate(template.attachments.order_by("id")):
            data[f"attachments-{number}-id"] = row.pk
            data[f"attachments-{number}-template"] = template.pk
        for number, (name, content) in enumerate(files, start=stored):
            data[f"attachments-{number}-file"] = SimpleUploadedFile(name, content)
        return boss.post(reverse("admin:campaigns_emailtemplate_change", args=[template.pk]), data)

    def test_takes_and_removes_files(self, template: EmailTemplate) -> None:
        boss = client_of(superuser())
        assert self._save(boss, template, ("a.pdf", b"1"), ("b.pdf", b"22")).status_code == 302
        assert attachments.sizes_of(template) == [("a.pdf", 1), ("b.pdf", 2)]
        assert self._save(boss, template, **{"attachments-0-DELETE": "on"}).status_code == 302
        assert attachments.sizes_of(template) == [("b.pdf", 2)]

    def test_names_the_limit(self, template: EmailTemplate) -> None:
        answer = self._save(client_of(superuser()), template, ("a.pdf", b"x" * 101))
        assert answer.status_code == 200
        assert "a.pdf: it has 101 bytes; 1 to 100 are allowed." in answer.content.decode()
        assert attachments.sizes_of(template) == []


class TestAStartedCampaign:
    def test_keeps_its_files_when_the_template_lets_go_of_them(
        self, campaign: Campaign, template: EmailTemplate
    ) -> None:
        kept = attachments.add(template, "a.pdf", b"1")
        attachments.freeze(campaign)
        attachments.remove(kept)
        attachments.add(template, "A.pdf", b"2")
        assert [(file.name, file.content) for file in attachments.of_campaign(campaign)] == [("a.pdf", b"1")]
        assert [(file.name, file.content) for file in attachments.of_template(template)] == [("A.pdf", b"2")]

    def test_reads_them_once(self, campaign: Campaign, template: EmailTemplate) -> None:
        attachments.add(template, "a.pdf", b"1")
        attachments.freeze(campaign)
        assert attachments.of_campaign(campaign) is attachments.of_campaign(campaign)
