"""One call that queues any mail: `send_email`, and the same behind Django's own `send_mail`.

    from campaigns.mail import send_email

    send_email("Your invoice", "Dear Asha, it is attached.", ["asha@example.com"],
               attachments=[("invoice.pdf", pdf, "application/pdf")], idempotency_key="invoice-17")

The mail is stored before the call returns, in the transaction that is open if there is one, and queued when
that is committed. What happens then is in `campaigns.outbound`.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from email.message import EmailMessage as MimeMessage
from email.message import Message
from email.mime.base import MIMEBase
from email.policy import SMTP
from functools import partial
from mimetypes import guess_type
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction

from campaigns import outbound, tasks
from campaigns.composing import Part, PartKind
from campaigns.outbound import Draft, KeyReused, MailRefused, Stored
from users.models import User

__all__ = ["KeyReused", "MailRefused", "QueuedEmailBackend", "Stored", "queue", "send_email", "send_soon"]

logger = logging.getLogger(__name__)

UNKNOWN_TYPE = "application/octet-stream"
Attachment = tuple[str | None, str | bytes, str | None] | tuple[str | None, str | bytes] | MIMEBase
_OF_THEIR_OWN = ("from", "reply-to", "message-id", "date")  # fields of Django's headers that are no extras


def send_email(
    subject: str,
    body: str,
    recipient_list: Sequence[str],
    *,
    html: str | None = None,
    from_email: str | None = None,
    idempotency_key: str | None = None,
    cc: Sequence[str] = (),
    bcc: Sequence[str] = (),
    reply_to: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
    attachments: Iterable[Attachment | Part] = (),
    created_by: User | None = None,
) -> Stored:
    """Store a mail, have it sent soon, and return in milliseconds; nothing here waits for a mail server.

    All of `recipient_list` stand in one To and can read each other, as with Django's `send_mail`; whoever
    is in `bcc` is not shown. Each has an outcome of their own. An address may have a name, as in
    `Asha <asha@example.com>`. Attachments are (name, content, media type) as Django takes them, or Parts.
    A call with an `idempotency_key` that was used before stores nothing and returns that mail. Raises
    MailRefused, which names each field that is wrong, and KeyReused.
    """
    lists = {"recipient_list": recipient_list, "cc": cc, "bcc": bcc, "reply_to": reply_to}
    if texts := [name for name, given in lists.items() if isinstance(given, str)]:
        raise MailRefused({name: ["Give a list of addresses, not a text."] for name in texts})
    draft = Draft(
        subject=subject,
        text=body,
        to=list(recipient_list),
        html=html or "",
        cc=list(cc),
        bcc=list(bcc),
        from_email=from_email or "",
        reply_to=list(reply_to),
        headers=dict(headers or {}),
        parts=[part for each in attachments for part in _parts_of(each)],
    )
    return queue(draft, key=idempotency_key or "", created_by=created_by)


def queue(draft: Draft, *, key: str = "", created_by: User | None = None) -> Stored:
    """Store a draft and have it sent once that is committed. Raises MailRefused, KeyReused."""
    stored = outbound.store(draft, key=key, created_by=created_by)
    if stored.is_new:
        send_soon([stored.id])
    return stored


def send_soon(mail_ids: Iterable[int]) -> None:
    """Have these mails looked at once what was done to them is committed."""
    for mail_id in mail_ids:
        transaction.on_commit(partial(tasks.hint_quickly, tasks.send_outbound, mail_id))


class QueuedEmailBackend(BaseEmailBackend):
    """Django's EMAIL_BACKEND: whatever any app sends with Django's mail functions takes the same way.

    Kept are To, Cc, Bcc, Reply-To, headers, alternatives, attachments, and images that stand inline. A
    `From` header goes before `from_email`; a `Date` header does not count.
    """

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Queue the messages and return how many; raises MailRefused unless `fail_silently`."""
        queued = 0
        for message in email_messages:
            if not message.recipients():
                continue
            try:
                queue(draft_of(message))
            except MailRefused as refused:
                if not self.fail_silently:
                    raise
                logger.warning("a mail was refused: %s", refused)
            else:
                queued += 1
        return queued


