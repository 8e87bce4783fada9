"""What mails say: templates, and how one looks for somebody."""

from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ModelViewSet

from campaigns.api.base import OperatorView, RowSerializer
from campaigns.api.errors import template_refusal
from campaigns.api.fields import ObjectField, single_line
from campaigns.composing import CompiledMessage, Letter, Rendered, TemplateRefused, compile_template
from campaigns.models import EmailTemplate, Recipient
from users.api.bodies import KnownOnly
from users.api.idempotency import CreatesOnce


class TemplateSerializer(RowSerializer[EmailTemplate]):
    """Subject, HTML and text; refused unless they parse and keep to what templates may use."""

    constraints = {"template_name_unique_whatever_its_case": "name"}

    class Meta:
        model = EmailTemplate
        fields = [
            "id",
            "name",
            "description",
            "subject",
            "preheader",
            "html",
            "text",
            "inline_css",
            "created_at",
            "updated_at",
        ]
        extra_kwargs = {
            "subject": {"validators": [single_line]},
            "preheader": {"validators": [single_line]},
            "html": {"trim_whitespace": False},
            "text": {"trim_whitespace": False},
        }

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Compile what would be stored."""
        parts = {
            part: attrs.get(part, getattr(self.instance, part, ""))
            for part in ("subject", "html", "text", "preheader")
        }
        inline_css = attrs.get("inline_css", getattr(self.instance, "inline_css", True))
        if not parts["html"] and not parts["text"]:
            raise serializers.ValidationError({"html": "Give an HTML part, a text part, or both."})
        try:
            compile_template(**parts, inline_css=inline_css)
        except TemplateRefused as refusal:
            raise template_refusal(refusal) from refusal
        return attrs


class RenderSerializer(KnownOnly):
    """For whom to render: a recipient, or made-up values, which go before the recipient's own."""

    recipient = serializers.PrimaryKeyRelatedField(queryset=Recipient.objects.all(), required=False)
    context = ObjectField(required=False)  # type: ignore[assignment]  # hides what child serializers use

    def values(self) -> dict[str, Any]:
        """Return the fields that the template may name."""
        recipient: Recipient | None = self.validated_data.get("recipient")
        own: dict[str, Any] = {"unsubscribe_url": settings.PUBLIC_URL}
        if recipient:
            own |= {"email": recipient.email, "name": recipient.name, "timezone": recipient.timezone}
            own = {**recipient.attributes, **own}
        return {**own, **self.validated_data.get("context", {})}


class RenderedSerializer(serializers.Serializer[Any]):
    """A mail as its recipient would read it; `missing` are the fields it names that were not given."""

    subject = serializers.CharField()
    html = serializers.CharField()
    text = serializers.CharField()
    missing = serializers.ListField(child=serializers.CharField())


@extend_schema(tags=["templates"])
class TemplateView(CreatesOnce, OperatorView[EmailTemplate], ModelViewSet[EmailTemplate]):
    """Templates in Jinja2 syntax. One that a campaign refers to cannot be deleted (409)."""

    queryset = EmailTemplate.objects.all()
    serializer_class = TemplateSerializer
    filter_backends = [SearchFilter, OrderingFilter]
    search_fields = ["name", "description", "subject"]
    ordering_fields = ["id", "name", "created_at", "updated_at"]
    ordering = ["name", "id"]
    verbs = {"render": "view"}

    @extend_schema(
        summary="Render for a recipient or for given values",
        request=RenderSerializer,
        responses=RenderedSerializer,
    )
    @action(detail=True, methods=["post"])
    def render(self, request: Request, pk: str) -> Response:
        """Show the mail without sending it."""
        template = self.get_object()
        asked = RenderSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        message = compile_template(
            template.subject,
            template.html,
            template.text,
            preheader=template.preheader,
            inline_css=template.inline_css,
        )
        return Response(_rendered(message, asked.values()))


def _rendered(message: CompiledMessage, values: dict[str, Any]) -> dict[str, Any]:
    letter = Letter(delivery_id=0, email="", name="", message_id="", context=values)
    rendered = Rendered.of(message, letter)
    return {
        "subject": rendered.subject,
        "html": rendered.html,
        "text": rendered.text,
        "missing": sorted(message.variables - values.keys()),
    }
