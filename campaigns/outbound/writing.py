"""What was asked for, held to the rules and stored; all that is wrong with it is named at once."""

import json
import re
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, transaction

from campaigns.addresses import BadAddress, Mailbox, folded, parse_mailbox, parse_plain_mailbox
from campaigns.composing import Part, PartKind
from campaigns.models import OutboundEmail, OutboundPart, RecipientKind
from campaigns.values import BadValue, check_line, check_object
from users.models import User

MAX_SUBJECT = 2_000  # characters, of a header that is one line to its reader
MAX_TEXT = 1_000_000  # characters of each form of the text, as a template's
MAX_HEADERS = 50
MAX_HEADER_CHARACTERS = 5_000
MAX_KEY = 255
# made from what else is given, or by the servers on the way; the last ones would steer a provider
_RESERVED = re.compile(
    r"(?i)bcc|content-.*|date|dkim-signature|from|message-id|mime-version|received|reply-to|return-path"
    r"|subject|x-smtpapi|x-sg-.*"
)
_HEADER_NAME = re.compile(r"[!-9;-~]{1,76}")  # RFC 5322 §2.2
_CONTENT_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(; *[\w.+-]+=[\w.+\"-]+)*", re.ASCII)
_MESSAGE_ID = re.compile(r"[!-;=?-~]{3,250}")
_CONTENT_ID = re.compile(r"[!-;=?-~]{1,250}")

_INSERT = """
WITH mail AS (
    INSERT INTO campaigns_outboundemail
        (created_by_id, idempotency_key, fingerprint, message_id, from_email, reply_to, subject, text, html,
         headers, goes_first)
    VALUES (%s, %s, %s, %s, %s, %s::text[], %s, %s, %s, %s::jsonb, %s)
    RETURNING id)
INSERT INTO campaigns_outboundrecipient (mail_id, kind, name, email)
SELECT mail.id, recipient.kind, recipient.name, recipient.email
  FROM mail, unnest(%s::text[], %s::text[], %s::text[])
             WITH ORDINALITY AS recipient (kind, name, email, position)
 ORDER BY recipient.position
RETURNING mail_id
"""

Problem = tuple[str, str]


class MailRefused(ValueError):
    """The mail cannot be sent as it is; `problems` names each field, such as `cc.2`, and what is wrong."""

    def __init__(self, problems: Mapping[str, list[str]]) -> None:
        super().__init__("; ".join(f"{field}: {' '.join(texts)}" for field, texts in problems.items()))
        self.problems = dict(problems)


class KeyReused(ValueError):
    """An idempotency key was used for another mail before."""

    def __init__(self, key: str, mail_id: int) -> None:
        super().__init__(f"The key {key!r} was used for mail {mail_id}, which asks for something else.")
        self.mail_id = mail_id


@dataclass(frozen=True, slots=True)
class Draft:
    """A mail as it is asked for. Addresses may have a display name, as in `Asha <asha@example.com>`.

    Without `from_email` it comes from DEFAULT_FROM_EMAIL, or the provider's own. `headers` may name To
    and Cc to show something else than the recipients there (over SMTP only).
    """

    subject: str
    text: str
    to: Sequence[str]
    html: str = ""
    cc: Sequence[str] = ()
    bcc: Sequence[str] = ()
    from_email: str = ""
    reply_to: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    parts: Sequence[Part] = ()
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """A mail that is stored and will be sent; not `is_new` where the key had been used for it before."""

    id: int
    message_id: str
    is_new: bool = True


def check(draft: Draft) -> None:
    """Raise MailRefused unless `store` would take the draft."""
    _Checking(draft, "").insist()


def store(draft: Draft, *, key: str = "", created_by: User | None = None) -> Stored:
    """Store a mail. The same draft under the same key is stored once. Raises MailRefused, KeyReused."""
    _Checking(draft, key).insist()
    fingerprint = _fingerprint(draft)
    if key and (found := _known(key, fingerprint)):
        return found
    message_id = draft.message_id or f"{uuid.uuid4()}@{_domain(draft)}"
    try:
        # a statement by itself needs no transaction around it
        with transaction.atomic() if key or draft.parts else nullcontext():
            mail_id = _insert(draft, key, fingerprint, message_id, created_by)
            _insert_parts(draft, mail_id)
    except IntegrityError:
        # somebody else was first with this key
        if key and (found := _known(key, fingerprint)):
            return found
        raise
    return Stored(mail_id, message_id)


def _known(key: str, fingerprint: str) -> Stored | None:
    mail = OutboundEmail.objects.filter(idempotency_key=key).only("id", "message_id", "fingerprint").first()
    if mail is None:
        return None
    if mail.fingerprint != fingerprint:
        raise KeyReused(key, mail.pk)
    return Stored(mail.pk, mail.message_id, is_new=False)


def _insert(draft: Draft, key: str, fingerprint: str, message_id: str, created_by: User | None) -> int:
    """Write the mail and its recipients in one statement, as somebody waits; return the mail's id."""
    kinds, mailboxes = zip(*_recipients(draft), strict=True)
    values: list[Any] = [
        *(created_by and created_by.pk, key, fingerprint, message_id),
        str(parse_mailbox(draft.from_email)) if draft.from_email else "",
        [str(parse_mailbox(each)) for each in draft.reply_to],
        *(draft.subject, draft.text, draft.html, json.dumps(dict(draft.headers))),
        created_by is None or created_by.is_staff,
        [kind.value for kind in kinds],
        [mailbox.name for mailbox in mailboxes],
        [mailbox.email for mailbox in mailboxes],
    ]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, values)
        (mail_id,) = cursor.fetchone()
    return int(mail_id)


