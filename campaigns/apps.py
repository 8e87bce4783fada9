from django.apps import AppConfig


class CampaignsConfig(AppConfig):
    name = "campaigns"

    def ready(self) -> None:
        """Listen for accounts that are deleted."""
        from campaigns import forgetting, outbound  # models can be imported only now

        forgetting.connect()
        outbound.forgetting.connect()
