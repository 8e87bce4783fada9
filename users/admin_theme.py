"""The look of the admin: the only Python module that names django-unfold, so that it can be replaced.

Type checking sees Django's own classes, which the theme's have as their bases; where their stubs are generic
and they are not, `_Generic` lets them be written alike.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin, RelatedFieldListFilter
    from django.contrib.admin.widgets import AdminTextareaWidget, AdminTextInputWidget
    from django.contrib.auth.admin import UserAdmin
    from django.contrib.auth.forms import (
        AdminPasswordChangeForm,
        AdminUserCreationForm,
        SetPasswordForm,
        UserChangeForm,
    )
    from django.core.paginator import Paginator
    from django.forms import ModelForm, PasswordInput, Select
else:
    from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
    from django.contrib.auth.forms import SetPasswordForm as DjangoSetPasswordForm
    from django.core.paginator import Paginator as DjangoPaginator
    from django.forms import ModelForm as DjangoModelForm
    from unfold.admin import ModelAdmin as ThemedModelAdmin
    from unfold.contrib.filters.admin import RelatedDropdownFilter as RelatedFieldListFilter
    from unfold.forms import AdminPasswordChangeForm
    from unfold.forms import UserChangeForm as ThemedUserChangeForm
    from unfold.forms import UserCreationForm as ThemedUserCreationForm
    from unfold.widgets import UnfoldAdminPasswordWidget as PasswordInput
    from unfold.widgets import UnfoldAdminSelectWidget as Select
    from unfold.widgets import UnfoldAdminTextareaWidget as AdminTextareaWidget
    from unfold.widgets import UnfoldAdminTextInputWidget as AdminTextInputWidget

    class _Generic:
        def __class_getitem__(cls, model: Any) -> type:
            return cls

    class AdminUserCreationForm(_Generic, ThemedUserCreationForm): ...

    class ModelAdmin(_Generic, ThemedModelAdmin): ...

    class ModelForm(_Generic, DjangoModelForm): ...

    class Paginator(_Generic, DjangoPaginator): ...

    class SetPasswordForm(_Generic, DjangoSetPasswordForm): ...

    class UserChangeForm(_Generic, ThemedUserChangeForm): ...

    class UserAdmin(DjangoUserAdmin, ModelAdmin): ...


__all__ = [
    "AdminPasswordChangeForm",
    "AdminTextInputWidget",
    "AdminTextareaWidget",
    "AdminUserCreationForm",
    "ModelAdmin",
    "ModelForm",
    "Paginator",
    "PasswordInput",
    "RelatedFieldListFilter",
    "Select",
    "SetPasswordForm",
    "UserAdmin",
    "UserChangeForm",
]
