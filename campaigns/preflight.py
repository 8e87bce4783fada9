"""What must be right before a campaign may be scheduled or started."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from email.utils import parseaddr

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, ValidationError

from campaigns.addresses import BadAddress, parse_plain_address, trim
from campaigns.composing import (
    Attachment,
    CompiledMessage,
    HeaderRefused,
    LinkParametersRefused,
    Sender,
    TemplateRefused,
    check_extra_fields,
    check_link_parameters,
    compile_message,
    prepare_html,
)
from campaigns.models import Campaign, Recipient, Timing
from campaigns.providers import configured_line
from users.models import validate_timezone

FIELDS_OF_EVERYBODY = frozenset(("email", "name", "timezone", "unsubscribe_url"))

Problem = tuple[str, str]


class CampaignNotReady(Exception):
    """A campaign cannot be sent as it is; `problems` names each field and what is wrong with it."""

    def __init__(self, problems: dict[str, list[str]]) -> None:
        super().__init__("; ".join(f"{field}: {' '.join(texts)}" for field, texts in problems.items()))
        self.problems = problems


def check(campaign: Campaign) -> None:
    """Raise CampaignNotReady with everything that would keep this campaign from being sent."""
    _raise_if_any(_campaign_problems(campaign))


def check_composition(campaign: Campaign) -> None:
    """Raise CampaignNotReady unless a mail of this campaign can be written, whoever it is for."""
    _raise_if_any([*_sender_problems(campaign), *_option_problems(campaign), *_template_problems(campaign)])


def check_start_time(scheduled_at: datetime | None, *, now: datetime) -> None:
    """Raise CampaignNotReady unless the time is given and lies ahead."""
    if scheduled_at is None:
        _raise_if_any([("scheduled_at", "Say when the campaign shall start.")])
    elif scheduled_at <= now:
        _raise_if_any([("scheduled_at", f"{scheduled_at.isoformat()} is in the past.")])


def check_timezone(name: str) -> None:
    """Raise CampaignNotReady unless `name` is a zone of the IANA database."""
    _raise_if_any(_timezone_problems(name))


def sender_of(campaign: Campaign, *, default: str = "") -> Sender:
    """Return whom the campaign's mails come from: its own sender, else `default`, else the settings'.

    A default may have a name, as in `Shop <news@example.com>`; the campaign's own name goes before it.
    """
    standard = default or settings.DEFAULT_FROM_EMAIL or settings.SENDGRID_FROM_EMAIL
    name, address = parseaddr(standard)
    return Sender(
        email=_as_sent(campaign.from_email or address or standard),
        name=campaign.from_name or ("" if campaign.from_email else name),
        reply_to=_as_sent(campaign.reply_to),
    )


def _as_sent(address: str) -> str:
    """Return an address as it goes into a mail; one that cannot be used as it is, for `check` to name."""
    try:
        return parse_plain_address(trim(address))
    except BadAddress:
        return address


def parts_of(campaign: Campaign) -> tuple[str, str, str]:
    """Return subject, HTML and text of the campaign's template now, made ready. Raises TemplateRefused."""
    template = campaign.template
    html = prepare_html(
        template.html,
        preheader=template.preheader,
        inline_css=template.inline_css,
        link_parameters=campaign.link_parameters,
    )
    return template.subject, html, template.text


def headers_of(campaign: Campaign) -> tuple[tuple[str, str], ...]:
    """Return the header fields that all mails of a campaign have, its own among them.

    Feedback-ID is Gmail's, by which its Postmaster Tools tell campaigns apart (support.google.com/mail,
    answer 6254652): a campaign, an audience, a kind of mail, and always the same name for the sender.
    """
    feedback_id = f"campaign{campaign.pk}:audience{campaign.audience_id}:campaign:{settings.FEEDBACK_ID}"
    return ("Feedback-ID", feedback_id), *campaign.headers.items()


def compile_template_of(campaign: Campaign, attachments: tuple[Attachment, ...] = ()) -> CompiledMessage:
    """Compile what the campaign's template says now, with these files. Raises TemplateRefused."""
    subject, html, text = parts_of(campaign)
    return compile_message(
        sender_of(campaign),
        subject=subject,
        html=html,
        text=text,
        headers=headers_of(campaign),
        attachments=attachments,
    )


def _raise_if_any(found: "Iterator[Problem] | list[Problem]") -> None:
    problems: dict[str, list[str]] = defaultdict(list)
    for field, problem in found:
        problems[field].append(problem)
    if problems:
        raise CampaignNotReady(dict(problems))


def _campaign_problems(campaign: Campaign) -> Iterator[Problem]:
    yield from _timezone_problems(campaign.timezone)
    yield from _timing_problems(campaign)
    yield from _provider_problems()
    yield from _sender_problems(campaign)
    if not campaign.audience.recipients.exists():
        yield "audience", f"The audience {campaign.audience.name!r} has no recipients."
    yield from _option_problems(campaign)
    yield from _template_problems(campaign)


def _option_problems(campaign: Campaign) -> Iterator[Problem]:
    try:
        check_extra_fields(campaign.headers)
    except HeaderRefused as refusal:
        yield "headers", str(refusal)
    try:
        check_link_parameters(campaign.link_parameters)
    except LinkParametersRefused as refusal:
        yield "link_parameters", str(refusal)


def _template_problems(campaign: Campaign) -> Iterator[Problem]:
    try:
        message = compile_template_of(campaign)
    except TemplateRefused as refusal:
        yield "template", f"{campaign.template.name!r}: {refusal}"
        return
    for name in sorted(_unknown_fields(campaign, message)):
        yield (
            "template",
            f"{campaign.template.name!r} names {name!r}, which no recipient of {campaign.audience.name!r} "
            "has, nor the campaign's variables.",
        )


def _timezone_problems(name: str) -> Iterator[Problem]:
    try:
        validate_timezone(name)
    except ValidationError as error:
        yield "timezone", " ".join(error.messages)


def _timing_problems(campaign: Campaign) -> Iterator[Problem]:
    by_zone = campaign.timing == Timing.RECIPIENT_LOCAL
    if by_zone and campaign.local_time is None:
        yield "local_time", "Say at which time of day, such as 09:00."
    if campaign.local_time is not None and not by_zone:
        yield "local_time", "It goes with the timing recipient_local only."


def _provider_problems() -> Iterator[Problem]:
    try:
        configured_line()
    except ImproperlyConfigured as error:
        yield "providers", f"No mail can be sent with these settings: {error}"


def _sender_problems(campaign: Campaign) -> Iterator[Problem]:
    senders = [sender_of(campaign, default=default) for default in _default_senders()]
    if not all(sender.email for sender in senders):
        yield "from_email", "There is no sender address here, nor a DEFAULT_FROM_EMAIL in the settings."
    addresses = {("from_email", sender.email) for sender in senders} | {("reply_to", senders[0].reply_to)}
    for field, address in sorted(addresses):
        try:
            if address:
                parse_plain_address(address)
        except BadAddress as problem:
            yield field, f"{address!r} cannot be used: {problem}"


def _default_senders() -> list[str]:
    """Return the sender that each provider gives to campaigns without one, '' for DEFAULT_FROM_EMAIL."""
    try:
        return [provider.from_email for provider in configured_line().providers] or [""]
    except ImproperlyConfigured:
        return [""]


def _unknown_fields(campaign: Campaign, message: CompiledMessage) -> Iterator[str]:
    recipients = Recipient.objects.filter(audience=campaign.audience)
    for name in message.variables - FIELDS_OF_EVERYBODY - set(campaign.variables):
        if not recipients.filter(attributes__has_key=name).exists():
            yield name
