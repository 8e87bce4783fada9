"""How large an import may be."""

from dataclasses import dataclass

from django.conf import settings

SMALL = 20 << 20  # bytes; below this a high ratio harms nobody


@dataclass(frozen=True)
class Limits:
    """Bounds on one file; see `.env.example`."""

    bytes: int
    expanded_bytes: int
    """Once unpacked; sheets pack 8 to 15 times."""
    ratio: int
    """Times that a file may grow when it is unpacked; a zip bomb grows about 1000 times."""
    columns: int
    cell: int
    """Characters."""

    def is_bomb(self, expanded: int, packed: int) -> bool:
        """Whether so many bytes out of so few are no table of people."""
        return expanded > SMALL and expanded > self.ratio * packed

    @classmethod
    def of_settings(cls) -> "Limits":
        """The IMPORT_MAX_* settings."""
        return cls(
            bytes=settings.IMPORT_MAX_BYTES,
            expanded_bytes=settings.IMPORT_MAX_EXPANDED_BYTES,
            ratio=settings.IMPORT_MAX_RATIO,
            columns=settings.IMPORT_MAX_COLUMNS,
            cell=settings.IMPORT_MAX_CELL,
        )
