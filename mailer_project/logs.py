"""What the log leaves out."""

import logging

from django.core.exceptions import PermissionDenied


class NoTraceOfRefusals(logging.Filter):
    """Keeps the line about a 403, without the traceback: a refusal is no fault of the program."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Drop the traceback of PermissionDenied."""
        if record.exc_info and isinstance(record.exc_info[1], PermissionDenied):
            record.exc_info = None
        return True
