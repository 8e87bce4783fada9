"""The files of a template, below its form: to add and to take away, not to change."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest
from unfold.admin import TabularInline

from campaigns import attachments
from campaigns.attachments import AttachmentRefused
from campaigns.models import Attachment, EmailTemplate
from users.admin_theme import ModelForm


class AttachmentForm(ModelForm[Attachment]):
    """One file to add."""

    file = forms.FileField(allow_empty_file=True)

    class Meta:
        model = Attachment
        fields = ()

    def save(self, commit: bool = True) -> Attachment:
        """Make the row of what was uploaded."""
        file = self.cleaned_data["file"]
        self.instance.name, self.instance.content, self.instance.size = file.name, file.read(), file.size
        return super().save(commit)


if TYPE_CHECKING:
    _FormSet = BaseInlineFormSet[Attachment, EmailTemplate, AttachmentForm]
else:
    _FormSet = BaseInlineFormSet


class AttachmentFormSet(_FormSet):
    """Holds the files that stay and those that come to the limits together."""

    def clean(self) -> None:
        """Name the file that is one too many."""
        super().clean()
        gone = {form.instance.pk for form in self.deleted_forms}
        kept = [(row.name, row.size) for row in self.get_queryset() if row.pk not in gone]
        files = [form.cleaned_data.get("file") for form in self.extra_forms if form.is_valid()]
        try:
            attachments.check([*kept, *((file.name, file.size) for file in files if file)])
        except AttachmentRefused as refusal:
            raise forms.ValidationError(str(refusal)) from refusal

    def delete_existing(self, obj: Attachment, commit: bool = True) -> None:
        """Take a file from the template."""
        if commit:
            attachments.remove(obj)


class AttachmentInline(TabularInline):  # type: ignore[misc]  # the theme has no types
    """The files of one template."""

    model = Attachment
    form = AttachmentForm
    formset = AttachmentFormSet
    extra = 0
    fields = ("name", "size", "file")
    readonly_fields = ("name", "size")
    verbose_name_plural = "attachments"

    def get_queryset(self, request: HttpRequest) -> Any:
        """Leave the files themselves where they are."""
        return super().get_queryset(request).defer("content")

    def has_change_permission(self, request: HttpRequest, obj: EmailTemplate | None = None) -> bool:
        """A file is never changed."""
        return False
