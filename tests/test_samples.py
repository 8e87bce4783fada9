"""The sample recipients, the commands that make them, and the sample e-mails."""

import csv
import re
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from itertools import islice
from pathlib import Path
from threading import Barrier
from zoneinfo import available_timezones

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.core.validators import validate_email
from django.db import connection
from openpyxl import load_workbook

from campaigns.composing import CompiledMessage, Sender, compile_message
from campaigns.importing.samples import SampleRecipient, UnknownFormat, sample_recipients, write_samples
from campaigns.models import EmailTemplate

EMAILS = settings.BASE_DIR / "templates" / "emails"
SAMPLE_CSV = settings.BASE_DIR / "campaigns" / "samples" / "sample_recipients.csv"
NAMES = ["event_invitation", "newsletter", "product_update", "promotional", "welcome_email"]
ALLOWED = {*SampleRecipient._fields, "unsubscribe_url"} - {"timezone"}
UNSUBSCRIBE = "https://mail.example.com/u/7f3a"


def seed() -> str:
    said = StringIO()
    call_command("seed_templates", stdout=said)
    return said.getvalue()


def compiled(template: EmailTemplate) -> CompiledMessage:
    return compile_message(
        Sender("news@example.com"), subject=template.subject, html=template.html, text=template.text
    )


class TestSampleRecipients:
    def test_are_the_same_for_the_same_seed(self) -> None:
        assert list(sample_recipients(500, seed=7)) == list(sample_recipients(500, seed=7))

    def test_differ_for_another_seed(self) -> None:
        assert list(sample_recipients(500, seed=7)) != list(sample_recipients(500, seed=8))

    def test_begin_alike_however_many_are_asked_for(self) -> None:
        assert list(islice(sample_recipients(10**12), 100)) == list(sample_recipients(100))

    def test_repeat_no_address_in_a_hundred_thousand(self) -> None:
        assert len({recipient.email.lower() for recipient in sample_recipients(100_000)}) == 100_000

    def test_refuse_a_negative_number(self) -> None:
        with pytest.raises(ValueError, match="rows is -1; it must be 0 or more"):
            sample_recipients(-1)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with SAMPLE_CSV.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class TestSampleFile:
    def test_is_what_the_generator_writes(self, tmp_path: Path) -> None:
        write_samples(tmp_path / "again.csv", 2_000)
        assert (tmp_path / "again.csv").read_bytes() == SAMPLE_CSV.read_bytes()

    def test_has_2000_recipients_and_no_address_twice(self, rows: list[dict[str, str]]) -> None:
        assert len(rows) == 2_000
        assert len({row["email"].lower() for row in rows}) == 2_000

    def test_has_only_valid_addresses_in_reserved_domains(self, rows: list[dict[str, str]]) -> None:
        for row in rows:
            validate_email(row["email"])
            assert re.fullmatch(r"[a-z]+\.[a-z]+[0-9]+@example\.(com|net|org)", row["email"])

    def test_fills_every_column(self, rows: list[dict[str, str]]) -> None:
        assert tuple(rows[0]) == SampleRecipient._fields
        assert all(value and value == value.strip() for row in rows for value in row.values())

    def test_names_real_time_zones_mostly_that_of_india(self, rows: list[dict[str, str]]) -> None:
        zones = [row["timezone"] for row in rows]
        assert set(zones) <= available_timezones()
        assert len(set(zones)) >= 15
        assert zones.count("Asia/Kolkata") > 1_000

    @pytest.mark.parametrize(
        "letters", ["[\u00c0-\u017f]", "[\u0900-\u097f]", "[\u4e00-\u9fff]", "[\uac00-\ud7af]"]
    )
    def test_has_names_beyond_ascii(self, rows: list[dict[str, str]], letters: str) -> None:
        assert sum(bool(re.search(letters, row["name"])) for row in rows) >= 20


class TestMakeRecipients:
    def test_writes_the_same_recipients_as_csv_and_xlsx(self, tmp_path: Path) -> None:
        for extension in ("csv", "xlsx"):
            call_command(
                "make_recipients", str(tmp_path / f"r.{extension}"), rows=300, seed=5, stdout=StringIO()
            )

        with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
            from_csv = [tuple(row) for row in csv.reader(file)]
        workbook = load_workbook(tmp_path / "r.xlsx", read_only=True)
        from_xlsx = list(workbook.worksheets[0].iter_rows(values_only=True))
        workbook.close()
        assert from_csv == from_xlsx == [SampleRecipient._fields, *map(tuple, sample_recipients(300, seed=5))]

    def test_says_what_it_wrote(self, tmp_path: Path) -> None:
        said = StringIO()
        call_command("make_recipients", str(tmp_path / "r.csv"), rows=1_000, stdout=said)
        size = (tmp_path / "r.csv").stat().st_size
        assert said.getvalue() == f"{tmp_path / 'r.csv'}: 1,000 recipients, {size:,} bytes\n"

    @pytest.mark.parametrize(
        ("name", "problem"),
        [
            ("r.ods", "r.ods: the extension is '.ods'; write to .csv or .xlsx"),
            ("recipients", "recipients: the extension is missing; write to .csv or .xlsx"),
        ],
    )
    def test_refuses_another_extension_and_writes_nothing(
        self, tmp_path: Path, name: str, problem: str
    ) -> None:
        with pytest.raises(CommandError) as caught:
            call_command("make_recipients", str(tmp_path / name))
        assert str(caught.value) == problem
        assert list(tmp_path.iterdir()) == []

    def test_refuses_more_than_a_sheet_holds(self, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match="--rows: a sheet holds 1,048,575 recipients"):
            call_command("make_recipients", str(tmp_path / "r.xlsx"), rows=1_048_576)
        assert list(tmp_path.iterdir()) == []

    def test_refuses_a_negative_number_of_rows(self, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match="'-1' is not a number of rows"):
            call_command("make_recipients", "--rows=-1", str(tmp_path / "r.csv"))

    def test_leaves_an_existing_file_alone_when_it_cannot_finish(self, tmp_path: Path) -> None:
        (tmp_path / "r.csv").write_text("mine")
        with pytest.raises(ValueError, match="rows is -1"):
            write_samples(tmp_path / "r.csv", -1)
        with pytest.raises(UnknownFormat):
            write_samples(tmp_path / "r.txt", 1)
        assert (tmp_path / "r.csv").read_text() == "mine"


