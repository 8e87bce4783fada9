"""What a page answers while PostgreSQL is away: a sentence, and 503 so that nobody takes it for a defect."""

import logging

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.deprecation import MiddlewareMixin

logger = logging.getLogger(__name__)

RETRY_AFTER = 5  # seconds


class DatabaseAwayMiddleware(MiddlewareMixin):
    """Answers a view that met a lost database with 503 (RFC 9110 §15.6.4) instead of 500."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer OperationalError and InterfaceError; leave the others to Django."""
        if not isinstance(exception, OperationalError | InterfaceError):
            return None
        logger.warning("%s %s: the database is away: %s", request.method, request.path, exception)
        page = render_to_string("pages/database_away.html")
        return HttpResponse(page, status=503, headers={"Retry-After": str(RETRY_AFTER)})
