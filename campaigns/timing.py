"""The moment at which each mail of a campaign may leave, written with the ledger's rows.

Recipients with the same moment share batches, and a batch rests until its moment has come.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from secrets import token_hex

from django.conf import settings
from django.db import connection
from django.db.backends.utils import CursorWrapper

from campaigns import audiences, preflight
from campaigns.models import Campaign
from campaigns.moments import next_time_of_day

CHUNK = 10_000  # rows


@dataclass(frozen=True, slots=True)
class ZoneProgress:
    """How far a campaign is in one time zone; `starts_at` is when its mails may leave there.

    total = pending + sent + other; `pending` takes in what is deferred, `other` what has ended otherwise.
    """

    timezone: str
    starts_at: datetime | None
    total: int
    pending: int
    sent: int
    other: int


# Queries of recipients and the moment from which each mail may leave.
_AT_ONCE = """
SELECT id, email, NULL::timestamptz AS not_before FROM campaigns_recipient WHERE audience_id = %(audience)s
"""
_WITH_MOMENTS = """
SELECT recipient.id, recipient.email, moment.not_before
  FROM campaigns_moment AS moment JOIN campaigns_recipient AS recipient ON recipient.id = moment.recipient_id
"""


def write_rows_at_once(campaign: Campaign) -> int:
    """Write the ledger's rows for the whole audience, whose mails may all leave at once; return how many."""
    return _write(campaign, _AT_ONCE)


def write_rows(campaign: Campaign, moments: Iterable[tuple[int, datetime | None]]) -> int:
    """Write the ledger's rows for these recipients, each with its moment, and return how many.

    Without a moment a mail may leave at once. Needs a transaction; recipients that are gone are left out.
    """
    left = iter(moments)
    with connection.cursor() as cursor:
        _make_table(cursor)
        # read before COPY begins: whoever yields them may be asking the database
        while some := list(islice(left, CHUNK)):
            with cursor.copy("COPY campaigns_moment (recipient_id, not_before) FROM STDIN") as copy:
                for row in some:
                    copy.write_row(row)
    return _write(campaign, _WITH_MOMENTS)


def write_rows_by_zone(campaign: Campaign) -> int:
    """Write the ledger's rows for the whole audience: each at the campaign's time of day in its own zone.

    That is the next such time after the campaign's start, so within a day of it. Recipients without a zone
    go by the campaign's.
    """
    zones = _zones_of(campaign)
    with connection.cursor() as cursor:
        _make_table(cursor)
        cursor.execute(
            """
            INSERT INTO campaigns_moment (recipient_id, not_before)
            SELECT recipient.id, zone.moment
              FROM campaigns_recipient AS recipient
              JOIN unnest(%s::text[], %s::timestamptz[]) AS zone (name, moment)
                ON zone.name = recipient.timezone
             WHERE recipient.audience_id = %s
            """,
            [list(zones), list(zones.values()), campaign.audience_id],
        )
    return _write(campaign, _WITH_MOMENTS)


def by_zone(campaign: Campaign) -> list[ZoneProgress]:
    """Return how far the campaign is in each zone, those that come first first.

    Empty unless it goes by its recipients' zones and has its ledger.
    """
    if campaign.local_time is None or campaign.ledger_built_at is None:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT coalesce(nullif(recipient.timezone, ''), %s) AS zone, count(*),
                   count(*) FILTER (WHERE delivery.status IN ('pending', 'deferred')),
                   count(*) FILTER (WHERE delivery.status = 'sent')
              FROM campaigns_deliverylog AS delivery
              LEFT JOIN campaigns_recipient AS recipient ON recipient.id = delivery.recipient_id
             WHERE delivery.campaign_id = %s
             GROUP BY zone
            """,
            [campaign.timezone, campaign.pk],
        )
        found = [
            ZoneProgress(zone, _moment(campaign, zone), total, pending, sent, total - pending - sent)
            for zone, total, pending, sent in cursor.fetchall()
        ]
    return sorted(found, key=lambda each: (each.starts_at or campaign.ledger_built_at, each.timezone))


def _zones_of(campaign: Campaign) -> dict[str, datetime | None]:
    """Return the moment of each zone that the audience names; '' is the campaign's own."""
    names = campaign.audience.recipients.order_by().values_list("timezone", flat=True).distinct()
    return {name: _moment(campaign, name or campaign.timezone) for name in names}


def _moment(campaign: Campaign, zone: str) -> datetime | None:
    if campaign.local_time is None or campaign.started_at is None:
        return None
    return next_time_of_day(campaign.local_time, zone, since=campaign.started_at)


def _make_table(cursor: CursorWrapper) -> None:
    """Make the table in which recipients meet their moments; it is gone with the transaction."""
    cursor.execute("DROP TABLE IF EXISTS campaigns_moment")
    cursor.execute(
        "CREATE TEMPORARY TABLE campaigns_moment (recipient_id bigint, not_before timestamptz) ON COMMIT DROP"
    )


def _write(campaign: Campaign, recipients: str) -> int:
    """Write batches and rows for what the query `recipients` finds: (id, email, not_before).

    A Message-ID is the campaign's own random number with the recipient's: drawing one for each mail would
    take as long as writing its row.
    """
    audiences.keep_recipients(campaign.audience_id)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH placed AS (
                SELECT id, email, not_before,
                       (row_number() OVER (PARTITION BY not_before ORDER BY id) - 1) / %(batch_size)s AS part
                  FROM ({recipients}) AS recipient
            ), numbered AS MATERIALIZED (
                SELECT *, dense_rank() OVER (ORDER BY not_before NULLS FIRST, part) AS number FROM placed
            ), batches AS (
                INSERT INTO campaigns_batch (campaign_id, number, size, pending, not_before)
                SELECT %(campaign)s, number, count(*), count(*), min(not_before)
                  FROM numbered GROUP BY number ORDER BY number
                RETURNING id, number
            )
            INSERT INTO campaigns_deliverylog
                   (campaign_id, batch_id, recipient_id, email, message_id, not_before)
            SELECT %(campaign)s, batches.id, numbered.id, numbered.email,
                   %(nonce)s || numbered.id || %(at_domain)s, numbered.not_before
              FROM numbered JOIN batches USING (number)
             ORDER BY numbered.number, numbered.id
            """,  # noqa: S608  # a query of this module
            {
                "batch_size": settings.CAMPAIGN_BATCH_SIZE,
                "campaign": campaign.pk,
                "audience": campaign.audience_id,
                "nonce": f"{token_hex(16)}.",
                "at_domain": f"@{preflight.sender_of(campaign).email.rpartition('@')[2]}",
            },
        )
        return int(cursor.rowcount)
