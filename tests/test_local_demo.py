"""The demo's proof: it holds for a mailbox with everybody's mail in it, and for no other."""

import shutil
from pathlib import Path

import pytest
from redis import Redis

from campaigns import dispatch
from campaigns.models import Campaign, DeliveryLog, Suppression
from campaigns.providers import Line, Smtp
from campaigns.providers.conversation import SmtpAccount
from campaigns.throttle import Limit
from mailer_project.local import mailbox
from mailer_project.management.commands.run_demo import SAMPLE, addresses_in, problems_of
from tests.campaign_helpers import clock, send, started
from tests.test_local_mailbox import running

FIVE = [f"p{number}@example.com" for number in range(5)]


def mailed(campaign: Campaign, redis: Redis, directory: Path) -> Path:
    """Send the campaign to a local mailbox in this directory, to its end; returns the Maildir."""
    with running(directory) as (_, port):
        account = SmtpAccount("127.0.0.1", port, use_tls=False, timeout=10)
        line = Line((Smtp(account, Limit("smtp", 0), window=10),), redis)
        for batch_id in started(campaign):
            send(batch_id, line)
    dispatch.finalize(campaign.pk, now=clock())
    return directory / "mail"


@pytest.fixture
def maildir(campaign: Campaign, redis: Redis, tmp_path: Path) -> Path:
    """The mailbox after the campaign to five people has ended."""
    return mailed(campaign, redis, tmp_path)


def a_mail(maildir: Path) -> Path:
    return min((maildir / "new").iterdir())


class TestTheSampleFile:
    def test_has_two_thousand_people(self) -> None:
        addresses = addresses_in(SAMPLE)
        assert len(addresses) == len(set(addresses)) == 2000

    def test_is_counted_with_its_doubles(self, tmp_path: Path) -> None:
        file = tmp_path / "people.csv"
        file.write_text('email,name\nA@example.com,"two\nlines"\na@example.com,\n', encoding="utf-8")
        assert addresses_in(file) == ["a@example.com", "a@example.com"]


class TestTheProof:
    def test_holds_when_everybody_has_one_mail(self, campaign: Campaign, maildir: Path) -> None:
        assert problems_of(campaign, FIVE, maildir) == []

    def test_fails_when_a_mail_is_missing(self, campaign: Campaign, maildir: Path) -> None:
        a_mail(maildir).unlink()
        assert problems_of(campaign, FIVE, maildir) == ["4 of 5 mails are in the mailbox"]

    def test_fails_when_a_mail_is_there_twice(self, campaign: Campaign, maildir: Path) -> None:
        shutil.copy(a_mail(maildir), maildir / "new" / "copy")
        assert problems_of(campaign, FIVE, maildir) == ["the mailbox has 1 second copies"]

    def test_does_not_take_a_double_for_what_is_missing(self, campaign: Campaign, maildir: Path) -> None:
        lost, kept, *_ = sorted((maildir / "new").iterdir())
        shutil.copy(kept, lost)
        assert problems_of(campaign, FIVE, maildir) == [
            "4 of 5 mails are in the mailbox",
            "the mailbox has 1 second copies",
        ]

    def test_fails_when_the_import_left_somebody_out(self, campaign: Campaign, maildir: Path) -> None:
        assert problems_of(campaign, [*FIVE, "p5@example.com"], maildir) == [
            "the file has 6 rows, the campaign 5",
            "the file has 6 rows, 5 mails were sent",
            "the addresses in the file are not those that were sent to",
            "the mails sent do not have 6 different Message-IDs",
            "5 of 6 mails are in the mailbox",
        ]

    def test_fails_when_somebody_else_was_written_to(self, campaign: Campaign, maildir: Path) -> None:
        assert problems_of(campaign, [*FIVE[:4], "q@example.com"], maildir) == [
            "the addresses in the file are not those that were sent to"
        ]

    def test_fails_when_two_mails_share_a_message_id(self, campaign: Campaign, maildir: Path) -> None:
        first, second = campaign.deliveries.order_by("id")[:2]
        DeliveryLog.objects.filter(id=second.id).update(message_id=first.message_id)
        mailbox.Maildir(maildir).add(
            "sender@example.com", [second.email], f"Message-ID: <{first.message_id}>\r\n\r\n".encode()
        )
        assert problems_of(campaign, FIVE, maildir) == ["the mails sent do not have 5 different Message-IDs"]

    def test_fails_when_a_mail_has_another_message_id_than_the_ledger_says(
        self, campaign: Campaign, maildir: Path
    ) -> None:
        DeliveryLog.objects.filter(email=FIVE[0]).update(message_id="other@example.com")
        assert problems_of(campaign, FIVE, maildir) == ["4 of 5 mails are in the mailbox"]

    def test_fails_when_somebody_was_suppressed(
        self, campaign: Campaign, redis: Redis, tmp_path: Path
    ) -> None:
        Suppression.objects.create(email=FIVE[0])
        assert problems_of(campaign, FIVE, mailed(campaign, redis, tmp_path)) == [
            "the file has 5 rows, 4 mails were sent",
            "the addresses in the file are not those that were sent to",
            "the mails sent do not have 5 different Message-IDs",
            "4 of 5 mails are in the mailbox",
        ]

    def test_fails_before_the_campaign_has_ended(self, campaign: Campaign, tmp_path: Path) -> None:
        assert "the campaign is draft, not completed" in problems_of(campaign, FIVE, tmp_path)
