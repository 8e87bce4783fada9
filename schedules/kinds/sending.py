"""A task that sends a mail."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from campaigns import mail, outbound
from campaigns.addresses import BadAddress, folded, parse_address, trim
from campaigns.outbound import Draft, KeyReused, MailRefused
from schedules import allowance
from schedules.kinds.base import Kind, PayloadRefused, TaskFailed, Work, WorkResult, only
from users.models import User

MOST_BY_OPERATORS = 100


def _check(payload: Mapping[str, Any], user: User, file_name: str) -> dict[str, Any]:
    """Read {"subject", "body", "html", "recipients"}; without recipients the mail is for the task's owner."""
    only(payload, "subject", "body", "html", "recipients")
    if file_name:
        raise PayloadRefused({"file": ["This kind takes no file."]})
    texts = {name: payload.get(name) or "" for name in ("subject", "body", "html")}
    for name, value in texts.items():
        if not isinstance(value, str):
            raise PayloadRefused({name: ["Give a text."]})
    if not texts["subject"].strip():
        raise PayloadRefused({"subject": ["Give the mail a subject."]})
    if not texts["body"] and not texts["html"]:
        raise PayloadRefused({"body": ["Give the mail a body, or html."]})
    recipients = _recipients(payload.get("recipients"), user)
    try:
        outbound.check(Draft(texts["subject"], texts["body"], recipients or [user.email], html=texts["html"]))
    except MailRefused as refused:
        raise PayloadRefused(_as_named(refused.problems)) from refused
    return {**texts, "recipients": recipients}


def _recipients(given: Any, user: User) -> list[str]:
    if given in (None, []):
        return []
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise PayloadRefused({"recipients": ["Give a list of addresses; leave it out to mail yourself."]})
    most = MOST_BY_OPERATORS if user.is_staff else settings.TASK_MAIL_RECIPIENTS
    found = []
    for place, each in enumerate(given[: most + 1]):
        try:
            found.append(parse_address(trim(each)))
        except BadAddress as bad:
            raise PayloadRefused({f"recipients.{place}": [f"{each[:100]!r} cannot be used: {bad}"]}) from bad
    others = [each for each in found if folded(each) != folded(user.email)]
    if len(given) > most and (others or len(given) > len(found)):
        said = f"Give {most} addresses at most." if most else "It can go to yourself only; leave them out."
        raise PayloadRefused({"recipients": [said]})
    return found


def _check_room(work: Work) -> None:
    """Raise TaskFailed where the payload, or one mail more, is not for this user (any more)."""
    try:
        _recipients(work.payload["recipients"], work.user)
    except PayloadRefused as refused:
        raise TaskFailed(str(refused)) from refused
    if allowance.is_used_up(work.user, now=work.now) and not allowance.is_stored(work.key):
        most = settings.TASK_MAILS_PER_DAY
        raise TaskFailed(f"Your tasks have sent {most:,} mails in 24 hours, as many as they may.")


def _as_named(problems: Mapping[str, list[str]]) -> dict[str, list[str]]:
    names = {"text": "body", "to": "recipients"}
    return {names.get(field, field): texts for field, texts in problems.items()}


def _run(work: Work) -> WorkResult:
    given = work.payload
    recipients = given["recipients"] or [work.user.email]
    _check_room(work)
    try:
        mail_id = mail.send_email(
            given["subject"],
            given["body"],
            recipients,
            html=given["html"] or None,
            idempotency_key=work.key,  # a second try of the run finds the mail of the first
            created_by=work.user,
        ).id
    except KeyReused as reused:
        mail_id = reused.mail_id  # the first try sent it, and the task was edited since: not a second time
    except MailRefused as refused:
        raise TaskFailed(str(refused)) from refused
    return WorkResult({"email": mail_id, "recipients": len(recipients)})


SEND_EMAIL = Kind("send_email", "Sends a mail to you, or to the recipients that you name.", _check, _run)