def draft_of(message: EmailMessage) -> Draft:
    """Return what a message of Django's asks for."""
    given = {str(name): str(value) for name, value in message.extra_headers.items()}
    own = {name.lower(): value for name, value in given.items() if name.lower() in _OF_THEIR_OWN}
    sender = own.get("from") or str(message.from_email)
    body, is_html = str(message.body or ""), message.content_subtype == "html"
    alternatives = list(_alternatives(message))
    html = body if is_html else _taken(alternatives, "text/html")
    return Draft(
        subject=str(message.subject),
        text="" if is_html else body,
        to=[str(each) for each in message.to],
        html=html,
        cc=[str(each) for each in message.cc],
        bcc=[str(each) for each in message.bcc],
        from_email="" if sender == settings.DEFAULT_FROM_EMAIL else sender,
        reply_to=[own["reply-to"]] if "reply-to" in own else [str(each) for each in message.reply_to],
        headers={name: value for name, value in given.items() if name.lower() not in _OF_THEIR_OWN},
        parts=[*alternatives, *(part for each in message.attachments for part in _parts_of(each))],
        message_id=own.get("message-id", "").strip(" <>"),
    )


def _alternatives(message: EmailMessage) -> Iterable[Part]:
    if isinstance(message, EmailMultiAlternatives):
        for content, content_type in message.alternatives:
            yield Part(PartKind.ALTERNATIVE, _with_charset(str(content_type), content), _bytes(content))


def _taken(alternatives: list[Part], content_type: str) -> str:
    """Take the first alternative of that type out of the list and return its text, or nothing."""
    for part in alternatives:
        if part.content_type.partition(";")[0] == content_type:
            alternatives.remove(part)
            return part.content.decode("utf-8", "replace")
    return ""


def _parts_of(attachment: Any) -> Iterable[Part]:
    """Return what Django's `attachments` hold: a MIME part, or a name, content and media type."""
    if isinstance(attachment, Part):
        yield attachment
    elif isinstance(attachment, Message):
        yield _part_of_mime(attachment)
    else:
        name, content, content_type = (*attachment, None)[:3]
        content_type = content_type or guess_type(name or "")[0] or UNKNOWN_TYPE
        if isinstance(content, Message) or content_type.startswith(("message/", "multipart/")):
            yield _whole(content_type, content)
        else:
            yield Part(
                PartKind.ATTACHMENT, _with_charset(content_type, content), _bytes(content), _name(name)
            )


def _part_of_mime(part: Message) -> Part:
    content_type = part.get_content_type()
    payload = part.get_payload(decode=True)
    if part.is_multipart() or not isinstance(payload, bytes):
        return Part(PartKind.WHOLE, content_type, _as_bytes(part), _name(part.get_filename()))
    charset = part.get_content_charset()
    full_type = f"{content_type}; charset={charset}" if charset else content_type
    content_id = str(part.get("Content-ID") or "").strip(" <>")
    kind = PartKind.INLINE if content_id else PartKind.ATTACHMENT
    return Part(kind, full_type, payload, _name(part.get_filename()), content_id)


def _whole(content_type: str, content: Any) -> Part:
    """Return a mail that is forwarded: such a part must not be encoded (RFC 2045 §6.4)."""
    if isinstance(content, EmailMessage):
        content = content.message()
    octets = _as_bytes(content) if isinstance(content, Message) else _bytes(content)
    lines = octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if not lines.isascii() or not content_type.startswith("message/"):
        return Part(PartKind.ATTACHMENT, UNKNOWN_TYPE, lines, "message.eml")
    return Part(
        PartKind.WHOLE, content_type, b"Content-Type: %b\r\n\r\n" % content_type.encode("ascii") + lines
    )


def _as_bytes(message: Message) -> bytes:
    policy = SMTP if isinstance(message, MimeMessage) else message.policy.clone(linesep="\r\n")
    return message.as_bytes(policy=policy)


def _bytes(content: Any) -> bytes:
    return content if isinstance(content, bytes) else str(content).encode()


def _with_charset(content_type: str, content: Any) -> str:
    is_text = isinstance(content, str) and "charset" not in content_type and content_type.startswith("text/")
    return f"{content_type}; charset=utf-8" if is_text else content_type


def _name(name: str | None) -> str:
    """Return a file's name without what could lead its reader's program astray."""
    printable = "".join(each if each.isprintable() and each not in '/\\"' else "_" for each in name or "")
    return printable.strip(" .")[:100]
