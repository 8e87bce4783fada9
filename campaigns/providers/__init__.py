"""The ways out: what each provider is asked, and what its answers mean. No database here."""

from campaigns.providers.base import Answer, Outcome, Provider, Trouble, Verdict
from campaigns.providers.line import Line, configured_limits, configured_line
from campaigns.providers.sendgrid import SendGrid
from campaigns.providers.smtp import Smtp

__all__ = [
    "Answer",
    "Line",
    "Outcome",
    "Provider",
    "SendGrid",
    "Smtp",
    "Trouble",
    "Verdict",
    "configured_limits",
    "configured_line",
]
