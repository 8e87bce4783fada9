"""The steps of a single mail: each one conditional, each its own short transaction.

They are those of a batch (`campaigns.ledger`), for one mail and its few recipients: whoever lost the lease
writes nothing, and leases are judged by the database's clock.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce, Now

from campaigns import suppression
from campaigns.addresses import folded
from campaigns.forgetting import is_pseudonym
from campaigns.ledger.changes import Change, not_sent
from campaigns.ledger.leases import Hold, LeaseLost, good_until
from campaigns.ledger.rows import DECLARE_TRIES
from campaigns.ledger.steps import insist
from campaigns.models import Decision, DeliveryStatus, OutboundEmail, OutboundPart, OutboundRecipient
from campaigns.models.outbound import OPEN

# What became of a mail, from what became of its recipients: the first of these that one of them has.
_WORST_FIRST = (
    DeliveryStatus.PENDING,
    DeliveryStatus.DEFERRED,
    DeliveryStatus.UNCONFIRMED,
    DeliveryStatus.FAILED,
    DeliveryStatus.CANCELLED,
    DeliveryStatus.SUPPRESSED,
    DeliveryStatus.SENT,
)
GONE = "(to an account that was deleted)"  # the subject of a mail that no longer says anything
FIRST = 10  # mails that one of less urgency lets go before it at a time
_DOUBT_SETTLED = (Decision.SEND_AGAIN, Decision.GIVE_UP)
_LAST_WORDS = (DeliveryStatus.FAILED, DeliveryStatus.SUPPRESSED, DeliveryStatus.CANCELLED)


@dataclass
class MailLease(Hold):
    """The right to work on one single mail."""

    mail_id: int
    token: int
    failures: int
    _good_until: float = field(repr=False)
    answers: dict[int, Change] = field(default_factory=dict, repr=False)
    unsure: bool = field(default=False, repr=False)

    @property
    def what(self) -> str:
        """Which mail."""
        return f"mail {self.mail_id}"


def due(*, limit: int, older_than: timedelta) -> list[int]:
    """Return mails that could be sent now and that nobody holds, those that wait longest first."""
    mails = OutboundEmail.objects.filter(_is_due(), created_at__lt=Now() - older_than)
    return list(
        mails.order_by(F("not_before").asc(nulls_first=True), "id").values_list("id", flat=True)[:limit]
    )


def ahead_of(mail_id: int) -> list[int]:
    """Return up to FIRST mails that are due and go before this one; none unless it is a user's own.

    A user's own is what one who is no operator has sent, as by tasks. What the system and operators send,
    password resets above all, does not stand in line behind it.
    """
    if not OutboundEmail.objects.filter(id=mail_id, goes_first=False).exists():
        return []
    since = Coalesce("not_before", "created_at")  # as the index has it, which ends where nothing more is due
    others = OutboundEmail.objects.alias(due_since=since).filter(
        status__in=OPEN, lease_until=None, goes_first=True, due_since__lte=Now()
    )
    return list(others.order_by("due_since", "id").values_list("id", flat=True)[:FIRST])


def _is_due() -> Q:
    return Q(status__in=OPEN, lease_until=None) & (Q(not_before=None) | Q(not_before__lte=Now()))


def claim(mail_id: int, owner: str) -> MailLease | None:
    """Take a mail that is due and free; None when there is nothing to take."""
    since = time.monotonic()
    with transaction.atomic():
        taken = OutboundEmail.objects.filter(_is_due(), id=mail_id).update(
            lease_token=F("lease_token") + 1, lease_owner=owner, lease_until=_lease_end()
        )
        if not taken:
            return None
        mail = OutboundEmail.objects.only("lease_token", "failures").get(id=mail_id)
    return MailLease(mail_id, mail.lease_token, mail.failures, good_until(since))


def due_recipients(lease: MailLease) -> list[OutboundRecipient]:
    """Return the mail's recipients that may be tried now; those tried less often come first."""
    recipients = OutboundRecipient.objects.filter(mail=lease.mail_id, status__in=OPEN)
    now_due = recipients.filter(Q(not_before=None) | Q(not_before__lte=Now()))
    return list(now_due.order_by("attempts", "id"))


