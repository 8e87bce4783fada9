"""What a face sends: a file's name, its media type, and its content as it comes."""

from collections.abc import Iterator
from typing import NamedTuple

from django.utils.text import slugify

from campaigns.exporting.files import FORMATS, MOST_ROWS
from campaigns.exporting.table import table
from campaigns.models import Audience

EXTENSIONS = tuple(FORMATS)


class TooManyRows(Exception):
    """A worksheet has no room for that many recipients; export them as CSV."""


class Export(NamedTuple):
    """A file on its way out."""

    name: str
    media_type: str
    pieces: Iterator[bytes]


def export(audience: Audience, extension: str) -> Export:
    """All recipients of an audience; `extension` is one of EXTENSIONS. Raises TooManyRows."""
    media_type, written = FORMATS[extension]
    if extension == "xlsx" and (count := audience.recipients.count()) >= MOST_ROWS:
        raise TooManyRows(
            f"A worksheet holds {MOST_ROWS - 1:,} recipients, the audience has {count:,}. Export it as CSV."
        )
    name = slugify(audience.name, allow_unicode=True)[:100] or f"audience-{audience.pk}"
    return Export(f"{name}.{extension}", media_type, written(table(audience)))
