"""Lists of tables with millions of rows: count no further than needed, sort by what has an index."""

import json
from typing import Any

from django.db import connection
from django.db.models import Model, QuerySet
from django.utils.functional import cached_property

from users.admin_theme import Paginator

EXACT = 10_000


class EstimatingPaginator(Paginator[Any]):
    """Counts exactly up to EXACT rows; above that PostgreSQL's planner says how many it expects."""

    template_name = "admin/campaigns/large_pagination.html"

    @cached_property
    def count(self) -> int:
        """How many rows, about; `estimated` says whether."""
        rows: QuerySet[Any] = self.object_list.order_by()  # type: ignore[attr-defined]  # a queryset, in the admin
        counted = rows[: EXACT + 1].count()
        return counted if counted <= EXACT else max(counted, planned_rows(rows))

    @property
    def estimated(self) -> bool:
        """Whether `count` is the planner's guess."""
        return self.count > EXACT


def planned_rows(rows: "QuerySet[Any]") -> int:
    """How many rows PostgreSQL expects of a query, without running it."""
    (plan,) = json.loads(rows.explain(format="json"))
    return int(plan["Plan"]["Plan Rows"])


def about_how_many(model: type[Model]) -> tuple[int, bool]:
    """How many rows a table has, and whether that is an estimate."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [model._meta.db_table]
        )
        (estimate,) = cursor.fetchone()
    if estimate > 10 * EXACT:
        return estimate, True
    return model._default_manager.count(), False
