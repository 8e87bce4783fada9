"""The steps of the delivery ledger: each one conditional, each its own short transaction.

Every statement that writes for a worker names the lease it was given. Whoever lost the lease writes
nothing. Leases are judged by the database's clock, the only one that all workers share.
"""

from campaigns.ledger.holding import claim, release, renew, take_back_expired
from campaigns.ledger.leases import CampaignHeld, Lease, LeaseLost, RowsMissing
from campaigns.ledger.outcomes import change_for
from campaigns.ledger.rows import Change, Row, cancel_open_rows, declare, due_rows, record
from campaigns.ledger.settling import Ruling, settle

__all__ = [
    "CampaignHeld",
    "Change",
    "Lease",
    "LeaseLost",
    "Row",
    "RowsMissing",
    "Ruling",
    "cancel_open_rows",
    "change_for",
    "claim",
    "declare",
    "due_rows",
    "record",
    "release",
    "renew",
    "settle",
    "take_back_expired",
]
