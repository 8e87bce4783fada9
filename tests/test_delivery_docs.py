"""docs/delivery.md says what the rules of failure do, and the providers do what it says."""

import re

import pytest
from django.conf import settings

from campaigns.composing import Letter
from campaigns.models import DeliveryStatus
from campaigns.providers import Answer, Provider, SendGrid, Trouble, Verdict
from campaigns.retries import Consequence, Stage, sendgrid_answer, smtp_reply
from campaigns.throttle import Limit
from tests.letters import letters, message
from tests.mail_servers import sendgrid_server
from tests.scripted_smtp import scripted, smtp

DOCUMENT: str = (settings.BASE_DIR / "docs" / "delivery.md").read_text(encoding="utf-8")

BECOMES = {
    Verdict.ACCEPTED: "sent",
    Verdict.REFUSED: "failed",
    Verdict.DEFERRED: "deferred",
    Verdict.UNSENT: "pending",
    Verdict.UNCONFIRMED: "unconfirmed",
}
COMMANDS = {Stage.MAIL: "MAIL", Stage.RCPT: "RCPT", Stage.DATA: "DATA", Stage.DOT: "DOT"}


def table(heading: str) -> list[list[str]]:
    """The cells of the rows of the table that begins with this heading row."""
    _, found, after = DOCUMENT.partition(f"{heading}\n")
    assert found, heading
    lines = after.splitlines()[1:]
    rows = lines[: next((n for n, line in enumerate(lines) if not line.startswith("|")), len(lines))]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


SMTP = table("| stage | answer | consequence | the mail | why |")
BREAKS = table("| stage | what breaks | the mail |")
SENDGRID = table("| status | consequence | the mails | why |")
CONSEQUENCES = table("| consequence | the mail | the batch | the provider |")


def reply(row: list[str]) -> tuple[Stage, int, str]:
    """The stage, the code and the text of a row's answer."""
    code, _, text = row[1].strip("`").partition(" ")
    return Stage(row[0]), int(code), text


def first_becomes(sending: Answer) -> str:
    return BECOMES[sending.outcomes[0].verdict]


def send(provider: Provider, *group: Letter) -> Answer:
    with provider:
        return provider.send(message(), group, still_ours=lambda: True)


class TestTheTables:
    def test_explain_every_consequence(self) -> None:
        assert [row[0] for row in CONSEQUENCES] == [each.value for each in Consequence]

    def test_have_an_example_of_each(self) -> None:
        for rows, every in ((SMTP, set(Consequence)), (SENDGRID, set(Consequence) - {*RARE})):
            named = {row[1 if rows is SENDGRID else 2] for row in rows} - {"accepted"}
            assert named == {each.value for each in every}

    def test_have_an_example_of_each_stage(self) -> None:
        assert {Stage(row[0]) for row in SMTP} == set(Stage)
        assert [Stage(row[0]) for row in BREAKS] == list(COMMANDS)


# a request for many has no verdict on one recipient, and nothing is tried later that was not asked for
RARE = (Consequence.RECIPIENT_BAD, Consequence.TRY_LATER)


class TestSmtp:
    @pytest.mark.parametrize("row", SMTP, ids=lambda row: f"{row[0]}: {row[1]}")
    def test_is_judged_as_the_table_says(self, row: list[str]) -> None:
        assert smtp_reply(*reply(row)).value == row[2]

    @pytest.mark.parametrize(
        "row", [row for row in SMTP if row[0] != Stage.CONNECT.value], ids=lambda row: f"{row[0]}: {row[1]}"
    )
    def test_leaves_the_mail_as_the_table_says(self, row: list[str]) -> None:
        with scripted(**{COMMANDS[Stage(row[0])]: row[1].strip("`")}) as server:
            sending = send(smtp(server.port), *letters(1))
        assert first_becomes(sending) == row[3]
        assert (sending.trouble is None) == (row[2] in ("recipient bad", "message bad", "try later"))
        if sending.trouble:
            assert (sending.trouble.retry_after == 3600) == (row[2] == "slow down")

    @pytest.mark.parametrize(
        "row", [row for row in SMTP if row[0] == Stage.CONNECT.value], ids=lambda row: str(row[1])
    )
    def test_lets_nothing_leave_when_it_does_not_let_us_in(self, row: list[str]) -> None:
        with scripted(EHLO="250-scripted\r\n250 AUTH PLAIN", AUTH=row[1].strip("`")) as server:
            with pytest.raises(Trouble) as trouble:
                smtp(server.port, user="me", password="wrong").open()
            assert "MAIL" not in server.commands
        assert (trouble.value.retry_after == 3600) == (row[2] == "slow down")

    @pytest.mark.parametrize("row", BREAKS, ids=lambda row: str(row[0]))
    def test_leaves_the_mail_as_the_table_says_without_an_answer(self, row: list[str]) -> None:
        with scripted(**{COMMANDS[Stage(row[0])]: "drop"}) as server:
            assert first_becomes(send(smtp(server.port), *letters(1))) == row[2]


class TestSendGrid:
    @pytest.mark.parametrize("row", SENDGRID, ids=lambda row: str(row[0]))
    def test_is_judged_and_done_as_the_table_says(self, row: list[str]) -> None:
        consequence = sendgrid_answer(int(row[0]))
        assert (consequence.value if consequence else "accepted") == row[1]
        with sendgrid_server() as server:
            server.answers = [(int(row[0]), {}, "")]
            sending = send(SendGrid("SG.test", Limit("sendgrid", 0), host=server.url), *letters(1))
        assert first_becomes(sending) == row[2]
        assert (sending.trouble is None) == (row[1] in ("accepted", "message bad"))

    @pytest.mark.parametrize("status", [row[0] for row in SENDGRID if "halved" in row[3]])
    def test_halves_what_is_refused_whole(self, status: str) -> None:
        with sendgrid_server() as server:
            server.answers = [(int(status), {}, "")]
            sending = send(SendGrid("SG.test", Limit("sendgrid", 0), host=server.url), *letters(2))
            assert len(server.requests) == 3
        assert [outcome.verdict for outcome in sending.outcomes] == [Verdict.ACCEPTED] * 2


class TestTheText:
    def test_names_the_terms_of_the_equation(self) -> None:
        (terms,) = re.findall(r"`total = (.*?)`", DOCUMENT)
        assert terms.split(" + ") == [status.value for status in DeliveryStatus]
