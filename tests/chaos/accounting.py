"""Providers that keep accounts: each acceptance is on disk before it is answered.

    python -m tests.chaos.accounting --log FILE --smtp PORT --http PORT --control PORT

SMTP and SendGrid's Mail Send on 127.0.0.1, in a process of their own, so that nothing that is killed
elsewhere can take an acceptance back. The log has one line for each: address, tab, Message-ID.

Faults come over the control port, a line each, "NAME COUNT": the next COUNT messages or requests meet it.
    drop-after     accept, then close without an answer      (in doubt)
    drop-before    close before anything was accepted        (provably not accepted)
    slow-down      421 in SMTP, 429 in HTTP                  (provably not accepted)
    unavailable    451 at MAIL in SMTP, 500 in HTTP          (provably not accepted)
    gateway        drop-after in SMTP, 502 after accepting in HTTP
"""

import argparse
import asyncio
import json
import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from email.parser import BytesHeaderParser
from pathlib import Path

FAULTS = ("drop-after", "drop-before", "slow-down", "unavailable", "gateway")
MAX_LINE = 1 << 20


class Accounts:
    """The log, and the faults that are still to be met."""

    def __init__(self, log: Path) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._faults: Counter[str] = Counter()

    def accept(self, mails: Iterable[tuple[str, str]]) -> None:
        """Write down the address and the Message-ID of each mail, durably."""
        os.write(self._log, "".join(f"{address}\t{message_id}\n" for address, message_id in mails).encode())
        os.fdatasync(self._log)

    def meets(self, *names: str) -> str:
        """Return the fault that is to be met now, of those that can happen here, or ''."""
        for name in names:
            if self._faults[name]:
                self._faults[name] -= 1
                return name
        return ""

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take orders: "NAME COUNT" or "clear"; answers "ok"."""
        async for line in reader:
            name, _, count = line.decode().strip().partition(" ")
            if name == "clear":
                self._faults.clear()
            else:
                self._faults[name] += int(count)
            writer.write(b"ok\n")
            await writer.drain()
        writer.close()


class SmtpConversation:
    """One connection of RFC 5321, as much of it as a sender needs."""

    def __init__(self, accounts: Accounts, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.accounts, self.reader, self.writer = accounts, reader, writer
        self.recipient = ""

    async def hold(self) -> None:
        """Speak until one side closes."""
        await self._say("220 accounting ESMTP")
        while line := await self.reader.readline():
            verb = line[:4].upper()
            if verb == b"QUIT":
                await self._say("221 bye")
                break
            if not await self._obey(verb, line):
                break
        self.writer.close()

    async def _obey(self, verb: bytes, line: bytes) -> bool:
        match verb:
            case b"EHLO":
                await self._say("250 accounting")
            case b"MAIL" if self.accounts.meets("unavailable"):
                await self._say("451 4.3.0 try later")
            case b"RCPT" if self.accounts.meets("slow-down"):
                await self._say("421 4.7.0 closing")
                return False
            case b"RCPT":
                self.recipient = line[line.index(b"<") + 1 : line.index(b">")].decode()
                await self._say("250 ok")
            case b"DATA" if self.accounts.meets("drop-before"):
                return False
            case b"DATA":
                await self._say("354 go on")
                return await self._take()
            case _:
                await self._say("250 ok")
        return True

    async def _take(self) -> bool:
        content = await self.reader.readuntil(b"\r\n.\r\n")
        message_id = BytesHeaderParser().parsebytes(content)["Message-ID"]
        self.accounts.accept([(self.recipient, message_id)])
        if self.accounts.meets("drop-after", "gateway"):
            return False
        await self._say("250 2.0.0 accepted")
        return True

    async def _say(self, reply: str) -> None:
        self.writer.write(reply.encode() + b"\r\n")
        await self.writer.drain()


class HttpConversation:
    """One keep-alive connection that posts to /v3/mail/send."""

    def __init__(self, accounts: Accounts, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.accounts, self.reader, self.writer = accounts, reader, writer

    async def hold(self) -> None:
        """Answer requests until one side closes."""
        while (head := await self._head()) and await self._answer(await self.reader.readexactly(head)):
            pass
        self.writer.close()

    async def _head(self) -> int:
        """Read the request line and the headers, and return the length of the body."""
        length = 0
        while (line := await self.reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return length

    async def _answer(self, body: bytes) -> bool:
        fault = self.accounts.meets(*FAULTS)
        match fault:
            case "drop-before":
                return False
            case "slow-down":
                await self._say(429, "Retry-After: 1\r\n")
                return True
            case "unavailable":
                await self._say(500)
                return True
        personalizations = json.loads(body)["personalizations"]
        self.accounts.accept((p["to"][0]["email"], p["headers"]["Message-ID"]) for p in personalizations)
        if fault == "drop-after":
            return False
        await self._say(502 if fault == "gateway" else 202)
        return True

    async def _say(self, status: int, headers: str = "") -> None:
        self.writer.write(f"HTTP/1.1 {status} x\r\n{headers}Content-Length: 0\r\n\r\n".encode())
        await self.writer.drain()


async def serve(accounts: Accounts, *, smtp: int, http: int, control: int) -> None:
    """Serve on the three ports until the process is ended."""

    async def speak_smtp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await SmtpConversation(accounts, reader, writer).hold()

    async def speak_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await HttpConversation(accounts, reader, writer).hold()

    await asyncio.start_server(speak_smtp, "127.0.0.1", smtp, limit=MAX_LINE)
    await asyncio.start_server(speak_http, "127.0.0.1", http, limit=MAX_LINE)
    await asyncio.start_server(accounts.control, "127.0.0.1", control)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", type=Path, required=True)
    for name in ("smtp", "http", "control"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    asyncio.run(serve(Accounts(options.log), smtp=options.smtp, http=options.http, control=options.control))


if __name__ == "__main__":
    main()
