"""Pages with buttons above the form; each is a POST and one call of the domain."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST

Deed = Callable[[int], str]


class Operated:
    """For a ModelAdmin: `deeds` are what its buttons do, by name; each takes an id and says what was done.

    A deed may raise what `refusals` names; its words are shown.
    """

    deeds: Mapping[str, Deed]
    refusals: tuple[type[Exception], ...] = ()
    model: Any
    admin_site: Any

    def get_urls(self) -> list[URLPattern]:
        """Add one address for each button."""
        own = [
            path(
                f"<int:row_id>/{name}/",
                self.admin_site.admin_view(require_POST(partial(self.operate, name=name))),
                name=f"{self._label}_{name}",
            )
            for name in self.deeds
        ]
        return [*own, *super().get_urls()]  # type: ignore[misc]  # a mixin of ModelAdmin

    @property
    def _label(self) -> str:
        return f"{self.model._meta.app_label}_{self.model._meta.model_name}"

    def operate(self, request: HttpRequest, row_id: int, name: str) -> HttpResponse:
        """Do what a button says, or say why not; back to the page either way."""
        row = get_object_or_404(self.model, pk=row_id)
        if not self.has_change_permission(request, row):  # type: ignore[attr-defined]  # ModelAdmin's
            raise PermissionDenied
        try:
            done = self.deeds[name](row_id)
        except self.refusals as refused:
            messages.error(request, str(refused))
        else:
            self.log_change(request, row, done)  # type: ignore[attr-defined]  # ModelAdmin's
            messages.success(request, done)
        return HttpResponseRedirect(reverse(f"admin:{self._label}_change", args=[row_id]))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The page, with what is known and the buttons above the form."""
        row = self.get_object(request, object_id)  # type: ignore[attr-defined]  # ModelAdmin's
        panel = {"panel": self.panel(row), "buttons": self._buttons(request, row)} if row else {}
        context = {**panel, **(extra_context or {})}
        answer: HttpResponse = super().change_view(request, object_id, form_url, context)  # type: ignore[misc]  # the same
        return answer

    def panel(self, row: Any) -> dict[str, Any]:
        """Return what stands above the form."""
        raise NotImplementedError

    def offered(self, row: Any) -> dict[str, str]:
        """Return the labels of the buttons that make sense now, by deed."""
        raise NotImplementedError

    def _buttons(self, request: HttpRequest, row: Any) -> list[tuple[str, str]]:
        if not self.has_change_permission(request, row):  # type: ignore[attr-defined]  # ModelAdmin's
            return []
        return [
            (label, reverse(f"admin:{self._label}_{name}", args=[row.pk]))
            for name, label in self.offered(row).items()
        ]
