"""`manage.py prepare_local`: what `manage.py up` does to a database before it starts the programs."""

import json
import os
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    """Migrates, collects static files, seeds the templates and makes the first administrator."""

    help = "Bring database and static files up to date; used by `manage.py up`."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--admin", required=True, metavar="ADDRESS")
        parser.add_argument("--report", required=True, type=Path, help="JSON file to write when all is done")

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=0, stdout=self.stdout)
        call_command("collectstatic", interactive=False, verbosity=0, stdout=self.stdout)
        call_command("seed_templates", stdout=self.stdout)
        report = {"admin_created": self._make_admin(options["admin"])}
        options["report"].write_text(json.dumps(report))

    def _make_admin(self, email: str) -> bool:
        """Create the administrator unless there is one, whatever the address."""
        people = get_user_model().objects
        if people.filter(is_superuser=True).exists():
            return False
        password = os.environ.get("LOCAL_ADMIN_PASSWORD")
        if not password:
            raise CommandError("LOCAL_ADMIN_PASSWORD is not set; it must hold the administrator's password.")
        people.create_superuser(email=email, password=password)
        self.stdout.write(f"Created the administrator {email}")
        return True
