"""The addresses of the campaign resources."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from campaigns.api.attachments import AttachmentView
from campaigns.api.audiences import AudienceView, RecipientView
from campaigns.api.campaigns import CampaignView
from campaigns.api.deliveries import DeliveryView
from campaigns.api.emails import EmailView
from campaigns.api.imports import ImportView
from campaigns.api.providers import ProvidersStatusView
from campaigns.api.suppressions import SuppressionView
from campaigns.api.templates import TemplateView
from campaigns.exporting.exports import EXTENSIONS

router = SimpleRouter()
router.register("audiences", AudienceView)
router.register("recipients", RecipientView)
router.register("imports", ImportView)
router.register("templates", TemplateView)
router.register("attachments", AttachmentView)
router.register("campaigns", CampaignView)
router.register("deliveries", DeliveryView)
router.register("emails", EmailView)
router.register("suppressions", SuppressionView)

urlpatterns = [
    path("imports/<int:pk>/errors.csv", ImportView.as_view({"get": "errors_csv"})),
    *(
        path(
            f"audiences/<int:pk>/recipients.{extension}",
            RecipientView.as_view({"get": "export"}),
            {"extension": extension},
            name=f"recipients-{extension}",
        )
        for extension in EXTENSIONS
    ),
    path("providers/status/", ProvidersStatusView.as_view(), name="providers-status"),
    *router.urls,
]
