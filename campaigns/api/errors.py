"""What the domain raises, as answers."""

from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.core.exceptions import ValidationError as ModelValidationError
from rest_framework import status
from rest_framework.exceptions import APIException, NotFound, ValidationError
from rest_framework.response import Response
from rest_framework.serializers import as_serializer_error
from rest_framework.views import APIView

from campaigns.actions import CampaignEnded, NoLongerEditable, QueueAway
from campaigns.composing import CannotRender, TemplateRefused
from campaigns.exporting.exports import TooManyRows
from campaigns.importing.jobs import ImportEnded
from campaigns.importing.refusals import ImportRefused
from campaigns.lifecycle import TransitionRefused
from campaigns.models import CampaignStatus
from campaigns.preflight import CampaignNotReady
from campaigns.settling import CampaignCancelled, NotUnconfirmed, TooManyNamed


class Conflict(APIException):
    """The state of what was named does not allow it; `members` go into the problem document."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"

    def __init__(self, detail: str, code: str, **members: str | list[int]) -> None:
        super().__init__(detail, code)
        self.members = members


class LedgerBroken(APIException):
    """A campaign was called completed, and its ledger adds up no more: no reading of it can be trusted."""

    default_code = "ledger_broken"


class QueueUnavailable(APIException):
    """The queue does not answer, and what was asked for would be lost."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "queue_away"


class TranslatesRefusals(APIView):
    """A view whose domain functions may raise."""

    def handle_exception(self, exc: Exception) -> Response:
        """Answer an exception."""
        return super().handle_exception(_translated(exc))


def template_refusal(refusal: TemplateRefused) -> ValidationError:
    """Return the answer to a template that may not be saved; it names the part and the line."""
    return ValidationError({refusal.part.lower(): [f"Line {refusal.line}: {refusal.problem}"]}, "template")


def _translated(exc: Exception) -> Exception:
    match exc:
        case TransitionRefused():
            return Conflict(
                str(exc), "transition_refused", **{"from": str(exc.from_status), "to": str(exc.to_status)}
            )
        case NoLongerEditable():
            return Conflict(str(exc), "no_longer_editable", **{"from": str(exc.status)})
        case CampaignEnded():
            return Conflict(str(exc), "campaign_ended", **{"from": str(exc.status)})
        case CampaignCancelled():
            return Conflict(str(exc), "campaign_cancelled", **{"from": str(CampaignStatus.CANCELLED)})
        case NotUnconfirmed():
            return Conflict(str(exc), "not_unconfirmed", deliveries=exc.delivery_ids)
        case TooManyNamed():
            return ValidationError({"deliveries": [str(exc)]}, "too_many")
        case CampaignNotReady():
            return ValidationError(_fields(exc.problems), "not_ready")
        case ImportEnded():
            return Conflict(str(exc), "import_ended", **{"from": str(exc.status)})
        case ImportRefused():
            return ValidationError({exc.field: [exc.message]}, "import_refused")
        case TemplateRefused():
            return template_refusal(exc)
        case CannotRender():
            return ValidationError({"context": [str(exc)]}, "cannot_render")
        case ModelValidationError():
            return ValidationError(as_serializer_error(exc))
        case TooManyRows():
            return Conflict(str(exc), "too_many_rows")
        case QueueAway():
            return QueueUnavailable(str(exc))
        case ObjectDoesNotExist():
            return NotFound()
    return exc


def _fields(problems: dict[str, list[str]]) -> dict[str, Any]:
    return dict(problems)
