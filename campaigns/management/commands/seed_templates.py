"""manage.py seed_templates: offer the sample e-mails as templates."""

import tomllib
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from campaigns.models import EmailTemplate


class Command(BaseCommand):
    help = "Creates the sample e-mail templates that are missing; those that exist are left as they are."

    def handle(self, *args: Any, **options: Any) -> None:
        folder = settings.BASE_DIR / "templates" / "emails"
        for name, about in tomllib.loads((folder / "emails.toml").read_text(encoding="utf-8")).items():
            created = _create_if_missing(folder, name, about)
            self.stdout.write(f"{name}: {'created' if created else 'exists, left as it is'}")


def _create_if_missing(folder: Path, name: str, about: dict[str, str]) -> bool:
    """Return whether the template was created; of two commands at once, the database lets one create it."""
    _, created = EmailTemplate.objects.get_or_create(
        name__iexact=name,
        defaults={
            "name": name,
            "subject": about["subject"],
            "description": about["description"],
            "html": (folder / f"{name}.html").read_text(encoding="utf-8"),
            "text": (folder / f"{name}.txt").read_text(encoding="utf-8"),
        },
    )
    return created