def _insert_parts(draft: Draft, mail_id: int) -> None:
    OutboundPart.objects.bulk_create(
        OutboundPart(
            mail_id=mail_id,
            kind=part.kind,
            name=part.name,
            content_type=part.content_type,
            content_id=part.content_id,
            content=part.content,
        )
        for part in draft.parts
    )


def _domain(draft: Draft) -> str:
    sender = draft.from_email or settings.DEFAULT_FROM_EMAIL or settings.SENDGRID_FROM_EMAIL
    return parse_mailbox(sender).email.rpartition("@")[2]


def _recipients(draft: Draft) -> Iterator[tuple[RecipientKind, Mailbox]]:
    """Yield each address once; where it stands in two fields, the first one counts."""
    seen: set[str] = set()
    for kind in RecipientKind:
        for text in getattr(draft, kind):
            mailbox = parse_mailbox(text)
            if folded(mailbox.email) not in seen:
                seen.add(folded(mailbox.email))
                yield kind, mailbox


def _fingerprint(draft: Draft) -> str:
    parts = [
        [part.kind, part.name, part.content_type, part.content_id, sha256(part.content).hexdigest()]
        for part in draft.parts
    ]
    asked: list[Any] = [
        *(draft.subject, draft.text, draft.html, draft.from_email, draft.message_id),
        *(list(addresses) for addresses in (draft.to, draft.cc, draft.bcc, draft.reply_to)),
        sorted(draft.headers.items()),
        parts,
    ]
    return sha256(json.dumps(asked).encode()).hexdigest()


