"""The operator of a campaign under test: asks over the API, and reads the status all the time."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import urllib3

TERMS = ("pending", "deferred", "sent", "failed", "suppressed", "unconfirmed", "cancelled")
PATIENCE = 60.0  # seconds that a request of the operator is repeated while services are away
TIMEOUT = 5.0
POLL_SECONDS = 0.1


@dataclass(slots=True)
class Operator:
    """One staff member with a token, in charge of one campaign."""

    web: str  # the API's address
    token: str
    campaign: int

    def ask(self, action: str) -> None:
        """Ask for pause or resume until the API has done it; 409 says that it need not."""
        self._insist("POST", f"campaigns/{self.campaign}/{action}/", done=(200, 202, 409))

    def suppress(self, email: str) -> None:
        """Enter an address that no campaign is to mail; 400 says that it is entered already."""
        self._insist("POST", "suppressions/", done=(201, 400), json={"email": email})

    def delete_recipient(self, recipient_id: int) -> None:
        """Delete a member of the audience; 404 says that nobody is there any more."""
        self._insist("DELETE", f"recipients/{recipient_id}/", done=(204, 404))

    def _insist(
        self, method: str, path: str, *, done: tuple[int, ...], json: dict[str, str] | None = None
    ) -> None:
        """Ask until the answer is one of `done`; an earlier one may have been done, and its answer lost."""
        deadline = time.monotonic() + PATIENCE
        said = "nothing"
        while True:
            try:
                answer = self._request(method, path, json)
                if answer.status in done:
                    return
                said = f"{answer.status} {answer.data[:200].decode()}"
            except urllib3.exceptions.HTTPError as error:
                said = repr(error)
            assert time.monotonic() < deadline, f"{method} {path} was not done: {said}"
            time.sleep(0.2)  # a service is being restarted

    def status(self) -> dict[str, Any] | None:
        """Return the status document, or None where there is no answer or another one."""
        try:
            answer = self._request("GET", f"campaigns/{self.campaign}/status/")
        except urllib3.exceptions.HTTPError:
            return None
        return dict(answer.json()) if answer.status == 200 else None

    def _request(
        self, method: str, path: str, json: dict[str, str] | None = None
    ) -> urllib3.BaseHTTPResponse:
        return urllib3.request(
            method,
            f"{self.web}/api/v1/{path}",
            headers={"Authorization": f"Bearer {self.token}"},
            json=json,
            timeout=TIMEOUT,
            retries=False,
        )


@dataclass(slots=True)
class Watch:
    """Reads the status again and again, and keeps what was wrong with it.

    `accepted` says how many mails the provider has accepted: no status may claim more.
    """

    operator: Operator
    total: int
    accepted: Callable[[], int]
    readings: int = 0
    unanswered: int = 0
    wrong: list[str] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)
    _done: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def __enter__(self) -> "Watch":
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            status = self.operator.status()
            if status is None:
                self.unanswered += 1
                continue
            self.readings += 1
            self.wrong += [f"{fault}: {status}" for fault in self._faults(status)]
            self.last = status

    def _faults(self, status: dict[str, Any]) -> list[str]:
        faults = []
        if status["total"] != self.total or status["total"] != sum(status[term] for term in TERMS):
            faults.append("the equation is broken")
        if status["sent"] < self.last.get("sent", 0):
            faults.append(f"fewer are sent than before ({self.last['sent']})")
        if status["sent"] > self.accepted():
            faults.append("more are called sent than were accepted")
        return faults
