"""An SMTP server that misbehaves on purpose, command by command, and how the tests send to it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedReader
from typing import Any

from campaigns.composing import Letter
from campaigns.providers import Answer, Smtp, Verdict
from campaigns.providers.conversation import SmtpAccount
from campaigns.throttle import Limit
from tests.letters import message


@dataclass
class Script:
    """A server that answers as it is told, by command; "drop" breaks off, "silence" says nothing more."""

    answers: dict[str, str] = field(default_factory=dict)
    port: int = 0
    commands: list[str] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)  # the same as they were written
    contents: list[bytes] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def hold(self, connection: socket.socket) -> None:
        """Hold one conversation; raises ConnectionError when the client hangs up before its answers."""
        with connection.makefile("rb") as reader:
            connection.sendall(b"220 ready\r\n")
            for line in reader:
                verb = line[:4].decode().strip().upper()
                self.commands.append(verb)
                self.lines.append(line)
                if not self._answer(connection, verb, "354 go on" if verb == "DATA" else "250 OK"):
                    return
                if verb == "DATA" and self.answers.get("DATA", "354").startswith("354"):
                    content = _content(reader)
                    if content is None:
                        return
                    self.contents.append(content)
                    if not self._answer(connection, ".", "250 OK"):
                        return

    def _answer(self, connection: socket.socket, verb: str, usual: str) -> bool:
        answer = self.answers.get(verb, usual)
        if answer == "silence":
            self.closing.wait()
        elif answer != "drop":
            connection.sendall(answer.removesuffix(" drop").encode() + b"\r\n")
        if answer.endswith("drop"):
            # a reset, so that what the client still writes fails
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        return not answer.endswith(("drop", "silence"))


def _content(reader: BufferedReader) -> bytes | None:
    """Read a mail up to its dot; None where the client hangs up before that."""
    lines = []
    while (line := reader.readline()) != b".\r\n":
        if not line:
            return None
        lines.append(line)
    return b"".join(lines)


@contextmanager
def scripted(**answers: str) -> Iterator[Script]:
    script = Script({verb.replace("DOT", "."): answer for verb, answer in answers.items()})

    def serve(listener: socket.socket) -> None:
        while not script.closing.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            # clients may hang up before they have read all; what a test expects of that, it asks for itself
            with connection, suppress(ConnectionError):
                connection.settimeout(None)
                script.hold(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.02)
        script.port = listener.getsockname()[1]
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield script
        finally:
            script.closing.set()
            thread.join()


def smtp(port: int, **account: Any) -> Smtp:
    given = {"use_tls": False, "timeout": 30, **account}
    return Smtp(SmtpAccount("127.0.0.1", port, **given), Limit("smtp", 0), window=10)


def send(provider: Smtp, *group: Letter) -> Answer:
    with provider:
        return provider.send(message(), group, still_ours=lambda: True)


def seen(sending: Answer) -> list[tuple[Verdict, str]]:
    return [(o.verdict, o.provider_message_id or o.reason) for o in sending.outcomes]
