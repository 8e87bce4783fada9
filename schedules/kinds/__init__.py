"""What a task can do; a new kind is a module here and a line below."""

from schedules.kinds.base import Kind, PayloadRefused, TaskFailed, Work, WorkResult
from schedules.kinds.exporting import EXPORT_REPORT
from schedules.kinds.importing import IMPORT_RECIPIENTS
from schedules.kinds.processing import PROCESS_DATA
from schedules.kinds.sending import SEND_EMAIL

KINDS = {kind.name: kind for kind in (SEND_EMAIL, PROCESS_DATA, IMPORT_RECIPIENTS, EXPORT_REPORT)}
CHOICES = [(kind.name, kind.summary) for kind in KINDS.values()]

__all__ = ["CHOICES", "KINDS", "Kind", "PayloadRefused", "TaskFailed", "Work", "WorkResult"]