class _Checking:
    """Everything that is wrong with a draft."""

    def __init__(self, draft: Draft, key: str) -> None:
        self.draft, self.key = draft, key

    def insist(self) -> None:
        """Raise MailRefused if anything is wrong."""
        problems: dict[str, list[str]] = defaultdict(list)
        for name, problem in self._problems():
            problems[name].append(problem)
        if problems:
            raise MailRefused(problems)

    def _problems(self) -> Iterator[Problem]:
        yield from self._key_problems()
        yield from self._recipient_problems()
        yield from self._sender_problems()
        yield from self._text_problems()
        yield from self._header_problems()
        yield from self._part_problems()

    def _key_problems(self) -> Iterator[Problem]:
        if len(self.key) > MAX_KEY or not self.key.isprintable():
            yield "idempotency_key", f"A key has at most {MAX_KEY} printable characters."

    def _recipient_problems(self) -> Iterator[Problem]:
        draft, most = self.draft, settings.SEND_EMAIL_MAX_RECIPIENTS
        count = len(draft.to) + len(draft.cc) + len(draft.bcc)
        if not count:
            yield "recipient_list", "Name at least one recipient."
        if count > most:
            yield (
                "recipient_list",
                f"There are {count:,} recipients; one mail goes to at most {most:,}. For more, import them "
                "into an audience and send a campaign.",
            )
            return
        yield from _bad_addresses("recipient_list", draft.to)
        yield from _bad_addresses("cc", draft.cc)
        yield from _bad_addresses("bcc", draft.bcc)
        yield from _bad_addresses("reply_to", draft.reply_to, parse_plain_mailbox)

    def _sender_problems(self) -> Iterator[Problem]:
        standard = settings.DEFAULT_FROM_EMAIL or settings.SENDGRID_FROM_EMAIL
        if not self.draft.from_email and not standard:
            yield "from_email", "There is no sender address here, nor a DEFAULT_FROM_EMAIL in the settings."
        for _, problem in _bad_addresses("", [self.draft.from_email or standard], parse_plain_mailbox):
            yield "from_email", problem
        if self.draft.message_id and not _MESSAGE_ID.fullmatch(self.draft.message_id):
            yield "headers.Message-ID", "It cannot stand in a header."

    def _text_problems(self) -> Iterator[Problem]:
        draft = self.draft
        for name, text, most in (
            ("subject", draft.subject, MAX_SUBJECT),
            ("body", draft.text, MAX_TEXT),
            ("html", draft.html, MAX_TEXT),
        ):
            if len(text) > most:
                yield name, f"It has {len(text):,} characters; at most {most:,} are allowed."
            yield from _unstorable(name, text)
        try:
            check_line(draft.subject)
        except BadValue as bad:
            yield "subject", str(bad)

    def _header_problems(self) -> Iterator[Problem]:
        headers = self.draft.headers
        if len(headers) > MAX_HEADERS:
            yield "headers", f"There are {len(headers)} headers; at most {MAX_HEADERS} are allowed."
        for name, value in headers.items():
            where = f"headers.{name[:80]}"
            if not _HEADER_NAME.fullmatch(name):
                yield where, "A header's name has 1 to 76 visible ASCII characters, and no colon."
            if _RESERVED.fullmatch(name):
                yield where, "Leave it out: it is made from the other fields, such as bcc, or on the way."
            if len(value) > MAX_HEADER_CHARACTERS:
                yield where, f"It has {len(value):,} characters; at most {MAX_HEADER_CHARACTERS:,}."
            yield from _unstorable(where, value)
            try:
                check_line(value)
            except BadValue as bad:
                yield where, str(bad)

    def _part_problems(self) -> Iterator[Problem]:
        parts = self.draft.parts
        if len(parts) > settings.ATTACHMENTS_MAX:
            yield (
                "attachments",
                f"There are {len(parts)}; at most {settings.ATTACHMENTS_MAX} are allowed.",
            )
        for number, part in enumerate(parts):
            yield from _problems_of(f"attachments.{number}", part)
        total = sum(len(part.content) for part in parts)
        if total > settings.ATTACHMENTS_MAX_TOTAL_BYTES:
            most = settings.ATTACHMENTS_MAX_TOTAL_BYTES
            yield "attachments", f"Together they have {total:,} bytes; at most {most:,} are allowed."


def _problems_of(where: str, part: Part) -> Iterator[Problem]:
    if len(part.content) > settings.ATTACHMENT_MAX_BYTES:
        most = settings.ATTACHMENT_MAX_BYTES
        yield where, f"It has {len(part.content):,} bytes; at most {most:,} are allowed."
    if not _CONTENT_TYPE.fullmatch(part.content_type):
        yield where, f"{part.content_type!r:.100} is not a media type, such as application/pdf."
    if part.kind is PartKind.INLINE and not _CONTENT_ID.fullmatch(part.content_id):
        yield where, "Its content id cannot stand in a header."


def _bad_addresses(
    where: str, addresses: Iterable[str], parse: Callable[[str], Mailbox] = parse_mailbox
) -> Iterator[Problem]:
    for number, address in enumerate(addresses):
        try:
            parse(address)
        except BadAddress as problem:
            yield f"{where}.{number}", f"{address!r:.100}: {problem}"


def _unstorable(where: str, text: str) -> Iterator[Problem]:
    try:
        check_object({where: text})
    except BadValue as bad:
        yield where, str(bad)
