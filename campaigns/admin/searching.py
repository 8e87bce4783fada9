"""Finding one address among millions of rows."""

from typing import Any

from django.db.models import Model, QuerySet
from django.db.models.functions import Lower

from campaigns.addresses import folded


def with_address(rows: "QuerySet[Any]", term: str, *, owners: type[Model], field: str) -> "QuerySet[Any]":
    """Rows whose e-mail address is `term`, or contains it when it has no name and domain.

    The index begins with the owner (`field`, a row of `owners`), so a whole address is looked up once for
    each of them; a part of an address reads the table until a page is full.
    """
    term = folded(term.strip())
    local, at, domain = term.partition("@")
    rows = rows.alias(lower_email=Lower("email"))
    if local and at and "." in domain:
        ids = list(owners._default_manager.values_list("pk", flat=True))
        return rows.filter(**{f"{field}__in": ids, "lower_email": term})
    return rows.filter(lower_email__contains=term)
