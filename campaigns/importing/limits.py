"""How large an import may be."""

from dataclasses import dataclass

from django.conf import settings


@dataclass(frozen=True)
class Limits:
    """Bounds on one file; see `.env.example`."""

    bytes: int
    columns: int
    cell: int

    @property
    def expanded_bytes(self) -> int:
        """What a workbook may hold once unpacked. Sheets pack 8 to 15 times."""
        return 10 * self.bytes

    @classmethod
    def of_settings(cls) -> "Limits":
        """The IMPORT_MAX_* settings."""
        return cls(
            bytes=settings.IMPORT_MAX_BYTES,
            columns=settings.IMPORT_MAX_COLUMNS,
            cell=settings.IMPORT_MAX_CELL,
        )