def declare(lease: MailLease, delivery_ids: Sequence[int], provider: str) -> set[int]:
    """Write down to whom the mail is about to leave, and the lease's answers with it; renew the lease.

    Returns those to whom it must not, as `ledger.declare` does: their addresses are suppressed for single
    mails, or their accounts deleted. Raises LeaseLost. A database that is away is waited for, and then tried
    DECLARE_TRIES times in all.
    """
    tries = 0
    while True:
        since = time.monotonic()
        try:
            held_back = _declare(lease, delivery_ids, provider)
        except (OperationalError, InterfaceError):
            # committed or not, nothing of these has left: that is their answer
            lease.unsure = True
            lease.answer(not_sent(delivery_id) for delivery_id in delivery_ids)
            record(lease)
            tries += 1
            if tries == DECLARE_TRIES:
                raise
        else:
            lease.written()
            lease.renewed(since)
            return held_back


@transaction.atomic
def _declare(lease: MailLease, delivery_ids: Sequence[int], provider: str) -> set[int]:
    mail = _hold(lease, in_time=True)
    if set(mail.leaving) - _write_answers(mail, lease):
        raise LeaseLost(lease, "what left before has no answer yet")
    recipients = list(mail.recipients.filter(id__in=delivery_ids, status__in=OPEN))
    if len(recipients) != len(delivery_ids):
        raise LeaseLost(lease, f"{len(recipients)} of {len(delivery_ids)} rows are as it read them")
    held_back = _hold_back(mail, recipients)
    mail.leaving = [each for each in delivery_ids if each not in held_back]
    mail.leaving_through = provider
    _keep(mail, leaving=mail.leaving, leaving_through=provider, lease_until=_lease_end())
    return held_back


def _hold_back(mail: OutboundEmail, recipients: Sequence[OutboundRecipient]) -> set[int]:
    """Settle those whose accounts are deleted or whose addresses take no single mail; return their ids."""
    gone = _cancel_deleted(mail, recipients)
    stopped = suppression.of_single_mails(each.email for each in recipients)
    found = [each for each in recipients if folded(each.email) in stopped]
    for each in found:
        why = f"the address is suppressed: {stopped[folded(each.email)]}"
        _write(mail, each, Change(each.pk, DeliveryStatus.SUPPRESSED, why, attempts=0))
    return gone | {each.pk for each in found}


def _cancel_deleted(mail: OutboundEmail, recipients: Iterable[OutboundRecipient]) -> set[int]:
    """Settle those of these open recipients whose accounts are deleted; return their ids."""
    gone = [each for each in recipients if is_pseudonym(each.email)]
    for each in gone:
        why = "the account was deleted"
        _write(mail, each, Change(each.pk, DeliveryStatus.CANCELLED, why, attempts=0))
    return {each.pk for each in gone}


def rule_out(lease: MailLease, changes: Sequence[Change]) -> None:
    """Write the answers of recipients to whom the mail is not to be sent at all. Raises LeaseLost."""
    with transaction.atomic():
        mail = _hold(lease)
        answers = {change.delivery_id: change for change in changes}
        if answers.keys() & set(mail.leaving):
            raise LeaseLost(lease, "what is leaving was to be ruled out")
        recipients = list(mail.recipients.filter(id__in=answers, status__in=OPEN))
        if len(recipients) != len(answers):
            raise LeaseLost(lease, f"{len(recipients)} of {len(answers)} rows are as it read them")
        for each in recipients:
            _write(mail, each, answers[each.pk])


