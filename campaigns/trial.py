"""Test mails: a campaign as its first recipient would get it, sent to a few chosen addresses.

They are in no ledger and count for nothing.
"""

import uuid
from collections.abc import Iterator, Sequence

from django.conf import settings

from campaigns import attachments, preflight
from campaigns.composing import CompiledMessage, Letter
from campaigns.models import Campaign
from campaigns.providers import Line, Trouble, Verdict

MAX_ADDRESSES = 10


def send(campaign_id: int, addresses: Sequence[str], *, line: Line) -> dict[str, str]:
    """Send test mails now and return the provider's answer for each address.

    Raises TemplateRefused, MustWait, and Trouble when no provider can be used.
    """
    campaign = Campaign.objects.select_related("template", "audience").get(id=campaign_id)
    message = preflight.compile_template_of(campaign, attachments.of_template(campaign.template))
    return {
        letter.email: _send_one(message, letter, line) for letter in _letters(campaign, message, addresses)
    }


def _send_one(message: CompiledMessage, letter: Letter, line: Line) -> str:
    trouble = Trouble("EMAIL_PROVIDERS names no provider")
    declined: list[str] = []
    for provider in line.providers:
        provider.limit.reserve(line.redis, 1, max_wait=0)
        try:
            with provider:
                if why := provider.declines(letter):
                    provider.limit.give_back(line.redis, 1)
                    declined.append(why)
                    continue
                (outcome,) = provider.send(message, [letter], still_ours=lambda: True).outcomes
        except Trouble as met:
            trouble = met
            continue
        if outcome.verdict is not Verdict.UNSENT:
            answer = outcome.provider_message_id or outcome.reason
            return f"{provider.name}: {outcome.verdict.value} {answer}".strip()
        trouble = Trouble(outcome.reason)
    if line.providers and len(declined) == len(line.providers):
        return f"{Verdict.REFUSED.value} {'; '.join(declined)}"
    raise trouble


def _letters(campaign: Campaign, message: CompiledMessage, addresses: Sequence[str]) -> Iterator[Letter]:
    first = campaign.audience.recipients.order_by("id").first()
    domain = message.sender.email.rpartition("@")[2]
    for address in addresses:
        own = {
            "email": address,
            "name": first.name if first else "",
            "timezone": first.timezone if first else "",
            "unsubscribe_url": settings.PUBLIC_URL,
        }
        yield Letter(
            delivery_id=0,
            email=address,
            name="",
            message_id=f"{uuid.uuid4()}@{domain}",
            context={**campaign.variables, **(first.attributes if first else {}), **own},
        )
