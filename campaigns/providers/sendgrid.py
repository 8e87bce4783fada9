"""SendGrid's v3 Mail Send API over a pooled keep-alive connection.

https://www.twilio.com/docs/sendgrid/api-reference/mail-send. The official client opens a connection per
request and has no timeout, so it is not used on this path.
"""

import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson
import urllib3
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, LocationValueError, NewConnectionError

from campaigns.composing import (
    CannotRender,
    CompiledMessage,
    Letter,
    Message,
    SingleMail,
    request_for_all,
    request_for_one,
    shared_values,
)
from campaigns.providers.base import (
    Answer,
    Asked,
    Departure,
    Outcome,
    Provider,
    Trouble,
    Verdict,
    lease_over,
    unsent,
)
from campaigns.retries import Consequence, asked_pause, sendgrid_answer
from campaigns.throttle import Limit

logger = logging.getLogger(__name__)

MAX_PERSONALIZATIONS = 1000
NO_SMTPUTF8 = "its API takes no address with letters outside ASCII before the @-sign"
_KEY = re.compile(r"[!-~]+")  # visible ASCII
CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 60.0  # seconds
IDLE_SECONDS = 15.0  # a connection unused for longer may have been closed by the other side


class _HttpsConnection(HTTPSConnection):
    """One whose failed handshake is told from a connection that broke with the request on its way."""

    def connect(self) -> None:
        try:
            super().connect()
        except OSError as error:
            self.close()
            raise NewConnectionError(self, f"TLS: {error}") from error


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


class SendGrid(Provider):
    """SendGrid, or a server that speaks its API."""

    def __init__(
        self,
        api_key: str,
        limit: Limit,
        *,
        host: str,
        from_email: str = "",
        read_timeout: float = READ_TIMEOUT,
    ) -> None:
        """`host` is a URL without a path; `read_timeout` is in seconds.

        Raises ValueError for a key that cannot stand in a header; the message does not repeat the key.
        """
        if not _KEY.fullmatch(api_key):
            raise ValueError("the API key is empty or has characters that cannot stand in a header")
        self.limit = limit
        self.from_email = from_email
        self.patience = CONNECT_TIMEOUT + read_timeout
        self.url = f"{host}/v3/mail/send"
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
        timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT, read=read_timeout)
        self._pool = urllib3.PoolManager(num_pools=1, maxsize=4, timeout=timeout, retries=False)
        self._pool.pool_classes_by_scheme = {"http": urllib3.HTTPConnectionPool, "https": _HttpsPool}
        self._used_at = 0.0
        self._values: dict[int, list[str]] = {}  # that the letters of this batch were looked at with

    def is_ready(self) -> bool:
        return time.monotonic() - self._used_at <= IDLE_SECONDS

    def open(self) -> None:
        # a request written to a connection that is just being closed would be in doubt for nothing
        if time.monotonic() - self._used_at > IDLE_SECONDS:
            self._pool.clear()
        self._used_at = time.monotonic()

    def rest(self) -> None:
        self._used_at = time.monotonic()

    def close(self) -> None:
        self._pool.clear()

    def declines(self, letter: Letter) -> str:
        # it answers 202 and drops the mail later as invalid (github.com/sendgrid/sendgrid-csharp/issues/656)
        return f"{self.name}: {NO_SMTPUTF8}" if letter.needs_smtputf8 else ""

    def groups(self, message: Message, letters: Sequence[Letter]) -> Iterator[Sequence[Letter]]:
        if isinstance(message, SingleMail):
            together, alone = letters, []  # its recipients stand in it together
        else:
            found = ((letter.delivery_id, _shared_values(message, letter)) for letter in letters)
            self._values = {delivery_id: values for delivery_id, values in found if values is not None}
            together = [letter for letter in letters if letter.delivery_id in self._values]
            alone = [letter for letter in letters if letter.delivery_id not in self._values]
        for start in range(0, len(together), MAX_PERSONALIZATIONS):
            yield together[start : start + MAX_PERSONALIZATIONS]
        for letter in alone:
            yield [letter]

    def compose(self, message: Message, group: Sequence[Letter]) -> Departure:
        """Write one group as one request; one that is refused whole is split until the culprit is alone."""
        try:
            body = orjson.dumps(self._request(message, group))
        except CannotRender as error:
            return partial(_refused, str(error))
        except Exception as error:  # a defect of ours, before anything has left
            logger.exception("%s: a request could not be composed", self.name)
            return partial(_not_written, f"{self.name}: {error!r}")
        return partial(self._send, message, group, body)

    def _request(self, message: Message, group: Sequence[Letter]) -> dict[str, Any]:
        if isinstance(message, SingleMail):
            return message.request(group)
        if len(group) == 1:
            return request_for_one(message, group[0])
        return request_for_all(message, group, self._values)

    def _send(
        self,
        message: Message,
        group: Sequence[Letter],
        body: bytes,
        leaving: Sequence[Letter],
        still_ours: Asked,
    ) -> Answer:
        if len(leaving) < len(group):  # some must not be written to after all
            return self.send(message, leaving, still_ours=still_ours)
        if not still_ours():
            trouble = lease_over()
            return Answer(unsent(group, trouble.why), trouble)
        try:
            answer = self._pool.request("POST", self.url, body=body, headers=self._headers)
        except (NewConnectionError, ConnectTimeoutError, LocationValueError) as error:
            trouble = self._trouble(str(error))
            return Answer(unsent(group, trouble.why), trouble)
        except HTTPError as error:
            trouble = self._trouble(f"no answer after the request was out: {error}")
            return Answer(_all(group, Verdict.UNCONFIRMED, trouble.why), trouble)
        return self._judge(message, group, answer, still_ours)

    def _judge(
        self,
        message: Message,
        group: Sequence[Letter],
        answer: urllib3.BaseHTTPResponse,
        still_ours: Asked,
    ) -> Answer:
        consequence = sendgrid_answer(answer.status)
        if consequence is None:
            request_id = answer.headers.get("X-Message-Id", "")
            return Answer(
                tuple(Outcome(letter.delivery_id, Verdict.ACCEPTED, request_id) for letter in group)
            )
        errors = _errors(answer)
        why = f"{answer.status} {_words(errors) or answer.reason or ''}".strip()
        match consequence:
            case Consequence.UNKNOWN:
                return Answer(_all(group, Verdict.UNCONFIRMED, why), self._trouble(why))
            case Consequence.SLOW_DOWN:
                trouble = self._trouble(why, _pause(answer.headers))
                return Answer(unsent(group, trouble.why), trouble)
            case Consequence.MESSAGE_BAD if len(group) == 1 or _concerns_everybody(answer.status, errors):
                return Answer(_all(group, Verdict.REFUSED, why))
            case Consequence.MESSAGE_BAD:
                return self._halves(message, group, still_ours)
        # 403 is the answer to a sender that is not verified; other campaigns have others
        trouble = Trouble(f"{self.name}: {why}", fault=answer.status != 403)
        return Answer(unsent(group, trouble.why), trouble)

    def _halves(self, message: Message, group: Sequence[Letter], still_ours: Asked) -> Answer:
        middle = len(group) // 2
        first = self.send(message, group[:middle], still_ours=still_ours)
        if first.trouble:
            rest = unsent(group[middle:], first.trouble.why)
            return Answer((*first.outcomes, *rest), first.trouble)
        second = self.send(message, group[middle:], still_ours=still_ours)
        return Answer((*first.outcomes, *second.outcomes), second.trouble)

    def _trouble(self, why: str, retry_after: float | None = None) -> Trouble:
        return Trouble(f"{self.name}: {why}", retry_after)


