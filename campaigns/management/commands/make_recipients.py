"""manage.py make_recipients: a file of invented recipients, as large as wanted."""

from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from campaigns.importing.samples import DEFAULT_SEED, UnknownFormat, write_samples

MAX_XLSX_ROWS = 1_048_575  # what a sheet holds under its heading


class Command(BaseCommand):
    help = "Writes a CSV or XLSX file of invented recipients at reserved domains, for trying an import."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", type=Path, metavar="OUT", help="file to write, ending in .csv or .xlsx")
        parser.add_argument("--rows", type=_row_count, default=2_000, help="how many recipients (2000)")
        parser.add_argument(
            "--seed", type=int, default=DEFAULT_SEED, help=f"same seed, same recipients ({DEFAULT_SEED})"
        )

    def handle(self, *args: Any, path: Path, rows: int, seed: int, **options: Any) -> None:
        if path.suffix.lower() == ".xlsx" and rows > MAX_XLSX_ROWS:
            raise CommandError(
                f"--rows: a sheet holds {MAX_XLSX_ROWS:,} recipients; write {rows:,} to a .csv"
            )
        try:
            write_samples(path, rows, seed=seed)
        except UnknownFormat as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror or error}") from error
        self.stdout.write(f"{path}: {rows:,} recipients, {path.stat().st_size:,} bytes")


def _row_count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ArgumentTypeError(f"{text!r} is not a number of rows, such as 100000")
    return int(text)