@pytest.mark.django_db
class TestSeedTemplates:
    def test_creates_the_five(self) -> None:
        assert seed() == "".join(
            f"{name}: created\n"
            for name in ("welcome_email", "newsletter", "promotional", "event_invitation", "product_update")
        )
        assert list(EmailTemplate.objects.values_list("name", flat=True)) == NAMES
        for template in EmailTemplate.objects.all():
            template.full_clean()

    def test_changes_nothing_the_second_time(self) -> None:
        seed()
        before = list(EmailTemplate.objects.values())
        assert seed().count("exists, left as it is\n") == 5
        assert list(EmailTemplate.objects.values()) == before

    def test_leaves_an_edited_template_alone_whatever_its_case(self) -> None:
        EmailTemplate.objects.create(name="Newsletter", subject="Ours", text="Our own words")
        assert "newsletter: exists, left as it is\n" in seed()
        assert EmailTemplate.objects.count() == 5
        edited = EmailTemplate.objects.get(name__iexact="newsletter")
        assert (edited.name, edited.subject, edited.text, edited.html) == (
            "Newsletter",
            "Ours",
            "Our own words",
            "",
        )

    def test_brings_back_one_that_was_deleted(self) -> None:
        seed()
        EmailTemplate.objects.filter(name="promotional").delete()
        assert "promotional: created\n" in seed()
        assert EmailTemplate.objects.count() == 5


@pytest.mark.django_db(transaction=True)
class TestSeedTemplatesAtOnce:
    def test_creates_each_once(self) -> None:
        together = Barrier(4)

        def seed_together() -> str:
            try:
                together.wait(timeout=120)
                return seed()
            finally:
                connection.close()

        with ThreadPoolExecutor(4) as threads:
            said = "".join(run.result() for run in [threads.submit(seed_together) for _ in range(4)])
        assert said.count(": created\n") == 5
        assert said.count(": exists, left as it is\n") == 15
        assert list(EmailTemplate.objects.values_list("name", flat=True)) == NAMES


@pytest.mark.django_db
class TestSampleEmails:
    @pytest.fixture(params=NAMES)
    def template(self, request: pytest.FixtureRequest) -> EmailTemplate:
        seed()
        return EmailTemplate.objects.get(name=request.param)

    def test_name_only_what_every_sample_recipient_has(self, template: EmailTemplate) -> None:
        variables = compiled(template).variables
        assert variables <= ALLOWED
        assert "unsubscribe_url" in variables

    def test_address_each_sample_recipient(self, template: EmailTemplate) -> None:
        message = compiled(template)
        assert message.html is not None
        for recipient in sample_recipients(50):
            context = recipient._asdict() | {"unsubscribe_url": UNSUBSCRIBE}
            html, text = message.html.render(context), message.text.render(context)
            assert f'<a href="{UNSUBSCRIBE}"' in html
            assert f"Unsubscribe: {UNSUBSCRIBE}\n" in text
            assert f"Hello {recipient.first_name}," in text
            for part in (html, text, message.subject.render(context)):
                assert not re.search(r"\{\{|\{%|%\}|\}\}", part)

    def test_read_well_for_somebody_of_whom_only_the_address_is_known(self, template: EmailTemplate) -> None:
        message = compiled(template)
        context = {"email": "a@example.com", "name": "", "unsubscribe_url": UNSUBSCRIBE}
        assert message.html is not None
        assert "Hello there," in message.html.render(context) or template.name == "promotional"
        assert "Hello there," in message.text.render(context)
        assert not re.match(r"[,\s]", message.subject.render(context))

    def test_load_nothing_from_elsewhere(self, template: EmailTemplate) -> None:
        assert not re.search(r"<img|<link|<script|<iframe|url\(|@import|\bsrc=|background=", template.html)

    def test_carry_what_mail_clients_and_readers_need(self, template: EmailTemplate) -> None:
        html = template.html
        assert html.startswith("<!doctype html>\n")
        assert '<html lang="en"' in html
        assert re.search(r"<title>[^<]+</title>", html)
        assert '<meta name="color-scheme" content="light dark">' in html
        assert "@media only screen and (max-width: 600px)" in html
        assert "@media (prefers-color-scheme: dark)" in html
        assert "mso-hide:all" in html, "the preheader is hidden in Outlook too"
        assert "Bengaluru 560001, India" in html
        assert html.count("<table") == html.count('<table role="presentation"') == html.count("</table>")
        assert not re.search(r"display:\s*(flex|grid)|position:", html)
        assert len(html.encode()) < 102_000, "Gmail clips a message at 102 KB"
