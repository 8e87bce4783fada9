"""What people see, and what the log keeps, when something is away or refused."""

import logging

import pytest
from django.core.exceptions import PermissionDenied
from django.db import OperationalError
from django.test import Client

from users.models import User


class TestDatabaseAway:
    @pytest.mark.django_db
    def test_a_page_says_so_with_503(
        self, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def away(*args: object) -> None:
            raise OperationalError("connection refused")

        user = User.objects.create_superuser(email="boss@example.com", password="x")
        client.force_login(user)
        monkeypatch.setattr("campaigns.progress.of_many", away)
        answer = client.get("/admin/campaigns/campaign/")
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "5"
        assert b"The database cannot be reached" in answer.content
        assert "the database is away: connection refused" in caplog.text


class TestRefusals:
    @pytest.mark.parametrize(("error", "traced"), [(PermissionDenied("no"), False), (ValueError("no"), True)])
    def test_a_403_is_one_line_in_the_log_and_a_defect_keeps_its_traceback(
        self, error: Exception, traced: bool
    ) -> None:
        (console,) = [handler for handler in logging.getLogger().handlers if handler.name == "console"]
        record = logging.LogRecord("django.request", 30, "", 0, "Forbidden", (), (type(error), error, None))
        assert console.filter(record)
        assert bool(record.exc_info) is traced
