"""`manage.py up`: the whole system on this machine."""

import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from mailer_project.local import environment
from mailer_project.local.process import LocalServiceError
from mailer_project.local.stack import DEMO_DIRECTORY, Options, Stack


class Command(BaseCommand):
    """Starts services, web, beat, workers, Flower and mailbox; stays until Ctrl-C."""

    help = (
        "Start the whole system on this machine: PostgreSQL and Valkey (unless DATABASE_URL or REDIS_URL say "
        "otherwise), web, beat, workers, Flower, and a local mailbox in place of a provider. Ctrl-C stops it."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--port", type=int, help="of the web server; without it the first free one from 8000"
        )
        parser.add_argument(
            "--demo", action="store_true", help="send a campaign to 2,000 sample recipients in the mailbox"
        )
        parser.add_argument(
            "--exit",
            action="store_true",
            help="with --demo: on fresh services of its own, which stop after the demo; "
            "exit status 0 only if every count adds up",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["exit"] and not options["demo"]:
            raise CommandError("--exit needs --demo.")
        directory = settings.LOCAL_DIR.resolve()
        wanted = Options(
            directory=directory / DEMO_DIRECTORY if options["exit"] else directory,
            port=options["port"],
            demo=options["demo"],
            isolated=options["exit"],
        )
        try:
            stack = Stack(wanted, environment.given(directory), self._show, self.stdout.isatty())
            status = stack.run()
        except LocalServiceError as error:
            raise CommandError(str(error)) from None
        sys.exit(status)

    def _show(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
