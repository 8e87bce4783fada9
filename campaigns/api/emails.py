"""Single mails: send one to a few people, and see what became of it."""

from base64 import b64decode
from binascii import Error as NotBase64
from typing import Any, cast

from django.http import HttpResponseBase
from django.utils import timezone
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.request import Request
from rest_framework.response import Response

from campaigns import outbound
from campaigns.api.base import OperatorView, RowSerializer, fresh
from campaigns.api.errors import Conflict
from campaigns.api.fields import ObjectField
from campaigns.composing import Part, PartKind
from campaigns.mail import MailRefused, send_email, send_soon
from campaigns.models import OutboundEmail, OutboundRecipient
from campaigns.outbound import NothingToDecide, Verb
from users.api.bodies import KnownOnly
from users.api.idempotency import once
from users.models import User


class OutboundRecipientSerializer(RowSerializer[OutboundRecipient]):
    """What became of the mail to one recipient."""

    class Meta:
        model = OutboundRecipient
        fields = [
            "id",
            "kind",
            "email",
            "name",
            "status",
            "attempts",
            "doubts",
            "not_before",
            "provider",
            "provider_message_id",
            "reason",
            "attempted_at",
            "sent_at",
            "decisions",
        ]
        read_only_fields = fields


class EmailSerializer(RowSerializer[OutboundEmail]):
    """A single mail: pending or deferred while it is open to one recipient, else the worst that became of it.

    Its text is not given back: others' password resets are among these mails.
    """

    recipients = OutboundRecipientSerializer(many=True, read_only=True)

    class Meta:
        model = OutboundEmail
        fields = [
            "id",
            "message_id",
            "subject",
            "from_email",
            "status",
            "not_before",
            "trouble",
            "created_by",
            "created_at",
            "finished_at",
            "recipients",
        ]
        read_only_fields = fields

    def to_representation(self, instance: OutboundEmail) -> dict[str, Any]:
        """Return the document; its status follows from the recipients that it shows.

        The one that is stored follows them a moment later, when the worker gives the mail back.
        """
        document: dict[str, Any] = super().to_representation(instance)
        if statuses := {each["status"] for each in document["recipients"]}:
            document["status"] = outbound.status_of(statuses).value
        return document


@extend_schema_field(OpenApiTypes.BYTE)
class Base64Field(serializers.CharField):
    """Bytes, written in base64."""

    def to_internal_value(self, data: Any) -> Any:
        """Return the bytes."""
        try:
            return b64decode(super().to_internal_value(data), validate=True)
        except (NotBase64, ValueError) as error:
            raise serializers.ValidationError("This is not base64.", "not_base64") from error


class MailFileSerializer(KnownOnly):
    """A file that goes with the mail."""

    name = serializers.CharField(max_length=100)
    content = Base64Field(trim_whitespace=False)
    content_type = serializers.CharField(max_length=200, default="application/octet-stream")
    content_id = serializers.CharField(
        max_length=250, default="", allow_blank=True, help_text="Shows it in the HTML, as cid:…"
    )

    def part(self, given: dict[str, Any]) -> Part:
        """Return it as a part of a mail."""
        kind = PartKind.INLINE if given["content_id"] else PartKind.ATTACHMENT
        return Part(kind, given["content_type"], given["content"], given["name"], given["content_id"])


def _addresses(**kwargs: Any) -> serializers.ListField:
    return serializers.ListField(child=serializers.CharField(max_length=500), **kwargs)


class SendSerializer(KnownOnly):
    """A mail to be sent. An address may have a name, as in `Asha <asha@example.com>`."""

    subject = serializers.CharField(allow_blank=True, trim_whitespace=False)
    body = serializers.CharField(
        allow_blank=True, trim_whitespace=False, help_text="The text; may be empty where there is `html`."
    )
    recipient_list = _addresses(default=list, help_text="They stand in To together and can read each other.")
    html = serializers.CharField(default="", allow_blank=True, trim_whitespace=False)
    cc = _addresses(default=list)
    bcc = _addresses(default=list)
    from_email = serializers.CharField(default="", allow_blank=True, max_length=500)
    reply_to = _addresses(default=list)
    headers = ObjectField(default=dict)
    attachments = MailFileSerializer(many=True, default=list)

    def validate_headers(self, headers: dict[str, Any]) -> dict[str, str]:
        """Refuse what is no text."""
        for name, value in headers.items():
            if not isinstance(value, str):
                raise serializers.ValidationError(f"{name}: a header is a text.", "invalid")
        return headers


class DecisionSerializer(KnownOnly):
    """What is to become of a mail that failed or is unconfirmed."""

    decision = serializers.ChoiceField(
        choices=[(verb.value, verb.name) for verb in Verb],
        help_text="retry: to whom it failed, unless it was given up in doubt. "
        "sent, send_again, give_up: to whom it is unconfirmed.",
    )
    note = serializers.CharField(default="", allow_blank=True, max_length=500)


@extend_schema(tags=["emails"])
class EmailView(mixins.ListModelMixin, OperatorView[OutboundEmail]):
    """Single mails: POST one, then follow it. They go before campaigns, and nothing else tells them apart."""

    queryset = OutboundEmail.objects.prefetch_related("recipients")
    serializer_class = EmailSerializer
    filter_backends = [DjangoFilterBackend, SearchFilter, OrderingFilter]
    filterset_fields = ["status", "created_by"]
    search_fields = ["subject", "recipients__email"]
    ordering_fields = ["id"]
    ordering = ["-id"]

    @extend_schema(summary="Send a mail", request=SendSerializer, responses={202: EmailSerializer})
    @once
    def create(self, request: Request) -> Response:
        """Store and queue it; the answer comes at once, and `GET emails/{id}/` says what became of it."""
        asked = SendSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        files = MailFileSerializer()
        parts = [files.part(each) for each in given.pop("attachments")]
        try:
            stored = send_email(**given, attachments=parts, created_by=cast(User, request.user))
        except MailRefused as refused:
            raise serializers.ValidationError(dict(refused.problems), "mail_refused") from refused
        data = self.get_serializer(self.get_queryset().get(pk=stored.id)).data
        return Response(data, status=status.HTTP_202_ACCEPTED, headers=self.get_success_headers(data))

    @extend_schema(summary="What became of it", responses=EmailSerializer)
    def retrieve(self, request: Request, pk: str) -> HttpResponseBase:
        """Poll this; with If-None-Match 304 while nothing changes."""
        return fresh(request, self.get_serializer(self.get_object()).data)

    @extend_schema(summary="Decide what becomes of it", request=DecisionSerializer, responses=EmailSerializer)
    @action(detail=True, methods=["post"], filter_backends=[], pagination_class=None)
    def decide(self, request: Request, pk: str) -> Response:
        """Try again where it failed, or settle what is unconfirmed; who decided is kept. 409: nothing is."""
        mail = self.get_object()
        asked = DecisionSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        try:
            outbound.decide(
                [mail.pk],
                Verb(given["decision"]),
                by=cast(User, request.user),
                now=timezone.now(),
                note=given["note"],
            )
        except NothingToDecide as nothing:
            raise Conflict(str(nothing), "nothing_to_decide") from nothing
        send_soon([mail.pk])
        return Response(self.get_serializer(self.get_object()).data)
