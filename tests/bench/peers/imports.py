"""django-import-export as a contestant, set up as its documentation says, in a process of its own.

    python -m tests.bench.peers.imports WAY FILE

Prints `ready`, waits for a line, imports the CSV file into an empty table and prints the number of rows.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.bench.peers.import_settings"
django.setup()

from django.core.management import call_command  # noqa: E402  # only now
from django.db import connection  # noqa: E402
from import_export import resources  # noqa: E402
from tablib import Dataset  # noqa: E402

from tests.bench.peers.people.models import Person  # noqa: E402

FIELDS = ("email", "name", "timezone")
OTHERS = ("first_name", "city", "plan")


class PersonResource(resources.ModelResource):  # type: ignore[misc]  # the package ships no types
    """The "Getting started" page: a resource, and the fields that make a row known."""

    class Meta:
        model = Person
        import_id_fields = ("audience", "email")
        fields = ("audience", *FIELDS, "attributes")

    def before_import(self, dataset: Dataset, **kwargs: Any) -> None:
        """Add the audience, and `attributes` of what has no column of its own."""
        others = zip(*(dataset[column] for column in OTHERS), strict=True)
        attributes = [json.dumps(dict(zip(OTHERS, values, strict=True))) for values in others]
        dataset.append_col([1] * len(dataset), header="audience")
        dataset.append_col(attributes, header="attributes")


class BulkPersonResource(PersonResource):
    """The "Bulk imports" page, with what it names for speed."""

    class Meta(PersonResource.Meta):
        use_bulk = True
        batch_size = 1_000
        skip_diff = True


WAYS = {"usual": PersonResource, "bulk": BulkPersonResource}


def main() -> None:
    way, path = sys.argv[1], Path(sys.argv[2])
    call_command("migrate", run_syncdb=True, verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {Person._meta.db_table}")  # a name of our own
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    dataset = Dataset().load(path.read_text(encoding="utf-8"), format="csv")
    result = WAYS[way]().import_data(dataset, dry_run=False, raise_errors=True, use_transactions=True)
    sys.stdout.write(f"{result.total_rows}\n")


if __name__ == "__main__":
    main()
