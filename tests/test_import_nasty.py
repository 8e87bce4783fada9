"""The files in data/imports/nasty, each with what is to become of it in a file of JSON beside it."""

import json
from pathlib import Path
from typing import Any

import pytest

from campaigns.importing.refusals import ImportRefused, Reading
from campaigns.models import Audience, ImportJob, ImportStatus
from tests.import_helpers import counts, import_file, report, stored

NASTY = Path(__file__).parent / "data" / "imports" / "nasty"
EXPECTED = sorted(NASTY.glob("*.json"))
LONGEST = 60  # characters of a value in the expectations


def cut(value: str) -> str:
    return value if len(value) <= LONGEST else f"{value[:LONGEST]}... {len(value)}"


def outcome(path: Path, **options: Any) -> dict[str, Any]:
    """What became of a file."""
    audience = Audience.objects.create(name="Nasty")
    try:
        job = import_file(audience, path.name, path.read_bytes(), **options)
    except ImportRefused as refused:
        assert not ImportJob.objects.exists()
        return {"refused": {refused.field: refused.message}}
    if job.status == ImportStatus.FAILED:
        assert stored(audience) == []
        return {"failed": job.problem}
    return {
        "reading": str(Reading.of_dict(job.reading)),
        "counts": counts(job),
        "report": [[int(line), *map(cut, others[:3])] for line, *others in report(job)],
        "stored": [
            [cut(email), cut(name), zone, {key: cut(value) for key, value in attributes.items()}]
            for email, name, zone, attributes in stored(audience)
        ],
    }


class TestNastyFile:
    def test_is_one_of_many(self) -> None:
        assert len(EXPECTED) >= 40
        assert {path.name for path in NASTY.iterdir()} == {
            name for path in EXPECTED for name in (path.name, path.stem)
        }

    @pytest.mark.django_db
    @pytest.mark.parametrize("path", EXPECTED, ids=[path.stem for path in EXPECTED])
    def test_ends_as_it_should(self, path: Path) -> None:
        expected = json.loads(path.read_text())
        expected.pop("what")
        options = expected.pop("options", {})
        assert outcome(NASTY / path.stem, **options) == expected
