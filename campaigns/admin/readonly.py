"""Pages that only show."""

from typing import Any

from django.http import HttpRequest


class ReadOnly:
    """For a ModelAdmin whose rows are written by the program alone."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody may."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody may."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody may."""
        return False
