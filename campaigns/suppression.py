"""Who may not be mailed. Senders join this table at the last moment before they send."""

from collections.abc import Iterable

from campaigns.addresses import folded
from campaigns.models import Campaign, Suppression, SuppressionReason

# What stops a single mail, too: it would come back, or be called spam. Who unsubscribed from campaigns, or
# was entered by an operator, still gets a password reset.
STOPS_SINGLE_MAILS = (SuppressionReason.BOUNCE, SuppressionReason.COMPLAINT)


def suppress(
    email: str, reason: SuppressionReason, *, note: str = "", campaign: Campaign | None = None
) -> Suppression:
    """Stop all further campaign mail to an address; one that is stopped already stays as it is."""
    suppression, _ = Suppression.objects.get_or_create(
        email=folded(email), defaults={"reason": reason, "note": note, "campaign": campaign}
    )
    return suppression


def of_single_mails(addresses: Iterable[str]) -> dict[str, str]:
    """Return the addresses, folded, that take not even single mails, each with the reason."""
    asked = {folded(address) for address in addresses}
    found = Suppression.objects.filter(email__in=asked, reason__in=STOPS_SINGLE_MAILS)
    return dict(found.values_list("email", "reason"))