def record(lease: MailLease) -> None:
    """Write the lease's answers. Raises LeaseLost. A database that is away is waited for."""
    since = time.monotonic()

    @transaction.atomic
    def step() -> None:
        mail = _hold(lease)
        left = set(mail.leaving) - _write_answers(mail, lease)
        _keep(mail, leaving=sorted(left), lease_until=_lease_end())

    insist(lease, step)
    lease.written()
    lease.renewed(since)


def renew(lease: MailLease) -> None:
    """Lengthen the lease. Raises LeaseLost, also when the database is away and it may have run out."""
    since = time.monotonic()
    try:
        with transaction.atomic():
            _keep(_hold(lease, in_time=True), lease_until=_lease_end())
    except (OperationalError, InterfaceError) as error:
        if not lease.is_good():
            raise LeaseLost(lease) from error
        return
    lease.renewed(since)


def release(
    lease: MailLease, *, trouble: str = "", wait: timedelta | None = None, failed: bool = False
) -> None:
    """Write the lease's answers and give the mail back; what left and has no answer is in doubt.

    With `wait` nobody takes it before that time has passed. Raises LeaseLost.
    """

    @transaction.atomic
    def step() -> None:
        mail = _hold(lease)
        _close_leaving(mail, set(mail.leaving) - _write_answers(mail, lease))
        _free(mail, trouble=trouble.replace("\0", ""), failures=mail.failures + 1 if failed else 0, wait=wait)

    insist(lease, step)
    lease.written()


def take_back_expired() -> list[int]:
    """End the leases that have run out and return their mails.

    Whom the mail had not left to is as before; the others become unconfirmed. The token is raised, so that
    the worker that held the lease, should it wake up, can write nothing.
    """
    freed: list[int] = []
    while True:
        with transaction.atomic():
            expired = OutboundEmail.objects.filter(lease_until__lt=Now()).order_by("lease_until", "id")
            mail = expired.select_for_update(skip_locked=True).first()
            if mail is None:
                return freed
            _close_leaving(mail, mail.leaving)
            worker = mail.lease_owner.partition(" ")[0]
            trouble = f"the worker {worker} did not finish this mail"
            _free(mail, trouble=trouble, failures=mail.failures, lease_token=mail.lease_token + 1)
            freed.append(mail.pk)


def status_of(statuses: Collection[str]) -> DeliveryStatus:
    """Return what became of a mail, from what became of its recipients."""
    return next(status for status in _WORST_FIRST if status in statuses)


def settle(mail: OutboundEmail, **values: Any) -> None:
    """Write what follows from the recipients of a mail that nobody holds any longer, and `values`.

    That is its status, not_before and finished_at. What is open to deleted accounts is cancelled; a mail
    that is settled and was to such accounts alone loses what it said.
    """
    recipients = list(mail.recipients.all())
    if _cancel_deleted(mail, (each for each in recipients if each.status in OPEN)):
        recipients = list(mail.recipients.all())
    follows = _following(mail, recipients)
    _keep(mail, **(follows | values))
    if follows["status"] not in OPEN and all(is_pseudonym(each.email) for each in recipients):
        blank(OutboundEmail.objects.filter(pk=mail.pk))


def blank(mails: "QuerySet[OutboundEmail]") -> None:
    """Take out of mails what they said."""
    OutboundPart.objects.filter(mail__in=mails).delete()
    mails.update(subject=GONE, text="", html="", headers={}, reply_to=[])


def _following(mail: OutboundEmail, recipients: Collection[OutboundRecipient]) -> dict[str, Any]:
    status = status_of({each.status for each in recipients})
    again = [
        each.not_before for each in recipients if each.status == DeliveryStatus.DEFERRED and each.not_before
    ]
    all_wait = status == DeliveryStatus.DEFERRED and again
    return {
        "status": status,
        "not_before": min(again) if all_wait else None,
        "finished_at": None if status in OPEN else mail.finished_at or Now(),
    }


