"""The steps of the delivery ledger: each one conditional, each its own short transaction.

Every statement that writes for a worker names the lease it was given. Whoever lost the lease writes
nothing. Leases are judged by the database's clock, the only one that all workers share.
"""

from campaigns.ledger.changes import Change, change_for, nobody_carries
from campaigns.ledger.holding import claim, release, renew, take_back_expired
from campaigns.ledger.leases import CampaignHeld, Hold, Lease, LeaseLost, RowsMissing
from campaigns.ledger.rows import Row, cancel_open_rows, declare, due_rows, record, rule_out
from campaigns.ledger.settling import Ruling, settle

__all__ = [
    "CampaignHeld",
    "Change",
    "Hold",
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
    "nobody_carries",
    "record",
    "release",
    "renew",
    "rule_out",
    "settle",
    "take_back_expired",
]
