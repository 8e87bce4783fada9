"""Who may not be mailed. Senders join this table at the last moment before they send."""

from campaigns.models import Campaign, Suppression, SuppressionReason


def suppress(
    email: str, reason: SuppressionReason, *, note: str = "", campaign: Campaign | None = None
) -> Suppression:
    """Stop all further campaign mail to an address; one that is stopped already stays as it is."""
    suppression, _ = Suppression.objects.get_or_create(
        email=email.lower(), defaults={"reason": reason, "note": note, "campaign": campaign}
    )
    return suppression
