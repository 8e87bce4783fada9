"""What an operator decides about rows that are unconfirmed: the step that writes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from campaigns.ledger.steps import Cursor, batch_step, recount
from campaigns.models import Decision, DeliveryStatus

_BECOMES = {
    Decision.SENT: (DeliveryStatus.SENT, "{} counts it as sent"),
    Decision.SEND_AGAIN: (DeliveryStatus.PENDING, "{} lets it be sent again"),
    Decision.GIVE_UP: (DeliveryStatus.FAILED, "{} gave it up"),
}


@dataclass(frozen=True, slots=True)
class Ruling:
    """A decision with who made it and when, as it goes into every row that it settles."""

    decision: Decision
    user_id: int
    user_email: str
    note: str
    decided_at: datetime


def settle(batch_ids: Sequence[int], delivery_ids: Sequence[int] | None, ruling: Ruling) -> list[int]:
    """Settle what is unconfirmed in these batches and return the ids of the deliveries that were settled.

    With `delivery_ids` only those. Rows in another status are left alone, so a row is settled once
    however many ask at the same moment. A batch may be held by a worker: its rows are pending or
    deferred, and are not touched.

    `sent_at` stays empty: it is when a provider's acceptance was recorded, and none was. The doubt stays
    counted, so a mail that is sent again shows that it may have arrived more than once.
    """
    with batch_step() as cursor:
        cursor.execute(
            "SELECT 1 FROM campaigns_batch WHERE id = ANY(%s::bigint[]) ORDER BY id FOR UPDATE",
            [list(batch_ids)],
        )
        settled = _settle_rows(cursor, batch_ids, delivery_ids, ruling)
        if not settled:
            return []
        if ruling.decision is Decision.SEND_AGAIN:
            _make_due(cursor, batch_ids)
        for batch_id in batch_ids:
            recount(cursor, batch_id, worked_on=False)
    return settled


def _settle_rows(
    cursor: Cursor, batch_ids: Sequence[int], delivery_ids: Sequence[int] | None, ruling: Ruling
) -> list[int]:
    status, words = _BECOMES[ruling.decision]
    cursor.execute(
        """
        WITH settled AS (
            UPDATE campaigns_deliverylog
               SET status = %(status)s::text, not_before = NULL,
                   attempts = CASE WHEN %(status)s::text = 'pending' THEN 0 ELSE attempts END,
                   reason = %(words)s::text
                            || CASE WHEN reason = '' THEN '' ELSE '; before that: ' || reason END
             WHERE batch_id = ANY(%(batches)s::bigint[]) AND status = 'unconfirmed'
               AND (%(deliveries)s::bigint[] IS NULL OR id = ANY(%(deliveries)s::bigint[]))
            RETURNING id
        )
        INSERT INTO campaigns_settlement
               (delivery_id, decision, decided_by_id, decided_by_email, decided_at, note)
        SELECT id, %(decision)s, %(user)s, %(email)s, %(now)s, %(note)s FROM settled ORDER BY id
        RETURNING delivery_id
        """,
        {
            "status": status.value,
            "words": words.format(ruling.user_email),
            "batches": list(batch_ids),
            "deliveries": None if delivery_ids is None else list(delivery_ids),
            "decision": ruling.decision.value,
            "user": ruling.user_id,
            "email": ruling.user_email,
            "now": ruling.decided_at,
            "note": ruling.note.replace("\0", ""),
        },
    )
    return [row[0] for row in cursor.fetchall()]


def _make_due(cursor: Cursor, batch_ids: Sequence[int]) -> None:
    """Let no batch wait for its deferred rows only; one that rests, with rows pending, goes on resting."""
    cursor.execute(
        "UPDATE campaigns_batch SET not_before = NULL WHERE id = ANY(%s::bigint[]) AND pending = 0",
        [list(batch_ids)],
    )
