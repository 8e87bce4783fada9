"""What the resources have in common."""

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import orjson
from django.db import IntegrityError, models, transaction
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response, patch_cache_control
from psycopg import errors
from rest_framework import serializers
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from campaigns.api.errors import TranslatesRefusals
from campaigns.api.fields import AddressField, ObjectField, PlainAddressField, UtcField
from campaigns.models import fields
from users.api.bodies import KnownOnly

M = TypeVar("M", bound=models.Model)
R = TypeVar("R")

VERBS = {
    "list": "view",
    "retrieve": "view",
    "metadata": "view",
    "create": "add",
    "update": "change",
    "partial_update": "change",
    "destroy": "delete",
}


class MayOperate(BasePermission):
    """Operators, each within Django's model permissions: `<app>.<verb>_<model>`.

    The verb follows from the view's action, or from its `verbs`; an action that nobody thought of
    needs "change".
    """

    message = "This needs an operator's account with the permission for it."

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Say whether the user may do this to any row."""
        user = request.user
        if not (user.is_active and getattr(user, "is_staff", False)):
            return False
        if not isinstance(view, OperatorView) or view.action is None:  # answered 405 hereafter
            return True
        rows: models.QuerySet[models.Model] = view.get_queryset()
        verb = {**VERBS, **view.verbs}.get(view.action, "change")
        return user.has_perm(f"{rows.model._meta.app_label}.{verb}_{rows.model._meta.model_name}")


class OperatorView(TranslatesRefusals, GenericViewSet[M]):
    """A resource for operators."""

    permission_classes = [MayOperate]
    lookup_value_regex = "[0-9]+"
    verbs: ClassVar[Mapping[str, str]] = {}

    def filter_queryset(self, queryset: models.QuerySet[M, R]) -> models.QuerySet[M, R]:
        """Filter lists; one row is found by its id alone."""
        return super().filter_queryset(queryset) if self.action == "list" else queryset

    def get_success_headers(self, data: Mapping[str, Any]) -> dict[str, str]:
        """Say where the row that a POST to the list made is found."""
        return {"Location": self.request.build_absolute_uri(f"{self.request.path}{data['id']}/")}


class RowSerializer(KnownOnly, serializers.ModelSerializer[M]):
    """A row whose constraints the database checks; `constraints` says which field each one is about."""

    constraints: ClassVar[Mapping[str, str]] = {}
    serializer_field_mapping = {
        **serializers.ModelSerializer.serializer_field_mapping,
        models.DateTimeField: UtcField,
        models.EmailField: PlainAddressField,
        fields.AddressField: AddressField,
        models.JSONField: ObjectField,
    }

    def save(self, **kwargs: Any) -> M:
        """Store the row. Raises ValidationError for a constraint that is broken."""
        try:
            with transaction.atomic():
                return super().save(**kwargs)
        except IntegrityError as error:
            raise self._refusal(error) from error

    def _refusal(self, error: IntegrityError) -> Exception:
        cause = error.__cause__
        name = cause.diag.constraint_name if isinstance(cause, errors.IntegrityError) else None
        model: type[models.Model] = self.Meta.model
        for constraint in model._meta.constraints:
            field = self.constraints.get(constraint.name)
            if field and constraint.name == name:
                message = str(constraint.violation_error_message)
                return serializers.ValidationError({field: [message]}, "unique")
        return error


def fresh(request: Request, document: Any) -> HttpResponseBase:
    """Answer a document that clients must ask for anew; 304 when they have this very one."""
    response = Response(document)
    etag = f'"{hashlib.sha256(orjson.dumps(document)).hexdigest()[:32]}"'
    response["ETag"] = etag
    patch_cache_control(response, private=True, no_cache=True)
    answer = get_conditional_response(request._request, etag=etag, response=response)
    return response if answer is None else answer
