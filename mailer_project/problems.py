"""Every error of the API as application/problem+json (RFC 9457).

    {"type": "about:blank", "title": "Conflict", "status": 409, "detail": "...", "code": "...",
     "errors": [{"field": "audience", "message": "...", "code": "required"}]}

`field` names a member of the request ("emails.0" is the first of a list), or is null where the request as
a whole is meant. An exception's `members` are added to the document.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import DataError, IntegrityError, InterfaceError, OperationalError
from django.db.models import ProtectedError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponsePermanentRedirect, JsonResponse
from django.urls import resolve
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import exception_handler

from mailer_project.rest import TooLarge

CONTENT_TYPE = "application/problem+json"
API = "/api/"
WHOLE_REQUEST = "non_field_errors"
logger = logging.getLogger(__name__)


class Fault(NamedTuple):
    """One thing that is wrong with a request."""

    field: str | None
    message: str
    code: str


class Unavailable(exceptions.APIException):
    """Something this answer needs is away for the moment."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_code = "unavailable"
    default_detail = "The database cannot be reached; try again shortly."
    wait = 5


class Conflict(exceptions.APIException):
    """The request is well-formed, but other rows stand against it."""

    status_code = HTTPStatus.CONFLICT
    default_code = "conflict"
    default_detail = "Another row stands against this."


def handle(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Answer an exception of an API view; REST framework's EXCEPTION_HANDLER."""
    known = _known(exc)
    response = exception_handler(known, context)
    if response is None or not isinstance(known, exceptions.APIException):
        return None
    response.data = {**_problem(known), **getattr(known, "members", {})}
    response.content_type = CONTENT_TYPE
    # a problem is JSON even where the view itself answers CSV or YAML
    context["request"].accepted_renderer = JSONRenderer()
    context["request"].accepted_media_type = CONTENT_TYPE
    return response


def document(status: int, detail: str, code: str, faults: Sequence[Fault] = ()) -> dict[str, Any]:
    """Return one problem."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "errors": [fault._asdict() for fault in faults],
    }


@csrf_exempt
def nothing_here(request: HttpRequest) -> HttpResponse:
    """Answer an address that the API has not; one that lacks its last slash is sent there, body and all."""
    path = request.path_info
    if not path.endswith("/") and resolve(f"{path}/").func is not nothing_here:
        query = request.META.get("QUERY_STRING", "")
        location = f"{request.path}/?{query}" if query else f"{request.path}/"
        return HttpResponsePermanentRedirect(location, preserve_request=True)
    return _answer(404, f"There is nothing at {path}. {API}docs/ lists every address.", "not_found")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer what is refused before a view sees it."""
    if request.path_info.startswith(API):
        return _answer(400, "The request cannot be understood.", "bad_request")
    return defaults.bad_request(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer a fault of ours."""
    if request.path_info.startswith(API):
        return _answer(500, "Something went wrong here; it has been logged.", "error")
    return defaults.server_error(request)


def _answer(status: int, detail: str, code: str) -> HttpResponse:
    return JsonResponse(document(status, detail, code), status=status, content_type=CONTENT_TYPE)


def _known(exc: Exception) -> Exception:
    """Class what is not REST framework's own by what the caller should do next."""
    match exc:
        case Http404():
            return exceptions.NotFound()
        case PermissionDenied():
            return exceptions.PermissionDenied()
        case OperationalError() | InterfaceError():
            logger.error("the database is away: %s", exc)
            return Unavailable()
        case ProtectedError():
            kinds = sorted({str(row._meta.verbose_name_plural) for row in exc.protected_objects})
            return Conflict(f"It cannot be deleted: {', '.join(kinds)} refer to it.", "in_use")
        case IntegrityError():
            logger.warning("refused by the database: %s", exc)
            return Conflict()
        case DataError():
            logger.warning("not a value that the database takes: %s", exc)
            return exceptions.ParseError("A value cannot be stored.", "unstorable")
        case RequestDataTooBig():
            return TooLarge()
        case SuspiciousOperation():
            return exceptions.ParseError("The request cannot be understood.")
    return exc


def _problem(error: exceptions.APIException) -> dict[str, Any]:
    if isinstance(error, exceptions.ValidationError):
        faults = list(_faults(error.get_full_details()))
        return document(error.status_code, _summary(faults), "invalid", faults)
    detail = error.detail
    if isinstance(detail, Mapping):  # as simplejwt's are
        return document(error.status_code, str(detail.get("detail", "")), str(detail.get("code", "error")))
    return document(error.status_code, str(detail), str(error.get_codes()))


def _faults(details: Any, path: tuple[str, ...] = ()) -> Iterator[Fault]:
    """Flatten {"emails": {0: [{"message": ..., "code": ...}]}} into faults of "emails.0"."""
    if isinstance(details, Mapping):
        if details.keys() == {"message", "code"} and isinstance(details["message"], str):
            yield Fault(".".join(path) or None, str(details["message"]), str(details["code"]))
            return
        for key, inner in details.items():
            yield from _faults(inner, path if key == WHOLE_REQUEST else (*path, str(key)))
        return
    for index, inner in enumerate(details):
        # a list of faults belongs to one field, a list of lists to the items of a list
        leaf = isinstance(inner, Mapping) and inner.keys() == {"message", "code"}
        if leaf or inner:
            yield from _faults(inner, path if leaf else (*path, str(index)))


def _summary(faults: Sequence[Fault]) -> str:
    return " ".join(f"{fault.field}: {fault.message}" if fault.field else fault.message for fault in faults)
