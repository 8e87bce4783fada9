"""The local mailbox: what it has answered 250 is there."""

import os
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mailer_project.local import mailbox
from mailer_project.local.process import kept_port
from tests.workers import wait_until

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def running(directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The mailbox as a process of its own, and its port."""
    port = kept_port(directory / "port")
    command = [sys.executable, "-m", "mailer_project.local.mailbox", f"--port={port}"]
    process = subprocess.Popen([*command, f"--directory={directory / 'mail'}"], cwd=ROOT)
    try:
        wait_until(lambda: _listens(port), what="the mailbox listening")
        yield process, port
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def message(number: int, body: str = "Hello\r\n") -> bytes:
    return f"Subject: {number}\r\nMessage-ID:\r\n <{number}@example.com>\r\n\r\n{body}".encode()


def only_message(directory: Path) -> bytes:
    (path,) = (directory / "mail" / "new").iterdir()
    return path.read_bytes()


class TestMailbox:
    def test_holds_what_it_answered_250_even_when_it_is_killed_at_once(self, tmp_path: Path) -> None:
        expected = set()
        with running(tmp_path) as (process, port), smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
            client.ehlo()
            for number in range(50):
                client.mail("sender@example.com")
                client.rcpt(f"Person{number}@example.com")
                code, answer = client.data(message(number))
                assert (code, answer[:22]) == (250, b"2.0.0 Ok: queued as 1" + answer[21:22])
                expected.add((f"person{number}@example.com", f"{number}@example.com"))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            client.close()
        assert mailbox.count(tmp_path / "mail", expected) == mailbox.Count(distinct=50, copies=0, missing=0)

    @pytest.mark.parametrize(
        "body",
        [
            "",
            ".\r\n",
            "..two dots\r\n.one\r\n",
            "x" * 900 + "\r\n",
            "first\r\n\r\n.\r\nlast\r\n",
            "line\r\n" * 20_000,
        ],
        ids=["empty", "a dot", "leading dots", "long line", "a dot between", "120 kB"],
    )
    def test_keeps_every_byte_behind_the_envelope(self, tmp_path: Path, body: str) -> None:
        with running(tmp_path) as (_, port), smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
            client.sendmail("sender@example.com", ["a@example.com", "b@example.com"], message(1, body))
        envelope = (
            b"Return-Path: <sender@example.com>\r\n"
            b"Delivered-To: a@example.com\r\n"
            b"Delivered-To: b@example.com\r\n"
        )
        assert only_message(tmp_path) == envelope + message(1, body)

    def test_takes_addresses_outside_ascii(self, tmp_path: Path) -> None:
        with running(tmp_path) as (_, port), smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
            utf8 = ["SMTPUTF8"]
            client.sendmail("sender@example.com", ["jörg@example.com"], message(1), mail_options=utf8)
        expected = {("jörg@example.com", "1@example.com")}
        assert mailbox.count(tmp_path / "mail", expected) == mailbox.Count(distinct=1, copies=0, missing=0)

    def test_answers_451_when_it_cannot_write(self, tmp_path: Path) -> None:
        with running(tmp_path) as (_, port), smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
            (tmp_path / "mail" / "new").rename(tmp_path / "mail" / "away")
            with pytest.raises(smtplib.SMTPDataError) as refused:
                client.sendmail("sender@example.com", ["a@example.com"], message(1))
        assert refused.value.smtp_code == 451


class TestCount:
    def test_tells_copies_and_missing_apart(self, tmp_path: Path) -> None:
        maildir = mailbox.Maildir(tmp_path)
        for number in (1, 1, 2):
            maildir.add("sender@example.com", ["Person@example.com"], message(number))
        expected = {("person@example.com", f"{number}@example.com") for number in (1, 2, 3)}
        assert mailbox.count(tmp_path, expected) == mailbox.Count(distinct=2, copies=1, missing=1)

    def test_does_not_take_one_recipients_mail_for_anothers(self, tmp_path: Path) -> None:
        mailbox.Maildir(tmp_path).add("sender@example.com", ["a@example.com"], message(1))
        found = mailbox.count(tmp_path, {("b@example.com", "1@example.com")})
        assert found == mailbox.Count(distinct=0, copies=0, missing=1)
