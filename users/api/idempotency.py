"""The Idempotency-Key header: what is created by a POST is created once, however often it is sent."""

import re
from collections.abc import Callable, Mapping
from functools import wraps
from http import HTTPStatus
from typing import Any, TypeVar, cast

import orjson
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpResponse
from django.utils import timezone
from django.utils.crypto import salted_hmac
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from users import idempotency
from users.idempotency import MAX_KEY, Answer, OtherRequest, StillRunning
from users.models import User

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
_KEY = re.compile(rf'"?(?P<key>[!#-\[\]-~ ]{{1,{MAX_KEY}}}?)"?')  # a string of RFC 8941, or the bare text
_KEPT_HEADERS = ("Location",)

V = TypeVar("V", bound=Callable[..., Any])


class KeyMeansAnother(APIException):
    """The key was used for another request."""

    status_code = HTTPStatus.UNPROCESSABLE_ENTITY
    default_code = "idempotency_key_reused"
    default_detail = (
        "This Idempotency-Key was used for a request with another body or address; take a new key."
    )


class FirstIsRunning(APIException):
    """The first request with the key is not done."""

    status_code = HTTPStatus.CONFLICT
    default_code = "idempotency_key_in_use"
    default_detail = "A request with this Idempotency-Key is being worked on; ask again in a moment."


_PARAMETER = OpenApiParameter(
    HEADER,
    str,
    OpenApiParameter.HEADER,
    description=f"A new one for each thing to create, such as a UUID; 1 to {MAX_KEY} characters. Repeated "
    "within 24 hours, the same request is not done again: its first answer is given again, with "
    f"`{REPLAYED}: true`. "
    "Another request with the key is refused (422), and so is one while the first is running (409). "
    "Refusals are not kept.",
)


_OF_REGISTERING = OpenApiParameter(
    HEADER,
    str,
    OpenApiParameter.HEADER,
    description=f"A new one for each account, such as a UUID; 1 to {MAX_KEY} characters. Repeated within 24 "
    f"hours, the same request is given its first answer again, with `{REPLAYED}: true`; any other one that "
    "names the address is refused (400).",
)


def once(method: V) -> V:
    """Decorate a view's method: with the header, it is done once for each user and key.

    It stands above `action`, which would drop the description of the header.
    """

    @wraps(method)
    def wrapper(view: Any, request: Request, *args: Any, **kwargs: Any) -> Any:
        key = _key_of(request)
        if key is None:
            return method(view, request, *args, **kwargs)
        made: list[Response] = []

        def act() -> Answer:
            made.append(method(view, request, *args, **kwargs))
            return _answer_of(made[0])

        try:
            kept = idempotency.once(
                cast(User, request.user), key, _fingerprint(view, request, kwargs), act, now=timezone.now()
            )
        except OtherRequest as other:
            raise KeyMeansAnother from other
        except StillRunning as running:
            raise FirstIsRunning from running
        return _again(kept) if kept else made[0]

    return cast(V, extend_schema(parameters=[_PARAMETER])(wrapper))


def registers_once(method: V) -> V:
    """Decorate the method that makes an account of whoever asks: with the header, it is done once for each.

    It answers with an account's document. What is compared has the password in it, so nobody is given an
    answer that they could not have by signing in.
    """

    @wraps(method)
    def wrapper(view: Any, request: Request) -> Any:
        key = _key_of(request)
        if key is None:
            return method(view, request)
        made: list[Response] = []

        def act() -> tuple[User, Answer]:
            made.append(method(view, request))
            return User.objects.get(pk=made[0].data["id"]), _answer_of(made[0])

        email = request.data.get("email") if isinstance(request.data, Mapping) else None
        kept = idempotency.once_registered(
            str(email), key, _fingerprint(view, request, {}), act, now=timezone.now()
        )
        return _again(kept) if kept else made[0]

    return cast(V, extend_schema(parameters=[_OF_REGISTERING])(wrapper))


class CreatesOnce(mixins.CreateModelMixin):
    """CreateModelMixin for those who repeat a POST of which they never saw the answer."""

    @once
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Create a row, once for each key."""
        return super().create(request, *args, **kwargs)


def _key_of(request: Request) -> str | None:
    text = request.headers.get(HEADER)
    if text is None:
        return None
    found = _KEY.fullmatch(text.strip())
    if not found:
        message = f"Give 1 to {MAX_KEY} visible ASCII characters, such as a UUID."
        raise ValidationError({HEADER: [message]}, "bad_key")
    return found["key"]


def _fingerprint(view: Any, request: Request, kwargs: Mapping[str, Any]) -> str:
    """Digest which view was asked for what; not the address, which has an alias.

    Keyed, as the body may hold a password: without SECRET_KEY nobody can try passwords on what is stored.
    """
    digest = salted_hmac(__name__, b"", algorithm="sha256")
    named = sorted((name, str(value)) for name, value in kwargs.items())
    digest.update(orjson.dumps([type(view).__name__, getattr(view, "action", ""), named]))
    data: Any = request.data
    fields = dict(data.lists()) if hasattr(data, "lists") else {"": data}
    for name in sorted(fields):
        for value in fields[name] if hasattr(data, "lists") else [fields[name]]:
            digest.update(orjson.dumps(name))
            _add(digest, value)
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    if isinstance(value, UploadedFile):
        digest.update(orjson.dumps([value.name, value.size]))
        for chunk in value.chunks():
            digest.update(chunk)
        value.seek(0)
    else:
        digest.update(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


def _answer_of(response: Response) -> Answer:
    body = b"" if response.data is None else JSONRenderer().render(response.data)
    headers = {name: response[name] for name in _KEPT_HEADERS if name in response}
    return Answer(response.status_code, body, headers)


def _again(answer: Answer) -> HttpResponse:
    headers = {**answer.headers, REPLAYED: "true"}
    return HttpResponse(answer.body, status=answer.status, content_type="application/json", headers=headers)
