"""The providers: whether each is worth asking, and how much of its limits is used."""

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from campaigns import vitals
from campaigns.api.base import MayOperate
from campaigns.api.fields import UtcField


class ProviderSerializer(serializers.Serializer[vitals.ProviderState]):
    """One of EMAIL_PROVIDERS."""

    name = serializers.CharField()
    state = serializers.ChoiceField(
        choices=vitals.POSITIONS,
        source="position",
        help_text="Its breaker: closed, it is asked; open, nobody asks it before `until`; half-open, one "
        "batch tries it; unknown, Redis does not answer.",
    )
    since = UtcField(allow_null=True, help_text="Since when it is not closed.")
    until = UtcField(allow_null=True)
    why = serializers.CharField(help_text="Why it is not closed; else empty.")
    rate_per_second = serializers.IntegerField(source="limit.per_second", help_text="0: no limit.")
    waits_for_rate = serializers.BooleanField(
        source="is_booked_out", help_text="Whether senders wait for a place in its rate."
    )
    quota_per_day = serializers.IntegerField(
        source="limit.per_day", help_text="Mails in any 24 hours; 0: no limit."
    )
    quota_used = serializers.IntegerField(allow_null=True, help_text="null: no quota, or unknown.")
    quota_left = serializers.IntegerField(allow_null=True, help_text="null: no quota, or unknown.")
    quota_more_at = UtcField(allow_null=True, help_text="When the first of the mails counted is a day old.")


class ProvidersSerializer(serializers.Serializer[vitals.Vitals]):
    """The providers in the order in which they are tried, and the minute tick that all sending hangs on."""

    providers = ProviderSerializer(many=True)
    last_tick_at = UtcField(
        source="tick_at", allow_null=True, help_text="null: not in the last 30 days, or unknown."
    )


@extend_schema(tags=["providers"], summary="What state they are in", responses=ProvidersSerializer)
class ProvidersStatusView(APIView):
    """Says of each provider whether it is asked, and why not; for operators."""

    permission_classes = [MayOperate]

    def get(self, request: Request) -> Response:
        """Answer at once, also when Redis is away; everything is "unknown" then."""
        return Response(ProvidersSerializer(vitals.look()).data)
