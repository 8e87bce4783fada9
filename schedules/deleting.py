"""What a deleted task leaves behind: no file, whichever way it is deleted.

Its runs are deleted by the database. Its files are deleted once that is committed.
"""

from functools import partial
from typing import Any

from django.db import transaction
from django.db.models.fields.files import FieldFile
from django.db.models.signals import pre_delete

from schedules.models import Task


def delete_files(task: Task) -> None:
    """Have the files of a task and of its runs deleted with it. Needs the transaction that deletes the task.

    It holds the task's row from here on: a worker that ends a run meanwhile finds no task, and removes what
    it has stored.
    """
    locked = Task.objects.select_for_update().filter(id=task.pk).first()
    if locked is None:
        return
    for file in (locked.file, *(run.result_file for run in locked.runs.only("result_file"))):
        if file:
            transaction.on_commit(partial(_delete, file), robust=True)  # the others go all the same


def _delete(file: FieldFile) -> None:
    file.storage.delete(file.name or "")


def _deleted(instance: Task, **_: Any) -> None:
    delete_files(instance)


def connect() -> None:
    """Have it done whether the API, the admin or the end of an account, far below, deletes the task."""
    pre_delete.connect(_deleted, sender=Task, dispatch_uid="schedules.deleting")
