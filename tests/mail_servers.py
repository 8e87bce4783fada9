"""Servers to send to: a real SMTP conversation, and an HTTP one that holds requests to SendGrid's schema."""

import asyncio
import json
import logging
import socket
import ssl
import threading
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from jsonschema import Draft202012Validator

logging.getLogger("mail.log").setLevel(logging.WARNING)  # aiosmtpd tells every command

_SPECIFICATION = Path(__file__).parent / "data" / "sendgrid" / "tsg_mail_v3.json"


@dataclass
class SmtpServer:
    """What an SMTP server was sent, and what it is to answer.

    `rcpt` and `data` hold replies by recipient, `mail` one for every sender, `mail_utf8` one for those
    with SMTPUTF8; `drop` names recipients whose connection is cut "before" or "after" the mail was taken,
    without an answer. `delay` is the seconds that each answer to a mail takes; a `crowd` is how many mails
    must be waiting for their answers at a time before any of them gets one. Connections beyond
    `most_connections` are turned away, without a word.
    """

    port: int = 0
    accepted: list[tuple[str, bytes]] = field(default_factory=list)
    utf8: list[str] = field(default_factory=list)  # to whom a mail was announced with SMTPUTF8
    connections: int = 0
    mail: str = ""
    rcpt: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    drop: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    crowd: asyncio.Barrier | None = None
    most_connections: int | None = None
    turned_away: int = 0
    farewells: int = 0
    mail_utf8: str = ""

    @property
    def recipients(self) -> list[str]:
        """Who was written to, in order."""
        return [recipient for recipient, _ in self.accepted]

    async def handle_EHLO(  # aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        if self.connections == self.most_connections:
            self.turned_away += 1
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        else:
            self.connections += 1
        return responses

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.mail:
            return self.mail
        if self.mail_utf8 and "SMTPUTF8" in options:
            return self.mail_utf8
        envelope.mail_from = address
        return "250 OK"

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.farewells += 1
        return "221 Bye"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.rcpt:
            return self.rcpt[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        (recipient,) = envelope.rcpt_tos
        if recipient in self.data:
            return self.data[recipient]
        assert isinstance(envelope.content, bytes)
        fate = self.drop.get(recipient)
        if fate != "before":
            self.accepted.append((recipient, envelope.content))
            self.utf8 += [recipient] if envelope.smtp_utf8 else []
        await asyncio.sleep(self.delay)
        if self.crowd:
            await self.crowd.wait()
        if fate:
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return f"250 2.0.0 queued as Q{len(self.accepted)}"


class _Controller(Controller):
    """aiosmtpd's, on a socket that is bound already: nobody can take its port before the server has it."""

    def __init__(self, server: SmtpServer, listener: socket.socket, **options: Any) -> None:
        super().__init__(server, "127.0.0.1", server.port, ready_timeout=60, **options)
        self.listener = listener

    def _create_server(self) -> Awaitable[asyncio.AbstractServer]:
        return self.loop.create_server(self._factory_invoker, sock=self.listener, ssl=self.ssl_context)


@contextmanager
def smtp_server(**options: Any) -> Iterator[SmtpServer]:
    """Run an SMTP server on a free port of 127.0.0.1; `options` are aiosmtpd's, such as `tls_context`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = SmtpServer(port=listener.getsockname()[1])
        controller = _Controller(server, listener, **options)
        controller.start()
        try:
            yield server
        finally:
            controller.stop()


def _opened() -> threading.Event:
    gate = threading.Event()
    gate.set()
    return gate


@dataclass
class SendGridServer:
    """What a Mail Send endpoint was sent, and what it is to answer.

    Each request is held to SendGrid's published schema; `faults` keeps what did not fit. `answers` are
    used up in order, (status, headers, body) each, before the normal 202; the string "drop" cuts the
    connection after the request was read, "silence" leaves it without an answer.
    `bad_addresses` makes any request that names one a 400. While `gate` is closed (cleared), requests are
    taken, and their 202 waits until it is open (set).
    """

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    accepted: list[dict[str, Any]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str], str] | str] = field(default_factory=list)
    bad_addresses: set[str] = field(default_factory=set)
    connections: set[tuple[str, int]] = field(default_factory=set)
    closing: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event = field(default_factory=_opened)

    @property
    def recipients(self) -> list[str]:
        """Who was written to, in order."""
        return [p["to"][0]["email"] for request in self.accepted for p in request["personalizations"]]

    def answer(self, request: dict[str, Any]) -> tuple[int, dict[str, str], str] | str:
        self.requests.append(request)
        self.faults += [
            f"{list(e.absolute_path)}: {e.message[:200]}" for e in _VALIDATOR.iter_errors(request)
        ]
        if self.answers:
            return self.answers.pop(0)
        for position, personalization in enumerate(request["personalizations"]):
            if personalization["to"][0]["email"] in self.bad_addresses:
                error = {"message": "bad address", "field": f"personalizations.{position}.to.0.email"}
                return 400, {}, json.dumps({"errors": [error]})
        self.accepted.append(request)
        self.gate.wait()
        return 202, {"X-Message-Id": f"request-{len(self.accepted)}"}, ""


@contextmanager
def sendgrid_server(tls: ssl.SSLContext | None = None) -> Iterator[SendGridServer]:
    """Run a Mail Send endpoint on a free port of 127.0.0.1."""
    state = SendGridServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            state.connections.add(self.client_address)
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/v3/mail/send"
            assert self.headers["Authorization"] == "Bearer SG.test"
            answer = state.answer(request)
            if isinstance(answer, str):
                if answer == "silence":
                    state.closing.wait()
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            status, headers, body = answer
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet: the tests say what went wrong."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    state.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.closing.set()
        state.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _validator() -> Draft202012Validator:
    specification = json.loads(_SPECIFICATION.read_text())
    body = specification["components"]["requestBodies"]["PostMailSend"]
    schema = body["content"]["application/json"]["schema"]
    schema["properties"]["custom_args"] = {"type": "object"}
    return Draft202012Validator({**schema, "components": specification["components"]})


_VALIDATOR = _validator()
