"""Single mails: what one call wrote, sent under the same promise as a campaign.

    writing   what was asked for, held to the rules and stored
    steps     claim, declare, record, release: conditional, each its own short transaction
    posting   one mail, start to end
    deciding  what operators decide about it
    forgetting  what stays of one when its reader's account is deleted

A mail is stored before anything else happens, and a message on the queue `transactional` is only a hint: the
minute tick finds what was lost. `delivery.py` explains why nothing is lost and nothing silently sent twice.
"""

from campaigns.outbound import forgetting
from campaigns.outbound.deciding import NothingToDecide, Verb, decide
from campaigns.outbound.posting import Posted, post
from campaigns.outbound.steps import ahead_of, due, status_of, take_back_expired
from campaigns.outbound.writing import Draft, KeyReused, MailRefused, Stored, check, store

__all__ = [
    "Draft",
    "KeyReused",
    "MailRefused",
    "NothingToDecide",
    "Posted",
    "Stored",
    "Verb",
    "ahead_of",
    "check",
    "decide",
    "due",
    "forgetting",
    "post",
    "status_of",
    "store",
    "take_back_expired",
]