def _shared_values(message: CompiledMessage, letter: Letter) -> list[str] | None:
    try:
        return shared_values(message, letter)
    except CannotRender:
        return None  # it is refused when its turn comes, alone


def _refused(why: str, leaving: Sequence[Letter], _: Asked) -> Answer:
    return Answer(_all(leaving, Verdict.REFUSED, why))


def _not_written(why: str, leaving: Sequence[Letter], _: Asked) -> Answer:
    return Answer(unsent(leaving, why), Trouble(why, fault=False))


def _all(group: Sequence[Letter], verdict: Verdict, why: str) -> tuple[Outcome, ...]:
    return tuple(Outcome(letter.delivery_id, verdict, reason=why) for letter in group)


def _errors(answer: urllib3.BaseHTTPResponse) -> list[dict[str, Any]]:
    """Return the `errors` array of SendGrid's error answers, or nothing where the body is something else."""
    try:
        body = orjson.loads(answer.data)
    except orjson.JSONDecodeError:
        return []
    errors = body.get("errors") if isinstance(body, dict) else None
    return [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []


def _words(errors: list[dict[str, Any]]) -> str:
    return "; ".join(
        f"{error['field']}: {error.get('message')}" if error.get("field") else str(error.get("message"))
        for error in errors[:3]
    )


def _concerns_everybody(status: int, errors: list[dict[str, Any]]) -> bool:
    """Say whether a 400 names only fields that all recipients share, so that splitting would not help."""
    fields = [str(error["field"]) for error in errors if error.get("field")]
    return status == 400 and bool(fields) and not any("personalizations" in field for field in fields)


def _pause(headers: Mapping[str, str]) -> float:
    return asked_pause(
        headers.get("Retry-After", ""), headers.get("X-RateLimit-Reset", ""), now=datetime.now(UTC)
    )
