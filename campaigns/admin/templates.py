"""E-mail templates: what cannot be compiled is refused, and a preview shows the rest."""

from dataclasses import dataclass
from typing import Any, Self

from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.html import escape
from django.views.decorators.http import require_GET, require_POST

from campaigns.admin.attachments import AttachmentInline
from campaigns.admin.fields import LineField
from campaigns.composing import CannotRender, CompiledMessage, TemplateRefused, compile_template
from campaigns.models import EmailTemplate, Recipient
from users.admin_theme import ModelAdmin, ModelForm

_FIELDS = {"subject": "subject", "HTML": "html", "text": "text", "preheader": "preheader"}


@dataclass(frozen=True, slots=True)
class Draft:
    """A template as it is stored, or as it stands in a form."""

    subject: str
    html: str
    text: str
    preheader: str = ""
    inline_css: bool = True

    @classmethod
    def of(cls, template: EmailTemplate) -> Self:
        """Return what is stored."""
        own = template
        return cls(own.subject, own.html, own.text, own.preheader, own.inline_css)

    @classmethod
    def posted(cls, request: HttpRequest) -> Self:
        """Return what stands in the form."""
        given = {name: request.POST.get(name, "") for name in ("subject", "html", "text", "preheader")}
        return cls(**given, inline_css="inline_css" in request.POST)

    def compiled(self) -> CompiledMessage:
        """Compile it as a campaign would. Raises TemplateRefused."""
        return compile_template(
            self.subject, self.html, self.text, preheader=self.preheader, inline_css=self.inline_css
        )


def sample_context(message: CompiledMessage) -> dict[str, Any]:
    """The newest recipient's values; fields that they do not have show their names."""
    recipient = Recipient.objects.order_by("-id").first() or Recipient(email="reader@example.com")
    own = {"email": recipient.email, "name": recipient.name, "timezone": recipient.timezone}
    known = {**recipient.attributes, **own, "unsubscribe_url": "#unsubscribe"}
    return {name: f"[{name}]" for name in message.variables - known.keys()} | known


def in_frame(document: str, *, images: bool = False) -> HttpResponse:
    """Answer with a mail for a frame on our own pages: no scripts, no requests, unless for pictures."""
    sources = "data: https: http:" if images else "data:"
    return HttpResponse(
        document,
        headers={
            "Content-Security-Policy": (
                f"sandbox; default-src 'none'; img-src {sources}; style-src 'unsafe-inline'; "
                "frame-ancestors 'self'"
            ),
            "X-Frame-Options": "SAMEORIGIN",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        },
    )


def preview(draft: Draft, *, images: bool = False) -> HttpResponse:
    """The HTML part with sample values, the text part where there is no HTML, or why there is neither."""
    try:
        message = draft.compiled()
        context = sample_context(message)
        if message.html is not None:
            return in_frame(message.html.render(context), images=images)
        return in_frame(as_text(message.text.render(context)))
    except (TemplateRefused, CannotRender) as refusal:
        return in_frame(as_text(str(refusal)))


def as_text(text: str) -> str:
    """Plain text as a document for `in_frame`."""
    return f'<!doctype html><pre style="font:14px/1.5 sans-serif;white-space:pre-wrap">{escape(text)}</pre>'


class TemplateForm(ModelForm[EmailTemplate]):
    """Refuses what a campaign could not compile, naming field and line."""

    class Meta:
        model = EmailTemplate
        fields = ("name", "description", "subject", "preheader", "html", "text", "inline_css")
        field_classes = {"subject": LineField, "preheader": LineField}

    def clean(self) -> dict[str, Any] | None:
        """Compile the three parts together."""
        cleaned = super().clean() or self.cleaned_data
        subject, html, text, preheader = (
            cleaned.get(name, "") for name in ("subject", "html", "text", "preheader")
        )
        if subject and (html or text):
            try:
                Draft(subject, html, text, preheader, bool(cleaned.get("inline_css"))).compiled()
            except TemplateRefused as refusal:
                raise ValidationError(
                    {_FIELDS[refusal.part]: f"Line {refusal.line}: {refusal.problem}."}
                ) from refusal
        return cleaned


@admin.register(EmailTemplate)
class EmailTemplateAdmin(ModelAdmin[EmailTemplate]):
    """What mails say."""

    form = TemplateForm
    inlines = (AttachmentInline,)
    list_display = ("name", "subject", "updated_at")
    search_fields = ("name", "subject")
    change_form_outer_after_template = "admin/campaigns/emailtemplate/preview.html"

    def get_urls(self) -> list[URLPattern]:
        """Add the previews: of what is stored, and of what stands in the form."""
        wrap = self.admin_site.admin_view
        return [
            path(
                "<int:template_id>/preview/",
                wrap(self.preview_stored),
                name="campaigns_emailtemplate_preview",
            ),
            path("preview/", wrap(self.preview_form), name="campaigns_emailtemplate_preview_form"),
            path("summary/", wrap(self.summarise_form), name="campaigns_emailtemplate_summary"),
            *super().get_urls(),
        ]

    @method_decorator(require_GET)
    def preview_stored(self, request: HttpRequest, template_id: int) -> HttpResponse:
        """A stored template as a mail."""
        template = get_object_or_404(EmailTemplate, pk=template_id)
        self._require_view_permission(request)
        return preview(Draft.of(template), images="images" in request.GET)

    @method_decorator(require_POST)
    def preview_form(self, request: HttpRequest) -> HttpResponse:
        """The posted `subject`, `html` and `text` as a mail; stores nothing."""
        self._require_view_permission(request)
        return preview(Draft.posted(request), images="images" in request.POST)

    @method_decorator(require_POST)
    def summarise_form(self, request: HttpRequest) -> HttpResponse:
        """What the frame does not show of the posted template: subject, plain text, or why it is refused."""
        self._require_view_permission(request)
        return HttpResponse(
            render_to_string("admin/campaigns/emailtemplate/summary.html", _summary(Draft.posted(request)))
        )

    def _require_view_permission(self, request: HttpRequest) -> None:
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied


def _summary(draft: Draft) -> dict[str, str]:
    try:
        message = draft.compiled()
        context = sample_context(message)
        return {"subject": message.subject.render(context), "text": message.text.render(context)}
    except (TemplateRefused, CannotRender) as refusal:
        return {"problem": str(refusal)}
