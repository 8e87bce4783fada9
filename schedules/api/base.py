"""What belongs to a user: seen, changed and counted by its owner, and by operators who may."""

from typing import Any, ClassVar, TypeVar, cast

from django.db import models
from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from campaigns.api.errors import Conflict, TranslatesRefusals
from schedules import reading
from schedules.assigning import NotNow
from schedules.kinds import PayloadRefused
from schedules.planning import TooManySchedules
from schedules.recurrence import Recurrence
from users.models import User

M = TypeVar("M", bound=models.Model)
R = TypeVar("R")

_LIST = {"type": "array", "items": {"type": "string"}}
RECURRENCE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "When. `times` and `every` go with daily to yearly; local times are meant "
    "in `timezone`. A time that the clocks skip shifts forward, one that they show twice happens once.",
    "required": ["kind"],
    "additionalProperties": False,
    "properties": {
        "kind": {"enum": ["once", "daily", "weekly", "monthly", "yearly", "cron", "interval"]},
        "timezone": {"type": "string", "description": "An IANA name; default: the user's own."},
        "at": {"type": "string", "description": "once: with an offset, or local, as 2026-05-31T09:00:00."},
        "times": {**_LIST, "description": "Times of day, such as 09:00 or 18:30:15."},
        "weekdays": {**_LIST, "description": "weekly: monday to sunday."},
        "month_days": {
            "type": "array",
            "items": {"oneOf": [{"type": "integer"}, {"const": "last"}]},
            "description": 'monthly, yearly: 1 to 31, or "last".',
        },
        "months": {"type": "array", "items": {"type": "integer"}, "description": "yearly: 1 to 12."},
        "every": {"type": "integer", "minimum": 1, "maximum": 366, "description": "2: every second one."},
        "cron": {"type": "string", "description": "Five fields: minute hour day month weekday."},
        "interval_seconds": {"type": "integer", "minimum": 60, "maximum": 31_622_400},
        "start": {"type": ["string", "null"], "description": "Nothing happens before it; default: now."},
        "until": {"type": ["string", "null"], "description": "Nothing happens after it."},
        "count": {"type": ["integer", "null"], "description": "How many times, 1 to 1000."},
        "ends_at": {"type": ["string", "null"], "readOnly": True, "description": "The last moment."},
    },
}


@extend_schema_field(RECURRENCE_SCHEMA)
class RecurrenceField(serializers.Field[Any, Any, Any, Any]):
    """A recurrence, read by `schedules.reading`; its owner's zone is the default."""

    def to_internal_value(self, data: Any) -> Recurrence:
        """Return the recurrence. Raises ValidationError for each member that cannot be."""
        if data == getattr(getattr(self.parent, "instance", None), "recurrence", ()):
            raise serializers.SkipField  # what was answered is sent back: nothing is planned anew
        try:
            return reading.read(data, now=timezone.now(), default_timezone=self._zone())
        except reading.RecurrenceRefused as refused:
            problems = {field or "non_field_errors": texts for field, texts in refused.problems.items()}
            raise serializers.ValidationError(problems, "recurrence") from refused

    def to_representation(self, value: Any) -> Any:
        """Return it as it is stored."""
        return value

    def _zone(self) -> str:
        row = getattr(self.parent, "instance", None)
        owner = getattr(row, "user", None) or self.context["request"].user
        return str(owner.timezone)


def the_user(request: Request) -> User:
    """Return who asks."""
    return cast(User, request.user)


def sees_all(user: User, model: type[models.Model]) -> bool:
    """Whether the user is an operator who has Django's permission to see everybody's rows of a model."""
    options = model._meta
    return user.is_staff and user.has_perm(f"{options.app_label}.view_{options.model_name}")


class OwnedView(TranslatesRefusals, GenericViewSet[M]):
    """Rows of users: everybody has their own, and a foreign one is not there (404).

    Operators with Django's permission to see the model's rows see all of them; to change another's they need
    the permission for it too.
    """

    permission_classes = [IsAuthenticated]
    lookup_value_regex = "[0-9]{1,18}"
    reads: ClassVar[frozenset[str]] = frozenset(("list", "retrieve", "metadata"))

    def get_queryset(self) -> "models.QuerySet[M]":
        """Return the rows that the user may see."""
        rows = super().get_queryset()
        user = self.request.user
        if not user.is_authenticated:
            return rows.none()
        return rows if sees_all(user, rows.model) else rows.filter(user=user)

    def filter_queryset(self, queryset: "models.QuerySet[M, R]") -> "models.QuerySet[M, R]":
        """Filter lists; one row is found by its id alone."""
        return super().filter_queryset(queryset) if self.action == "list" else queryset

    def get_object(self) -> M:
        """Return the row; raises PermissionDenied for a change that its owner alone may make."""
        row = super().get_object()
        user = the_user(self.request)
        if self.action not in self.reads and getattr(row, "user_id", None) != user.pk:
            verb = "delete" if self.action == "destroy" else "change"
            if not user.has_perm(f"{row._meta.app_label}.{verb}_{row._meta.model_name}"):
                raise PermissionDenied("This is another user's; it needs the permission to change it.")
        return row

    def get_success_headers(self, data: Any) -> dict[str, str]:
        """Say where the row that a POST to the list made is found."""
        return {"Location": self.request.build_absolute_uri(f"{self.request.path}{data['id']}/")}

    def handle_exception(self, exc: Exception) -> Response:
        """Answer an exception."""
        return super().handle_exception(_translated(exc))


def _translated(exc: Exception) -> Exception:
    match exc:
        case TooManySchedules():
            return Conflict(str(exc), "too_many")
        case NotNow():
            return Conflict(str(exc), exc.code)
        case PayloadRefused():
            whole = ("kind", "file")
            return serializers.ValidationError(
                {name if name in whole else f"payload.{name}": texts for name, texts in exc.problems.items()},
                "payload",
            )
    return exc
