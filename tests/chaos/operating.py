"""The operator of a campaign under test: asks over the API, and reads the status all the time."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests

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
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                answer = self._request("POST", f"campaigns/{self.campaign}/{action}/")
                if answer.status_code in (200, 202, 409):
                    return
            except requests.RequestException:
                pass
            assert time.monotonic() < deadline, f"nobody could {action} the campaign"
            time.sleep(0.2)  # a service is being restarted

    def status(self) -> dict[str, Any] | None:
        """Return the status document, or None where there is no answer or another one."""
        try:
            answer = self._request("GET", f"campaigns/{self.campaign}/status/")
        except requests.RequestException:
            return None
        return dict(answer.json()) if answer.status_code == 200 else None

    def _request(self, method: str, path: str) -> requests.Response:
        return requests.request(
            method,
            f"{self.web}/api/v1/{path}",
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=TIMEOUT,
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
