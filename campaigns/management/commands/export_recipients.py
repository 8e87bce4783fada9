"""manage.py export_recipients: an audience into a CSV or XLSX file that imports again as it is."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from campaigns.exporting.exports import EXTENSIONS, TooManyRows, export
from campaigns.models import Audience


class Command(BaseCommand):
    """Writes the file anew; with one that cannot be written it exits 1."""

    help = "Export the recipients of an audience to a .csv or .xlsx file."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE")
        parser.add_argument("--audience", required=True, metavar="NAME")

    def handle(self, *args: Any, **options: Any) -> None:
        file: Path = options["file"]
        extension = file.suffix.lower().removeprefix(".")
        audience = Audience.objects.filter(name__iexact=options["audience"]).first()
        if audience is None:
            raise CommandError(f'There is no audience "{options["audience"]}".')
        if extension not in EXTENSIONS:
            raise CommandError(f'"{file.suffix}" is no format for it; use .csv or .xlsx.')
        try:
            with file.open("wb") as target:
                target.writelines(export(audience, extension).pieces)
        except TooManyRows as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror}.") from error
        self.stdout.write(f"Exported {audience.recipients.count():,} recipients to {file}.")
