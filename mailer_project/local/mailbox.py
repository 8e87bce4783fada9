"""A local mailbox in place of a provider: an SMTP server that keeps every message in a Maildir.

`python -m mailer_project.local.mailbox --directory DIR --port PORT`. A message is on the disk before it is
answered 250, so whatever a sender counts as accepted can be found here after any crash.
"""

import argparse
import asyncio
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.parser import HeaderParser
from email.policy import compat32
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

WRITERS = 8  # threads that wait for the disk at the same time
MAX_MESSAGE_BYTES = 33_554_432
PIECE = 262_144
END = b"\r\n.\r\n"
logger = logging.getLogger("mailbox")


@dataclass(frozen=True)
class Received:
    """One message for one recipient, as the mailbox holds it."""

    recipient: str  # the envelope's address, in lower case
    message_id: str  # without angle brackets
    path: Path


class Maildir:
    """A Maildir (cr.yp.to/proto/maildir.html) whose messages are on the disk once `add` has returned."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("tmp", "new", "cur"):
            (directory / name).mkdir(parents=True, exist_ok=True)

    def add(self, sender: str, recipients: list[str], content: bytes) -> str:
        """Keep a message with its envelope in Return-Path and Delivered-To; returns its queue id."""
        queue_id = f"{time.time_ns():x}-{secrets.token_hex(4)}"
        envelope = "".join(f"{line}\r\n" for line in _envelope_lines(sender, recipients))
        draft = self.directory / "tmp" / queue_id
        with draft.open("xb") as file:
            file.write(envelope.encode())
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self.directory / "new" / queue_id)
        self._sync_new()
        return queue_id

    def _sync_new(self) -> None:
        directory = os.open(self.directory / "new", os.O_RDONLY)
        try:
            os.fsync(directory)  # the name, too, must survive a crash
        finally:
            os.close(directory)

    def received(self) -> Iterator[Received]:
        """Every message, once for each of its recipients."""
        for name in ("new", "cur"):
            for path in (self.directory / name).iterdir():
                headers = HeaderParser(policy=compat32).parsestr(_header_block(path).decode(errors="replace"))
                message_id = str(headers.get("Message-ID", "")).strip(" \t\r\n<>")
                for recipient in headers.get_all("Delivered-To", []):
                    yield Received(str(recipient).strip().lower(), message_id, path)


def _envelope_lines(sender: str, recipients: list[str]) -> list[str]:
    return [f"Return-Path: <{sender}>", *(f"Delivered-To: {recipient}" for recipient in recipients)]


def _header_block(path: Path) -> bytes:
    lines = []
    with path.open("rb") as file:
        for line in file:
            lines.append(line)
            if line in (b"\r\n", b"\n"):
                break
    return b"".join(lines)


@dataclass(frozen=True)
class Count:
    """What a mailbox holds of an expected set of messages."""

    distinct: int  # different (recipient, Message-ID) pairs that were expected and are here
    copies: int  # further copies of such a pair
    missing: int  # expected, not here


def count(directory: Path, expected: set[tuple[str, str]]) -> Count:
    """Compare the Maildir with the expected pairs of lower-case recipient and Message-ID without brackets."""
    found = [
        pair
        for message in Maildir(directory).received()
        if (pair := (message.recipient, message.message_id)) in expected
    ]
    distinct = len(set(found))
    return Count(distinct=distinct, copies=len(found) - distinct, missing=len(expected) - distinct)


class Handler:
    """Keeps what aiosmtpd receives."""

    def __init__(self, maildir: Maildir, writers: ThreadPoolExecutor) -> None:
        self.maildir = maildir
        self.writers = writers

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Answer 250 with the queue id once the message is on the disk, 451 if it cannot be written."""
        content = envelope.original_content or b""
        loop = asyncio.get_running_loop()
        try:
            queue_id = await loop.run_in_executor(
                self.writers, self.maildir.add, envelope.mail_from or "", envelope.rcpt_tos, content
            )
        except OSError as error:
            logger.error("Could not keep a message: %s", error)
            return f"451 4.3.0 The message could not be written: {error.strerror}"
        return f"250 2.0.0 Ok: queued as {queue_id}"


class Conversation(SMTP):
    """aiosmtpd's server, but taking a message in large pieces: line by line costs twice the CPU."""

    async def smtp_DATA(self, arg: str) -> None:
        if await self.check_helo_needed() or await self.check_auth_needed("DATA"):
            return
        envelope = self.envelope
        if arg or envelope is None or not envelope.rcpt_tos:
            await self.push("501 Syntax: DATA" if arg else "503 Error: need RCPT command")
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        content, rest = await self._read_message()
        if rest or content is None:
            # PIPELINING is not offered, so nothing may follow before our answer
            await self.push("554 5.5.0 Error: more data than expected")
            self._writer.close()
            return
        envelope.content = envelope.original_content = content
        answer = await self._call_handler_hook("DATA")
        self.envelope = self._create_envelope()
        await self.push(answer)

    async def _read_message(self) -> tuple[bytes | None, bytes]:
        """The message without its dots for transparency (RFC 5321 §4.5.2), and what came behind its end.

        None for a message that is too large or does not end.
        """
        data = bytearray(b"\r\n")  # so that an empty message ends like every other
        seen = 0
        while (end := data.find(END, max(0, seen - len(END)))) < 0:
            seen = len(data)
            piece = await self._reader.read(PIECE)
            if not piece or seen > MAX_MESSAGE_BYTES:
                return None, piece
            data += piece
        content = bytes(data[:end]).replace(b"\r\n..", b"\r\n.")
        return content[2:] + b"\r\n" if end else b"", bytes(data[end + len(END) :])


async def serve(directory: Path, port: int) -> None:
    """Receive mail on 127.0.0.1:`port` until SIGTERM or SIGINT."""
    loop, ending = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    maildir = Maildir(directory)
    with ThreadPoolExecutor(WRITERS) as writers:

        def session() -> SMTP:
            return Conversation(
                Handler(maildir, writers),
                data_size_limit=MAX_MESSAGE_BYTES,
                enable_SMTPUTF8=True,
                hostname=socket.gethostname(),
                ident="local mailbox",
                loop=loop,
            )

        server = await loop.create_server(session, "127.0.0.1", port)
        logger.info("Mail sent to 127.0.0.1:%d is kept in %s", port, directory)
        async with server:
            await ending.wait()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="Receive mail into a Maildir.")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("mail.log").setLevel(logging.WARNING)  # aiosmtpd would log every line of every session
    asyncio.run(serve(options.directory, options.port))


if __name__ == "__main__":
    main()
