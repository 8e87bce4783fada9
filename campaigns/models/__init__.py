"""The tables: who is written to, with what, and what became of each mail."""

from campaigns.models.attachment import Attachment
from campaigns.models.audience import Audience, Recipient
from campaigns.models.campaign import Campaign, CampaignStatus, Timing
from campaigns.models.delivery import Batch, DeliveryLog, DeliveryStatus
from campaigns.models.importing import ImportJob, ImportStatus, OnExisting
from campaigns.models.outbound import OutboundEmail, OutboundPart, OutboundRecipient, RecipientKind
from campaigns.models.settlement import Decision, Settlement
from campaigns.models.suppression import Suppression, SuppressionReason
from campaigns.models.template import EmailTemplate

__all__ = [
    "Attachment",
    "Audience",
    "Batch",
    "Campaign",
    "CampaignStatus",
    "Decision",
    "DeliveryLog",
    "DeliveryStatus",
    "EmailTemplate",
    "ImportJob",
    "ImportStatus",
    "OnExisting",
    "OutboundEmail",
    "OutboundPart",
    "OutboundRecipient",
    "Recipient",
    "RecipientKind",
    "Settlement",
    "Suppression",
    "SuppressionReason",
    "Timing",
]
