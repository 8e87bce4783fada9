"""How often one address may post to a page, counted as for the API."""

import math
from collections.abc import Callable
from functools import wraps
from types import SimpleNamespace
from typing import Any, cast

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from rest_framework.request import Request
from rest_framework.views import APIView

from mailer_project.rest import Throttle

View = Callable[..., HttpResponseBase]


def limited(view: View, scope: str) -> View:
    """Return `view`, answering 429 to posts beyond the rate of that scope."""

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        throttle = Throttle()
        counted = cast(APIView, SimpleNamespace(throttle_scope=scope))
        if request.method == "POST" and not throttle.allow_request(Request(request), counted):
            seconds = math.ceil(throttle.wait() or 1)
            answer = render(request, "pages/too_often.html", {"seconds": seconds}, status=429)
            answer["Retry-After"] = str(seconds)
            return answer
        return view(request, *args, **kwargs)

    return wrapper