def is_in_doubt(recipient: OutboundRecipient) -> bool:
    """Say whether it left once without an answer, and nobody has decided about that since."""
    decisions: list[dict[str, str]] = recipient.decisions
    return recipient.doubts > sum(each["decision"] in _DOUBT_SETTLED for each in decisions)


def may_have_arrived(recipient: OutboundRecipient) -> bool:
    """Say whether it left once without an answer, and nobody has taken it upon them to send it again."""
    decisions: list[dict[str, str]] = recipient.decisions
    return recipient.doubts > sum(each["decision"] == Decision.SEND_AGAIN for each in decisions)


def _lease_end() -> Any:
    return Now() + timedelta(seconds=settings.LEASE_SECONDS)


def _hold(lease: MailLease, *, in_time: bool = False) -> OutboundEmail:
    """Lock the mail for the rest of the step. Raises LeaseLost; with `in_time` also when it has run out."""
    held = OutboundEmail.objects.filter(id=lease.mail_id, lease_token=lease.token, lease_until__isnull=False)
    if in_time:
        held = held.filter(lease_until__gt=Now())
    mail = held.select_for_update().defer("text", "html", "headers").first()
    if mail is None:
        raise LeaseLost(lease)
    return mail


def _keep(mail: OutboundEmail, **values: Any) -> None:
    OutboundEmail.objects.filter(pk=mail.pk).update(**values)


def _free(mail: OutboundEmail, *, wait: timedelta | None = None, **values: Any) -> None:
    if wait is not None:
        values["not_before"] = Now() + wait
    settle(mail, leaving=[], leaving_through="", lease_until=None, lease_owner="", **values)


def _write_answers(mail: OutboundEmail, lease: MailLease) -> set[int]:
    """Write the answers that are awaited, and return whose they are.

    One that is not awaited was written by the step before, whose acknowledgement was lost.
    """
    awaited = {id: change for id, change in lease.answers.items() if id in mail.leaving}
    if len(awaited) != len(lease.answers) and not lease.unsure:
        raise LeaseLost(lease, f"{len(awaited)} of {len(lease.answers)} answers were awaited")
    for recipient in mail.recipients.filter(id__in=awaited, status__in=OPEN):
        _write(mail, recipient, awaited[recipient.pk])
    return set(awaited)


def _write(mail: OutboundEmail, recipient: OutboundRecipient, change: Change) -> None:
    status = change.status
    if status in _LAST_WORDS and is_in_doubt(recipient):
        status = DeliveryStatus.UNCONFIRMED  # it may have arrived
    tried = {"provider": mail.leaving_through, "attempted_at": Now()} if change.attempts else {}
    OutboundRecipient.objects.filter(pk=recipient.pk).update(
        status=status,
        reason=change.reason.replace("\0", ""),
        provider_message_id=change.provider_message_id.replace("\0", ""),
        not_before=None if change.again_after is None else Now() + change.again_after,
        attempts=F("attempts") + change.attempts,
        doubts=F("doubts") + change.doubts,
        sent_at=Now() if status == DeliveryStatus.SENT else None,
        **tried,
    )


def _close_leaving(mail: OutboundEmail, recipient_ids: Iterable[int]) -> None:
    """Settle to whom it left without an answer, now that its lease ends: that is in doubt, so by policy."""
    why = "it was leaving when its worker stopped; no answer was recorded"
    for recipient in mail.recipients.filter(id__in=recipient_ids, status__in=OPEN):
        again = (
            settings.UNCONFIRMED_POLICY == "resend" and recipient.attempts + 1 < settings.RETRY_MAX_ATTEMPTS
        )
        change = Change(
            recipient.pk,
            DeliveryStatus.DEFERRED if again else DeliveryStatus.UNCONFIRMED,
            why,
            again_after=timedelta(seconds=settings.RETRY_BASE_SECONDS) if again else None,
            doubts=1,
        )
        _write(mail, recipient, change)
