"""One batch, start to end: why nothing is lost and nothing is silently sent twice.

    claim     only one worker holds a batch, and only until its lease runs out
    check     the rows that are still open, without those that must not be mailed
    reserve   wait for a place in the rate limit that all workers share
    compose   write the mails; the campaign itself was compiled once
    declare   commit "these are about to leave" before anything leaves, with a last look at suppressions
    send      the network; no transaction is open
    record    commit the answers, only under the lease that was claimed: together with declaring the next
              group, or with giving the batch back

Whatever dies, and whenever, each row is in one of three places. Not declared: nobody was written to; it
is sent later. Recorded: it has its answer. Declared without a record: it may have been accepted, so it
becomes `unconfirmed` and is not sent again blindly. A worker that slept through its lease finds at the
next declare or record that its token counts no more.

Claim and check are here; `sending` has the steps from reserve to record, `ledger` each step's SQL.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from campaigns import attachments, ledger, preflight, tracking
from campaigns.composing import CompiledMessage, Letter, compile_message
from campaigns.ledger import CampaignHeld, Change, Lease, LeaseLost, Row
from campaigns.models import Campaign, DeliveryStatus
from campaigns.providers import Line, Provider, Trouble
from campaigns.sending import Sending, Stopping, in_words, rest_after, send_through

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Handled:
    """A batch that was worked on: its campaign, and how many seconds it is to rest, if it is."""

    campaign_id: int
    rest: float | None


def send_batch(
    batch_id: int, *, owner: str, line: Line, stopping: Callable[[], bool] = lambda: False
) -> Handled | None:
    """Send what is due in one batch; None when there was nothing to take.

    `owner` names the worker for people who look at the batch; once `stopping` says yes, nothing more
    leaves and the batch is free again as soon as the answers on their way are recorded. Raises whatever
    goes wrong inside; the batch is given back first, with what was declared and unanswered marked
    unconfirmed.
    """
    lease = ledger.claim(batch_id, owner)
    if lease is None:
        return None
    try:
        _send(lease, line, stopping)
    except (CampaignHeld, Stopping) as reason:
        logger.info("batch %s goes back: %s", batch_id, reason)
        return _give_back(lease)
    except LeaseLost as lost:
        return _give_back(lease, lost)
    except Trouble as trouble:
        logger.warning("batch %s waits: %s", batch_id, trouble)
        return _give_back(lease, trouble)
    except BaseException as error:
        _give_back(lease, error)
        raise
    return _give_back(lease)


def _give_back(lease: Lease, reason: BaseException | None = None) -> Handled:
    """Release the batch, to rest as long as the reason says, else longer with each failure in a row."""
    wait, failed = rest_after(lease, reason)
    try:
        ledger.release(lease, trouble=in_words(reason), wait=wait, failed=failed)
    except LeaseLost:
        logger.warning("batch %s: the lease was lost; whoever holds it now goes on", lease.batch_id)
    return Handled(lease.campaign_id, wait.total_seconds() if wait else None)


def _send(lease: Lease, line: Line, stopping: Callable[[], bool]) -> None:
    rows = _check(lease)
    if not rows:
        return
    campaign = _as_started(lease.campaign_id, lease.built_at)
    attempts = {row.id: row.attempts for row in rows}
    letters = [_letter(campaign, row) for row in rows]

    def sending_with(provider: Provider) -> Sending[Lease]:
        message = _compile(campaign, provider)
        return Sending(lease, ledger, line.redis, provider, message, attempts, stopping)

    send_through(line, letters, sending_with)


@lru_cache(maxsize=8)
def _as_started(campaign_id: int, _built_at: datetime) -> Campaign:
    """Return a campaign as its mails are written; what they say does not change once its ledger is built."""
    return Campaign.objects.get(id=campaign_id)


def _check(lease: Lease) -> list[Row]:
    """Return the rows to send; those that must not be mailed are recorded as such."""
    rows = ledger.due_rows(lease)
    changes = {row.id: change for row in rows if (change := _not_to_be_sent(row))}
    if changes:
        ledger.rule_out(lease, list(changes.values()))
    return [row for row in rows if row.id not in changes]


def _not_to_be_sent(row: Row) -> Change | None:
    if row.suppressed:
        why = f"the address is suppressed: {row.suppressed}"
        return Change(row.id, DeliveryStatus.SUPPRESSED, why, attempts=0)
    if row.recipient_id is None:
        return Change(row.id, DeliveryStatus.CANCELLED, "the recipient was deleted", attempts=0)
    return None


def _compile(campaign: Campaign, provider: Provider) -> CompiledMessage:
    sender = preflight.sender_of(campaign, default=provider.from_email)
    return compile_message(
        sender,
        subject=campaign.subject,
        html=campaign.html,
        text=campaign.text,
        headers=preflight.headers_of(campaign),
        attachments=attachments.of_campaign(campaign),
    )


def _letter(campaign: Campaign, row: Row) -> Letter:
    unsubscribe_url = tracking.unsubscribe_url(row.id)
    own = {"email": row.email, "name": row.name, "timezone": row.timezone, "unsubscribe_url": unsubscribe_url}
    return Letter(
        delivery_id=row.id,
        email=row.email,
        name=row.name,
        message_id=row.message_id,
        context={**campaign.variables, **row.attributes, **own},
        unsubscribe_url=unsubscribe_url,
    )
