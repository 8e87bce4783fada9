"""Reaching an SMTP server: encryption, login, greeting."""

import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult

from campaigns.providers import Trouble, Verdict
from tests.certificates import self_signed
from tests.letters import letter
from tests.mail_servers import smtp_server
from tests.scripted_smtp import seen, send, smtp


@pytest.fixture
def untrusted(tmp_path: Path) -> ssl.SSLContext:
    return self_signed(tmp_path / "certificate.pem")


@pytest.fixture
def tls(untrusted: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A certificate that this process trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    return untrusted


class TestOpening:
    def test_refuses_a_certificate_that_nobody_vouches_for(self, untrusted: ssl.SSLContext) -> None:
        with smtp_server(tls_context=untrusted) as server:
            with pytest.raises(Trouble, match="certificate verify failed") as trouble:
                smtp(server.port, use_tls=True).open()
            assert str(trouble.value).startswith(f"smtp at 127.0.0.1:{server.port}: ")
            assert trouble.value.retry_after is None
            assert server.recipients == []

    def test_uses_a_certificate_that_is_trusted(self, tls: ssl.SSLContext) -> None:
        with smtp_server(tls_context=tls) as server:
            assert seen(send(smtp(server.port, use_tls=True), letter())) == [
                (Verdict.ACCEPTED, "2.0.0 queued as Q1")
            ]

    def test_never_goes_on_without_the_encryption_it_was_told_to_use(self) -> None:
        with smtp_server() as server:
            with pytest.raises(Trouble, match="STARTTLS extension not supported by server"):
                smtp(server.port, use_tls=True).open()
            assert server.recipients == []

    @pytest.mark.parametrize("password", ["right", "wrong"])
    def test_logs_in(self, password: str, tls: ssl.SSLContext) -> None:
        def check(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
            return AuthResult(success=(data.login, data.password) == (b"me", b"right"), handled=False)

        with smtp_server(tls_context=tls, authenticator=check, auth_required=True) as server:
            provider = smtp(server.port, use_tls=True, user="me", password=password)
            if password == "right":
                assert seen(send(provider, letter())) == [(Verdict.ACCEPTED, "2.0.0 queued as Q1")]
            else:
                with pytest.raises(Trouble, match=r"535 5\.7\.8 Authentication credentials invalid"):
                    provider.open()
                assert server.recipients == []

    def test_says_why_the_server_does_not_want_to_talk(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]

            def greet() -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(b"554 go away\r\n")

            thread = threading.Thread(target=greet, daemon=True)
            thread.start()
            with pytest.raises(Trouble) as trouble:
                smtp(port).open()
            thread.join()
        assert str(trouble.value) == f"smtp at 127.0.0.1:{port}: 554 go away"
