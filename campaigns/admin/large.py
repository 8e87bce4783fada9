"""Lists of tables with millions of rows: count no further than needed, sort by what has an index."""

import json
from typing import Any, ClassVar

from django.contrib.admin import ShowFacets
from django.contrib.admin.views.main import ChangeList
from django.db import connection
from django.db.models import Model, QuerySet
from django.http import HttpRequest
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


class SortedList(ChangeList):
    """Sorts by the columns whose headings offer it; Django takes any column that ?o= names."""

    def get_ordering_field(self, field_name: Any) -> Any:
        """Return what to sort by for a column; None if it is not to be sorted by."""
        return super().get_ordering_field(field_name) if field_name in (self.sortable_by or ()) else None


class LargeList(SortedList):
    """Counts its rows once."""

    def get_results(self, request: HttpRequest) -> None:
        """Fetch the page. The theme shows a second count wherever it is not the first."""
        super().get_results(request)
        self.full_result_count = self.result_count


class Large:
    """For the ModelAdmin of a large table."""

    paginator: ClassVar[type] = EstimatingPaginator
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    sortable_by: ClassVar[list[str] | tuple[str, ...] | None] = ()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """The list that counts once."""
        return LargeList


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
