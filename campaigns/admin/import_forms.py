"""The two forms of an import: a file and where it goes, then how it is read and what its columns become."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from campaigns.importing.encodings import CHOICES
from campaigns.importing.mapping import FIELDS
from campaigns.importing.preview import Preview
from campaigns.importing.reading import EXTENSIONS
from campaigns.importing.warnings import ABOUT
from campaigns.models import Audience, OnExisting

WARNINGS = {
    "role": "role addresses, such as info@ or sales@",
    "disposable": "disposable addresses, made for a few minutes",
}


class FileForm(forms.Form):
    """A file and where it goes."""

    file = forms.FileField(
        help_text=f"CSV or a spreadsheet ({' '.join(EXTENSIONS)}), the first line naming the columns.",
        widget=forms.FileInput(attrs={"accept": ",".join(EXTENSIONS)}),
    )
    audience = forms.ModelChoiceField(
        Audience.objects.all(), required=False, label="Into audience", empty_label="a new one, named below"
    )
    new_audience = forms.CharField(required=False, max_length=200, label="New audience")

    def clean(self) -> dict[str, Any]:
        """Ask for exactly one of the two ways to name the audience."""
        cleaned = super().clean() or self.cleaned_data
        chosen, new = cleaned.get("audience"), cleaned.get("new_audience", "").strip()
        if "audience" in self.errors:
            return cleaned
        if chosen and new:
            self.add_error("new_audience", "Choose an audience or name a new one, not both.")
        elif not chosen and not new:
            self.add_error("audience", "Choose an audience, or name a new one.")
        elif new:
            self._check_new(new)
        return cleaned

    def _check_new(self, name: str) -> None:
        try:
            Audience(name=name).full_clean()
        except ValidationError as error:
            self.add_error("new_audience", " ".join(error.messages))


class CheckForm(forms.Form):
    """How a file is read, what its columns become, and what is to be done with its rows."""

    sheet = forms.ChoiceField(required=False, label="Sheet")
    encoding = forms.ChoiceField(
        required=False, label="Encoding", choices=[("", "found out"), *((name, name) for name in CHOICES)]
    )
    email = forms.ChoiceField(label="The address is in", required=False)
    name = forms.ChoiceField(label="The name is in", required=False)
    timezone = forms.ChoiceField(label="The time zone is in", required=False)
    on_existing = forms.ChoiceField(
        label="An address that the audience has already",
        choices=OnExisting.choices,
        initial=OnExisting.UPDATE,
    )
    warn_about = forms.MultipleChoiceField(
        label="Warn also of",
        choices=[(name, WARNINGS[name]) for name in ABOUT],
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )
    dry_run = forms.BooleanField(
        required=False, label="Dry run", help_text="Check the whole file and report; change nothing."
    )

    def show(self, seen: Preview | None) -> None:
        """Offer what the file has, and put in what was found where nothing was chosen."""
        if seen is None or not seen.reading.sheets:
            del self.fields["sheet"]
        else:
            self._offer("sheet", [(name, name) for name in seen.reading.sheets], seen.reading.sheet)
        if seen is not None and not seen.reading.encoding:
            del self.fields["encoding"]
        elif seen is not None and not self.initial.get("encoding"):
            as_found = ("", f"found out: {seen.reading.encoding}")
            self._offer("encoding", [as_found, *((name, name) for name in CHOICES)], "")
        found = {found.field: found for found in seen.fields} if seen else {}
        columns = [(name, name) for name in seen.columns] if seen else []
        for field in FIELDS:
            none = ("", "choose a column" if field == "email" else "in no column")
            self._offer(field, [none, *columns], found[field].column if field in found else "")
            self.fields[field].help_text = found[field].reason if field in found else ""

    def _offer(self, field: str, choices: list[tuple[str, str]], chosen: str) -> None:
        offered = self.fields[field]
        if isinstance(offered, forms.ChoiceField):
            offered.choices = choices
        self.initial[field] = chosen
