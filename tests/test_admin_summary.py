"""What the admin says of a campaign's numbers, and of times."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from campaigns.admin.summary import Summary, colour_of_share
from campaigns.admin.times import from_zone, in_zone
from campaigns.models import Campaign, CampaignStatus
from campaigns.progress import Progress

EMPTY = Progress(
    id=1, status="in_progress", total=0, pending=0, deferred=0, sent=0, failed=0, suppressed=0, unconfirmed=0,
    cancelled=0, delivered=0, bounced=0, complained=0, rate_per_second=0.0, eta_seconds=None, started_at=None,
    finished_at=None, trouble="",
)  # fmt: skip


def summary(*, sent: int, failed: int, pending: int = 0, eta_seconds: int | None = None) -> Summary:
    progress = replace(
        EMPTY,
        total=sent + failed + pending,
        sent=sent,
        failed=failed,
        pending=pending,
        eta_seconds=eta_seconds,
    )
    return Summary(Campaign(name="May", status=CampaignStatus.IN_PROGRESS), progress)


class TestColour:
    @pytest.mark.parametrize(
        ("sent", "failed", "colour"),
        [
            (1000, 0, "green"),
            (951, 49, "green"),
            (95_001, 4_999, "green"),
            (950, 50, "yellow"),
            (19, 1, "yellow"),
            (800, 200, "yellow"),
            (4, 1, "yellow"),
            (799, 201, "red"),
            (79_999, 20_001, "red"),
            (0, 3, "red"),
        ],
    )
    def test_is_green_above_95_yellow_from_80_and_red_below(
        self, sent: int, failed: int, colour: str
    ) -> None:
        assert summary(sent=sent, failed=failed).share_colour == colour

    def test_is_red_where_the_numbers_do_not_add_up(self) -> None:
        lost = replace(summary(sent=1000, failed=0).progress, total=1001)
        assert Summary(Campaign(status=CampaignStatus.COMPLETED), lost).share_colour == "red"

    def test_is_neutral_before_anything_was_tried(self) -> None:
        assert colour_of_share(None) == "neutral"
        assert summary(sent=0, failed=0, pending=9).share_text == "nothing tried yet"


class TestText:
    @pytest.mark.parametrize(
        ("sent", "failed", "text"),
        [(2000, 0, "100 % accepted"), (1999, 1, "99.9 % accepted"), (1, 2, "33.3 % accepted")],
    )
    def test_rounds_down_so_that_100_means_all(self, sent: int, failed: int, text: str) -> None:
        assert summary(sent=sent, failed=failed).share_text == text

    def test_the_bar_shows_the_accepted_share_of_the_total(self) -> None:
        shown = summary(sent=30, failed=10, pending=60)
        assert shown.percent == 30
        assert [(part.label, part.mails, part.width) for part in shown.segments] == [
            ("accepted", 30, "30.00%"),
            ("failed", 10, "10.00%"),
        ]

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(None, ""), (0, "0 s left"), (59, "59 s left"), (60, "1 min left"), (61, "2 min left"),
         (7200, "2 h 00 min left")],
    )  # fmt: skip
    def test_the_time_left_is_rounded_up(self, seconds: int | None, text: str) -> None:
        assert summary(sent=1, failed=0, eta_seconds=seconds).eta == text


class TestTimes:
    def test_are_shown_in_the_zone_and_in_utc(self) -> None:
        moment = datetime(2026, 12, 1, 8, 30, tzinfo=UTC)
        assert in_zone(moment, "Asia/Kolkata") == "Tue 01 Dec 2026, 14:00 Asia/Kolkata (08:30 UTC)"

    def test_name_the_day_in_utc_where_it_is_another(self) -> None:
        moment = datetime(2026, 12, 1, 20, 0, tzinfo=UTC)
        assert (
            in_zone(moment, "Asia/Kolkata")
            == "Wed 02 Dec 2026, 01:30 Asia/Kolkata (Tue 01 Dec 2026, 20:00 UTC)"
        )

    @pytest.mark.parametrize(
        ("local", "utc"),
        [
            ("2026-03-29T02:30", "2026-03-29T01:30"),  # the clocks skip it: 03:30 summer time
            ("2026-10-25T02:30", "2026-10-25T00:30"),  # they show it twice: the first
            ("2026-07-01T09:00", "2026-07-01T07:00"),
        ],
    )
    def test_are_read_as_rfc_5545_says_when_the_clocks_change(self, local: str, utc: str) -> None:
        read = from_zone(datetime.fromisoformat(local), "Europe/Brussels")
        assert read == datetime.fromisoformat(utc).replace(tzinfo=UTC)
