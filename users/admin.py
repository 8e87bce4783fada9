"""Operators and users in the admin."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import models, transaction
from django.http import HttpRequest

from users import accounts
from users.addresses import BadAddress, parse_plain_address, trim
from users.admin_theme import (
    AdminPasswordChangeForm,
    AdminUserCreationForm,
    ModelAdmin,
    Select,
    UserChangeForm,
)
from users.admin_theme import (
    UserAdmin as ThemedUserAdmin,
)
from users.models import User, timezones

RIGHTS = ("is_staff", "is_superuser", "groups", "user_permissions")


def timezone_choices() -> list[tuple[str, str]]:
    """Every zone of the IANA database, by name."""
    return [(name, name) for name in sorted(timezones())]


class ChoosesTimezone:
    """For a ModelAdmin whose model has a `timezone`: a list to choose from in place of a text field."""

    def formfield_for_dbfield(
        self, db_field: "models.Field[Any, Any]", request: HttpRequest, **kwargs: Any
    ) -> forms.Field | None:
        """Return the form field for a column."""
        if db_field.name != "timezone":
            field: forms.Field | None = super().formfield_for_dbfield(db_field, request, **kwargs)  # type: ignore[misc]  # a mixin of ModelAdmin
            return field
        empty = [("", "not known")] if db_field.blank else []
        return forms.ChoiceField(
            label="Time zone",
            choices=[*empty, *timezone_choices()],
            required=not db_field.blank,
            initial=db_field.get_default(),
            help_text=str(db_field.help_text),
            widget=Select(),
        )


class GoesWhole:
    """For a ModelAdmin whose rows take along what is theirs: whoever may delete one may delete that, too.

    Django would ask for the permission to delete each kind of row, and some, such as runs, nobody may delete
    by themselves. It would also name every one of them, and there may be a million.
    """

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[Any]]:
        """Say what would go, in numbers."""
        rows = list(objs)
        options = self.opts  # type: ignore[attr-defined]  # ModelAdmin's
        may = all(self.has_delete_permission(request, row) for row in rows)  # type: ignore[attr-defined]  # the same
        totals = {str(options.verbose_name_plural): len(rows), **_going_along(options.model, rows)}
        return [str(row) for row in rows], totals, set() if may else {str(options.verbose_name)}, []


def _going_along(model: type[models.Model], rows: list[Any], path: str = "") -> dict[str, int]:
    """Count what the database deletes with these rows, by kind, and what goes with that."""
    found: dict[str, int] = {}
    for relation in model._meta.related_objects:
        if relation.on_delete is not models.CASCADE:
            continue
        lookup = f"{relation.field.name}__{path}" if path else relation.field.name
        theirs: type[models.Model] = relation.related_model
        count = theirs._base_manager.filter(**{f"{lookup}__in": rows}).count()
        if count:
            found |= {str(theirs._meta.verbose_name_plural): count, **_going_along(theirs, rows, lookup)}
    return found


class HasAddress(forms.ModelForm[User] if TYPE_CHECKING else object):  # type: ignore[misc]  # a mixin
    """For a form of an account: its address is held to the rules of those that are mailed to."""

    def clean_email(self) -> str:
        """Return the address as it is stored; refuse one that is taken, however it is capitalised."""
        try:
            email = parse_plain_address(trim(self.cleaned_data["email"]))
        except BadAddress as bad:
            raise ValidationError(str(bad)) from bad
        if User.objects.with_address(email).exclude(pk=self.instance.pk).exists():
            raise ValidationError("A user with this e-mail address exists already.")
        return email


class UserAddForm(HasAddress, AdminUserCreationForm[User]):
    """A new account: the address, and a password or none."""

    class Meta:
        model = User
        fields = ("email", "name", "timezone")


class ChangeForm(HasAddress, UserChangeForm[User]):
    """An account that there is."""

    def clean(self) -> dict[str, Any]:
        """Keep the last superuser."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if any(cleaned.get(name) is False for name in accounts.KEEPS):
            try:
                accounts.keep_a_superuser_besides(self.instance)
            except accounts.LastSuperuser as last:
                raise ValidationError("This is the last superuser; make another one first.") from last
        return cleaned


def _is_superuser(request: HttpRequest) -> bool:
    return request.user.is_active and request.user.is_superuser


@admin.register(User)
class UserAdmin(GoesWhole, ChoosesTimezone, ThemedUserAdmin[User]):
    """Accounts, which sign in with their e-mail address.

    Who may do what is for superusers to say: nobody else gives rights, or touches the account of another
    operator, who may have more of them.
    """

    form = ChangeForm
    add_form = UserAddForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("email", "name", "is_staff", "is_active", "last_login")
    list_filter = ("is_staff", "is_superuser", "is_active", "groups")
    search_fields = ("email", "name")
    ordering = ("email",)
    readonly_fields = ("last_login", "created_at")
    fieldsets = (
        (None, {"fields": ("email", "password")}),
        ("Person", {"fields": ("name", "timezone")}),
        ("Mails to them", {"fields": ("notify_completed", "notify_failed")}),
        ("Rights", {"fields": ("is_active", *RIGHTS)}),
        ("Dates", {"fields": ("last_login", "created_at")}),
    )
    add_fieldsets = (
        (
            None,
            {
                "classes": ("wide",),
                "fields": ("email", "name", "timezone", "usable_password", "password1", "password2"),
            },
        ),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        """Rights are given by superusers alone."""
        return self.readonly_fields if _is_superuser(request) else (*self.readonly_fields, *RIGHTS)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Whether the account may be changed, and its password set."""
        return super().has_change_permission(request, obj) and self._may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Whether the account may be deleted."""
        return super().has_delete_permission(request, obj) and self._may_touch(request, obj)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Store an account; of one that there is only what was changed: it may have a new password since."""
        columns = {field.name for field in User._meta.concrete_fields}
        obj.save(update_fields=columns.intersection(form.changed_data) if change else None)

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        """Delete an account, unless it is the last superuser's."""
        self.delete_queryset(request, User.objects.filter(pk=obj.pk))

    @transaction.atomic
    def delete_queryset(self, request: HttpRequest, queryset: "models.QuerySet[User]") -> None:
        """Delete accounts, unless the last superuser's is among them."""
        for user in queryset:
            try:
                accounts.delete(user)
            except accounts.LastSuperuser as last:
                raise PermissionDenied from last

    def _may_touch(self, request: HttpRequest, obj: User | None) -> bool:
        if obj is None or _is_superuser(request) or obj.pk == request.user.pk:
            return True
        return not (obj.is_staff or obj.is_superuser)


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin[Group]):
    """Groups of operators with the same rights."""

    def get_readonly_fields(self, request: HttpRequest, obj: Group | None = None) -> tuple[str, ...]:
        """Rights are given by superusers alone."""
        return () if _is_superuser(request) else ("permissions",)
