"""One single mail, start to end: claim, then group by group what `sending` does, then give it back."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings

from campaigns.addresses import BadAddress, parse_mailbox, parse_plain_mailbox
from campaigns.composing import Addressee, Part, PartKind, Sender, SingleMail
from campaigns.ledger import LeaseLost
from campaigns.models import OutboundEmail
from campaigns.outbound import steps
from campaigns.outbound.steps import MailLease
from campaigns.providers import Line, Provider, Trouble
from campaigns.sending import Sending, Stopping, in_words, rest_after, send_through

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Posted:
    """A mail that was worked on: how many seconds it is to rest, if it is."""

    rest: float | None


def post(
    mail_id: int, *, owner: str, line: Line, stopping: Callable[[], bool] = lambda: False
) -> Posted | None:
    """Send a single mail to those to whom it is due; None when there was nothing to take.

    Like `delivery.send_batch`: it raises whatever goes wrong inside, after the mail was given back.
    """
    lease = steps.claim(mail_id, owner)
    if lease is None:
        return None
    try:
        _post(lease, line, stopping)
    except Stopping as reason:
        logger.info("%s goes back: %s", lease.what, reason)
        return _give_back(lease)
    except LeaseLost as lost:
        return _give_back(lease, lost)
    except Trouble as trouble:
        logger.warning("%s waits: %s", lease.what, trouble)
        return _give_back(lease, trouble)
    except BaseException as error:
        _give_back(lease, error)
        raise
    return _give_back(lease)


def _give_back(lease: MailLease, reason: BaseException | None = None) -> Posted:
    wait, failed = rest_after(lease, reason)
    try:
        steps.release(lease, trouble=in_words(reason), wait=wait, failed=failed)
    except LeaseLost:
        logger.warning("%s: the lease was lost; whoever holds it now goes on", lease.what)
    return Posted(wait.total_seconds() if wait else None)


def _post(lease: MailLease, line: Line, stopping: Callable[[], bool]) -> None:
    recipients = steps.due_recipients(lease)
    if not recipients:
        return
    mail = OutboundEmail.objects.get(id=lease.mail_id)
    attempts = {each.pk: each.attempts for each in recipients}

    def sending_with(provider: Provider) -> Sending[MailLease]:
        message = composed(mail, provider.from_email)
        return Sending(lease, steps, line.redis, provider, message, attempts, stopping, urgent=True)

    send_through(line, composed(mail).letters(attempts), sending_with)


def composed(mail: OutboundEmail, default_sender: str = "") -> SingleMail:
    """Return the mail as a provider takes it; `default_sender` is for one that names none."""
    return SingleMail(
        sender=_sender(mail.from_email or default_sender),
        addressees=tuple(
            Addressee(each.pk, each.kind, each.name, each.email) for each in mail.recipients.order_by("id")
        ),
        subject=mail.subject,
        text=mail.text,
        html=mail.html,
        message_id=mail.message_id,
        written_at=mail.created_at.replace(microsecond=0),
        reply_to=tuple(parse_mailbox(each) for each in mail.reply_to),
        headers=tuple(mail.headers.items()),
        parts=tuple(
            Part(PartKind(part.kind), part.content_type, bytes(part.content), part.name, part.content_id)
            for part in mail.parts.order_by("id")
        ),
    )


def _sender(given: str) -> Sender:
    text = given or settings.DEFAULT_FROM_EMAIL or settings.SENDGRID_FROM_EMAIL
    try:
        mailbox = parse_plain_mailbox(text)
    except BadAddress:
        return Sender(text)  # a provider's own that is wrong; the mail is refused when it is written
    return Sender(mailbox.email, mailbox.name)
