"""What every view of the API shares: how bodies are read, lists are cut, logins are counted."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any

import orjson
import redis
from rest_framework.exceptions import APIException, ParseError
from rest_framework.pagination import PageNumberPagination
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.throttling import ScopedRateThrottle

if TYPE_CHECKING:
    from rest_framework.views import APIView  # which imports this module, by its names in the settings

MAX_JSON_BYTES = 5 * 1024 * 1024  # a template's two parts of a million characters fit
logger = logging.getLogger(__name__)


class TooLarge(APIException):
    """The body is larger than this address takes."""

    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"
    default_detail = "The body is too large."


class BoundedJSONParser(BaseParser):
    """JSON in UTF-8 (RFC 8259) of bounded size and depth, without NaN or lone surrogates."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the value. Raises ParseError, TooLarge."""
        body = stream.read(MAX_JSON_BYTES + 1)
        if len(body) > MAX_JSON_BYTES:
            raise TooLarge(f"A JSON body may have {MAX_JSON_BYTES:,} bytes.")
        try:
            value = orjson.loads(body)
            # reads 1024 levels, writes 254: what lies between would exhaust Python's stack further on
            orjson.dumps(value)
        except orjson.JSONDecodeError as error:
            raise ParseError(f"The body is not JSON: {error}.") from error
        except orjson.JSONEncodeError as error:
            raise ParseError("The body is nested too deep.") from error
        return value


class Pages(PageNumberPagination):
    """?page=2&page_size=100"""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 500


class Throttle(ScopedRateThrottle):
    """Counts in Redis the calls of views with a `throttle_scope`; while Redis is away it lets all through."""

    def allow_request(self, request: Request, view: "APIView") -> bool:
        """Say whether this call is within its rate."""
        try:
            return super().allow_request(request, view)
        except redis.RedisError as error:
            logger.warning("Redis is away, calls are not limited: %s", error)
            return True
