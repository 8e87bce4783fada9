"""The pages of those who forgot their password; they do what the API does."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.views import (
    PasswordResetCompleteView,
    PasswordResetConfirmView,
    PasswordResetDoneView,
    PasswordResetView,
)
from django.urls import URLPattern, path, reverse_lazy
from django.views.generic import View
from django.views.generic.base import ContextMixin, TemplateResponseMixin

from users import accounts
from users.admin_theme import AdminTextInputWidget, PasswordInput, SetPasswordForm
from users.models import User


class Themed(TemplateResponseMixin, ContextMixin, View):
    """A page in the admin's look for those who are not signed in."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add what the admin's pages need."""
        return {**super().get_context_data(**kwargs), **admin.site.each_context(self.request)}


class Ask(Themed, PasswordResetView):
    """Asks for the address."""


class Sent(Themed, PasswordResetDoneView):
    """Says that a mail is on its way, if there is such an account."""


class Confirm(Themed, PasswordResetConfirmView):
    """Asks for the new password."""


class Done(Themed, PasswordResetCompleteView):
    """Says that the password is set."""


class ForgottenForm(forms.Form):
    """Whose password is forgotten."""

    email = forms.EmailField(
        label="E-mail address", max_length=254, widget=AdminTextInputWidget(attrs={"autocomplete": "email"})
    )

    def save(self, **_: Any) -> None:
        """Send the link, if there is such an account."""
        accounts.send_reset_link(self.cleaned_data["email"])


class NewPasswordForm(SetPasswordForm[User]):
    """The new password, twice."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("new_password1", "new_password2"):
            self.fields[name].widget = PasswordInput(attrs={"autocomplete": "new-password"})


def urls(limited: Callable[..., Any]) -> list[URLPattern]:
    """Return the addresses of the pages; `limited` bounds how often a view may be posted to."""
    ask = Ask.as_view(form_class=ForgottenForm, success_url=reverse_lazy("password_reset_done"))
    confirm = Confirm.as_view(form_class=NewPasswordForm)
    return [
        path("accounts/password/", limited(ask, "reset"), name="admin_password_reset"),
        path("accounts/password/sent/", Sent.as_view(), name="password_reset_done"),
        path("accounts/password/done/", Done.as_view(), name="password_reset_complete"),
        path("accounts/password/<uidb64>/<token>/", limited(confirm, "reset"), name="password_reset_confirm"),
    ]
