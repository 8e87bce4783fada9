"""The one page that recipients see: /u/{token}, where they unsubscribe."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from campaigns.addresses import folded
from campaigns.forgetting import is_pseudonym
from campaigns.models import Suppression, SuppressionReason
from campaigns.suppression import suppress
from campaigns.tracking import UnknownToken, delivery_for

PAGE = "pages/unsubscribe.html"


@csrf_exempt  # mail programs post without a cookie (RFC 8058 §3.2); the signed token is the proof
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """Unsubscribe the recipient of one delivery.

    GET asks, or says that it is done already, and changes nothing, because scanners follow every link in
    a mail. POST, from the page's
    button or as the one click of RFC 8058, does it whatever its body says, and answers 200 without a
    redirect. A token that was not made here: 404. One whose recipient's account was deleted: 410, since
    nobody knows any longer which address to stop.
    """
    try:
        delivery = delivery_for(token)
    except UnknownToken:
        return _page(request, "unknown", status=404)
    if is_pseudonym(delivery.email):
        return _page(request, "gone", status=410)
    if request.method != "POST":
        stopped = Suppression.objects.filter(email=folded(delivery.email)).exists()
        return _page(request, "already" if stopped else "question", email=delivery.email)
    suppress(delivery.email, SuppressionReason.UNSUBSCRIBE, campaign=delivery.campaign)
    return _page(request, "done", email=delivery.email)


def _page(request: HttpRequest, step: str, *, email: str = "", status: int = 200) -> HttpResponse:
    response = render(request, PAGE, {"step": step, "email": email}, status=status)
    response["Referrer-Policy"] = "no-referrer"  # the address is the token
    response["X-Robots-Tag"] = "noindex"
    response["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'unsafe-inline'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    return response
