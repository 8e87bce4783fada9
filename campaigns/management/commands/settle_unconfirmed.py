"""`manage.py settle_unconfirmed CAMPAIGN_ID DECISION --by EMAIL`: decide about mails in doubt."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from campaigns import actions
from campaigns.models import Campaign, Decision, DeliveryLog
from campaigns.settling import LONGEST_NOTE, CampaignCancelled, NotUnconfirmed, TooManyNamed
from users.models import User

_CHOICES = ", ".join(f"{decision.value} ({decision.label})" for decision in Decision)


class Command(BaseCommand):
    """Exits 0 when everything asked for was settled, even if that was nothing; 1 when it was refused."""

    help = "Decide what becomes of a campaign's unconfirmed mails; who decided is kept with each."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("campaign", type=int, metavar="CAMPAIGN_ID")
        parser.add_argument("decision", choices=Decision.values, help=_CHOICES)
        parser.add_argument(
            "--by", required=True, metavar="EMAIL", help="the operator who decides; must have the permission"
        )
        parser.add_argument("--note", default="", metavar="TEXT", help="kept with the decision")
        parser.add_argument(
            "--delivery",
            type=int,
            nargs="+",
            action="extend",
            metavar="ID",
            help="only these, all or none; otherwise all that are unconfirmed",
        )
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def handle(
        self,
        *args: Any,
        campaign: int,
        decision: str,
        by: str,
        note: str,
        delivery: list[int] | None,
        json: bool,
        **options: Any,
    ) -> None:
        if len(note) > LONGEST_NOTE:
            raise CommandError(f"--note: at most {LONGEST_NOTE:,} characters, not {len(note):,}.")
        kept: dict[str, Any] = {"by": _operator(by), "note": note, "now": timezone.now()}
        if not Campaign.objects.filter(id=campaign).exists():
            raise CommandError(f"There is no campaign {campaign}.")
        try:
            if delivery:
                _refuse_strangers(campaign, delivery)
                settled = actions.settle_deliveries(delivery, Decision(decision), **kept)
            else:
                settled = actions.settle_campaign(campaign, Decision(decision), **kept)
        except (CampaignCancelled, NotUnconfirmed, TooManyNamed) as refused:
            raise CommandError(str(refused)) from refused
        self.stdout.write(_answer(campaign, Decision(decision), settled, as_json=json))


def _operator(email: str) -> User:
    user = User.objects.with_address(email).first()
    if user is None:
        raise CommandError(f"--by: there is no account {email}.")
    if not actions.may_settle(user):
        raise CommandError(f"--by: {user.email} may not change deliveries.")
    return user


def _refuse_strangers(campaign_id: int, delivery_ids: list[int]) -> None:
    own = DeliveryLog.objects.filter(campaign_id=campaign_id, id__in=delivery_ids)
    if strangers := sorted(set(delivery_ids).difference(own.values_list("id", flat=True))):
        named = ", ".join(map(str, strangers))
        raise CommandError(f"--delivery: not of campaign {campaign_id}: {named}. Nothing was settled.")


def _answer(campaign_id: int, decision: Decision, settled: int, *, as_json: bool) -> str:
    if as_json:
        return json.dumps({"campaign": campaign_id, "decision": decision.value, "settled": settled})
    if not settled:
        return f"Campaign {campaign_id} has nothing that is unconfirmed."
    return f"Settled {settled:,} deliveries of campaign {campaign_id}: {decision.label}."
