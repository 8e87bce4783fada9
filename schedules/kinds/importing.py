"""A task that imports a file into an audience."""

from collections.abc import Mapping
from typing import Any

from campaigns.importing import jobs
from campaigns.importing.refusals import ImportRefused
from campaigns.models import Audience, ImportStatus, OnExisting
from schedules.kinds.base import Kind, PayloadRefused, TaskFailed, Work, WorkResult, only
from users.models import User


def _check(payload: Mapping[str, Any], user: User, file_name: str) -> dict[str, Any]:
    """Read {"audience": 3, "mapping": {...}, "on_existing": "update", "dry_run": false}."""
    only(payload, "audience", "mapping", "on_existing", "dry_run")
    if not (user.is_staff and user.has_perm("campaigns.add_importjob")):
        raise PayloadRefused({"kind": ["Importing needs an operator's account that may add imports."]})
    if not file_name:
        raise PayloadRefused({"file": ["Send a CSV or XLSX file along, as multipart/form-data."]})
    audience = payload.get("audience")
    if not isinstance(audience, int) or not Audience.objects.filter(id=audience).exists():
        raise PayloadRefused({"audience": ["Give the id of an audience."]})
    mapping = payload.get("mapping") or {}
    if not isinstance(mapping, dict) or not all(isinstance(each, str) for each in mapping.values()):
        raise PayloadRefused({"mapping": ['Give the column for each field, as {"email": "Contact"}.']})
    on_existing = payload.get("on_existing", OnExisting.UPDATE.value)
    if on_existing not in OnExisting.values:
        raise PayloadRefused({"on_existing": [f"Give one of {', '.join(OnExisting.values)}."]})
    dry_run = payload.get("dry_run", False)
    if not isinstance(dry_run, bool):
        raise PayloadRefused({"dry_run": ["Give true or false."]})
    return {"audience": audience, "mapping": mapping, "on_existing": on_existing, "dry_run": dry_run}


def _run(work: Work) -> WorkResult:
    given = work.payload
    audience = Audience.objects.filter(id=given["audience"]).first()
    if audience is None or work.file is None:
        raise TaskFailed("The audience, or the file, is gone.")
    how = {name: given[name] for name in ("mapping", "on_existing", "dry_run")}
    try:
        job = jobs.create_job(audience, work.file, work.file_name, **how, created_by=work.user)
    except ImportRefused as refused:
        raise TaskFailed(refused.message) from refused
    done = jobs.run(job.pk, now=work.now, on_progress=lambda read: work.still_ours())
    if done.status != ImportStatus.COMPLETED:
        raise TaskFailed(done.problem or f"Import {done.pk} is {done.status}.")
    names = ("read", "created", "updated", "unchanged", "duplicate", "refused")
    return WorkResult({"import": done.pk, **{name: getattr(done, name) for name in names}})


IMPORT_RECIPIENTS = Kind(
    "import_recipients", "Imports a CSV or XLSX file into an audience (operators).", _check, _run, heavy=True
)
