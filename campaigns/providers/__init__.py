"""The ways out: what each provider is asked, and what its answers mean. No database here."""

from campaigns.providers.base import Outcome, Provider, Sending, Trouble, Verdict
from campaigns.providers.line import Line, configured_limits, configured_line
from campaigns.providers.sendgrid import SendGrid
from campaigns.providers.smtp import Smtp

__all__ = [
    "Line",
    "Outcome",
    "Provider",
    "SendGrid",
    "Sending",
    "Smtp",
    "Trouble",
    "Verdict",
    "configured_limits",
    "configured_line",
]
