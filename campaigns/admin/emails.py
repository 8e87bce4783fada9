"""Single mails: a list to search, each mail's recipients, and what is to become of those that failed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_GET, require_POST

from campaigns import mail, outbound
from campaigns.admin.deliveries import STATUS_COLOURS
from campaigns.admin.large import Large
from campaigns.admin.readonly import ReadOnly
from campaigns.admin.templates import as_text, in_frame
from campaigns.models import DeliveryStatus, OutboundEmail, OutboundRecipient
from campaigns.outbound import NothingToDecide, Verb
from users.admin_theme import ModelAdmin
from users.models import User

MOST_CHOSEN = 500
SHOWN_IN_LIST = 3  # recipients


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing to decide, as the pages offer it; `effect` is read before it is confirmed."""

    verb: Verb
    label: str
    effect: str
    of: DeliveryStatus
    kind: str = "main"


CHOICES = {
    choice.verb: choice
    for choice in (
        Choice(
            Verb.RETRY,
            "Try again",
            "Goes once more to those to whom it failed, under the same Message-ID.",
            DeliveryStatus.FAILED,
        ),
        Choice(
            Verb.SENT,
            "Mark as sent",
            "It arrived, so it counts as sent. Nothing leaves.",
            DeliveryStatus.UNCONFIRMED,
        ),
        Choice(
            Verb.SEND_AGAIN,
            "Send again",
            "Whoever got it already may get it a second time, under the same Message-ID.",
            DeliveryStatus.UNCONFIRMED,
        ),
        Choice(
            Verb.GIVE_UP,
            "Give up",
            "Counts as failed and is not sent again, though it may have arrived.",
            DeliveryStatus.UNCONFIRMED,
            "danger",
        ),
    )
}


class DecisionForm(forms.Form):
    """What was confirmed."""

    decision = forms.ChoiceField(choices=[(verb.value, verb.name) for verb in Verb])
    note = forms.CharField(required=False, max_length=500)
    mail = forms.TypedMultipleChoiceField(coerce=int, choices=())

    def __init__(self, data: Any) -> None:
        super().__init__(data)
        chosen = [number for number in data.getlist("mail") if number.isascii() and number.isdecimal()]
        self.fields["mail"].choices = [(number, number) for number in chosen[:MOST_CHOSEN]]  # type: ignore[attr-defined]  # of a ChoiceField


def label(status: str) -> SafeString:
    """A status as a coloured label."""
    found = DeliveryStatus(status)
    return format_html(
        '<span class="mailer-label mailer-{}">{}</span>', STATUS_COLOURS[found], found.label.lower()
    )


@admin.register(OutboundEmail)
class OutboundEmailAdmin(Large, ReadOnly, ModelAdmin[OutboundEmail]):
    """Every mail that went out by itself: password resets, notifications, those of the API."""

    actions = ("retry", "mark_as_sent", "send_again", "give_up")
    list_display = ("title", "to", "state", "created_at", "sender", "trouble")
    list_filter = ("status",)
    search_fields = ("subject",)
    search_help_text = "An address, or a part of the subject"
    ordering = ("-id",)
    fields = (
        "subject", "state", "from_email", "reply_to", "created_by", "created_at", "finished_at",
        "not_before", "trouble", "lease_owner", "message_id", "idempotency_key", "attached",
    )  # fmt: skip
    readonly_fields = ("state", "attached")
    change_form_outer_before_template = "admin/campaigns/outboundemail/recipients.html"
    change_form_outer_after_template = "admin/campaigns/outboundemail/content.html"

    def has_decide_permission(self, request: HttpRequest) -> bool:
        """Whether the operator may decide."""
        return request.user.has_perm("campaigns.change_outboundemail")

    def get_fields(self, request: HttpRequest, obj: OutboundEmail | None = None) -> Any:
        """Leave out what there is nothing to say of."""
        shown = ("subject", "state", "attached")
        return [name for name in self.fields if name in shown or getattr(obj, name)]

    def get_queryset(self, request: HttpRequest) -> "QuerySet[OutboundEmail]":
        """Leave the texts out, which may be long."""
        mails = super().get_queryset(request).select_related("created_by").prefetch_related("recipients")
        return mails.defer("text", "html", "headers")

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[OutboundEmail]", search_term: str
    ) -> tuple["QuerySet[OutboundEmail]", bool]:
        """Find by subject or by address."""
        if search_term:
            written_to = OutboundRecipient.objects.filter(email__icontains=search_term).values("mail")
            queryset = queryset.filter(Q(subject__icontains=search_term) | Q(pk__in=written_to))
        return queryset, False

    @admin.display(description="subject")
    def title(self, mail: OutboundEmail) -> str:
        """The subject, or that there is none."""
        return mail.subject or "(without a subject)"

    @admin.display(description="to")
    def to(self, mail: OutboundEmail) -> str:
        """The first recipients, and how many more."""
        found = [each.email for each in mail.recipients.all()]
        more = len(found) - SHOWN_IN_LIST
        return ", ".join(found[:SHOWN_IN_LIST]) + (f" and {more} more" if more > 0 else "")

    @admin.display(description="status", ordering="status")
    def state(self, mail: OutboundEmail) -> SafeString:
        """The worst that became of it, as a coloured label."""
        return label(mail.status)

    @admin.display(description="by", empty_value="-")
    def sender(self, mail: OutboundEmail) -> str | None:
        """Who had it sent; nobody for those of the program."""
        return str(mail.created_by) if mail.created_by else None

    @admin.display(description="attachments", empty_value="none")
    def attached(self, mail: OutboundEmail) -> str | None:
        """The names of the parts."""
        return ", ".join(str(part) for part in mail.parts.defer("content")) or None

    # --- Actions ----------------------------------------------------------------------------------------

    @admin.action(description="Try again", permissions=["decide"])
    def retry(self, request: HttpRequest, chosen: "QuerySet[OutboundEmail]") -> HttpResponse:
        """Ask before trying again."""
        return self._asked(chosen, Verb.RETRY)

    @admin.action(description="Mark as sent", permissions=["decide"])
    def mark_as_sent(self, request: HttpRequest, chosen: "QuerySet[OutboundEmail]") -> HttpResponse:
        """Ask before counting as sent."""
        return self._asked(chosen, Verb.SENT)

    @admin.action(description="Send again", permissions=["decide"])
    def send_again(self, request: HttpRequest, chosen: "QuerySet[OutboundEmail]") -> HttpResponse:
        """Ask before sending again."""
        return self._asked(chosen, Verb.SEND_AGAIN)

    @admin.action(description="Give up", permissions=["decide"])
    def give_up(self, request: HttpRequest, chosen: "QuerySet[OutboundEmail]") -> HttpResponse:
        """Ask before giving up."""
        return self._asked(chosen, Verb.GIVE_UP)

    def _asked(self, chosen: "QuerySet[OutboundEmail]", verb: Verb) -> HttpResponse:
        mails = "&".join(f"mail={pk}" for pk in chosen.values_list("pk", flat=True)[:MOST_CHOSEN])
        return HttpResponseRedirect(f"{_address('confirm')}?decision={verb.value}&{mails}")

    # --- Pages ------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        """Add what asks, what decides, and the mail itself."""

        def wrapped(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
            return self.admin_site.admin_view(view)

        return [
            path("confirm/", wrapped(require_GET(self.confirm)), name="campaigns_outboundemail_confirm"),
            path("decide/", wrapped(require_POST(self.decide)), name="campaigns_outboundemail_decide"),
            path(
                "<int:mail_id>/content/",
                wrapped(require_GET(self.content)),
                name="campaigns_outboundemail_content",
            ),
            *super().get_urls(),
        ]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        """Say what can be decided, and whether the mail itself is shown."""
        mail: OutboundEmail = context["original"]
        statuses = {each.status for each in mail.recipients.all()}
        context["rows"] = [(each, label(each.status)) for each in mail.recipients.all()]
        may = self.has_decide_permission(request)
        context["choices"] = [choice for choice in CHOICES.values() if may and choice.of in statuses]
        context["shows_content"] = may_read(request.user, mail)
        return super().render_change_form(request, context, *args, **kwargs)

    def confirm(self, request: HttpRequest) -> HttpResponse:
        """Ask before anything is decided."""
        self._require_permission(request)
        form = DecisionForm(request.GET)
        if not form.is_valid():
            return self._back(request, "Choose mails, and what is to become of them.")
        choice = CHOICES[Verb(form.cleaned_data["decision"])]
        mails = OutboundEmail.objects.filter(
            pk__in=form.cleaned_data["mail"], recipients__status=choice.of
        ).distinct()
        if not mails:
            state = choice.of.label.lower()
            return self._back(request, f"None of these mails has a recipient that is {state}.")
        context = {
            **self.admin_site.each_context(request),
            "title": choice.label,
            "opts": self.opts,
            "choice": choice,
            "mails": mails.only("pk", "subject"),
            "address": _address("decide"),
            "back": _address("changelist"),
        }
        return TemplateResponse(request, "admin/campaigns/outboundemail/confirm.html", context)

    def decide(self, request: HttpRequest) -> HttpResponse:
        """Do what was confirmed; back to the mail, or to the list."""
        self._require_permission(request)
        form = DecisionForm(request.POST)
        if not form.is_valid():
            return self._back(request, "Choose mails, and what is to become of them.")
        given = form.cleaned_data
        verb = Verb(given["decision"])
        try:
            done = outbound.decide(
                given["mail"], verb, by=cast(User, request.user), now=timezone.now(), note=given["note"]
            )
        except NothingToDecide as nothing:
            return self._back(request, str(nothing))
        mail.send_soon(done)
        messages.success(
            request, f"{CHOICES[verb].label}: {len(done):,} mail{'' if len(done) == 1 else 's'}."
        )
        one = reverse("admin:campaigns_outboundemail_change", args=[done[0]])
        return HttpResponseRedirect(one if len(done) == 1 else _address("changelist"))

    def content(self, request: HttpRequest, mail_id: int) -> HttpResponse:
        """Show the mail itself, in a frame."""
        found = get_object_or_404(OutboundEmail, pk=mail_id)
        if not (self.has_view_permission(request, found) and may_read(request.user, found)):
            raise PermissionDenied
        return in_frame(found.html or as_text(found.text))

    def _back(self, request: HttpRequest, why: str) -> HttpResponse:
        messages.error(request, why)
        return HttpResponseRedirect(_address("changelist"))

    def _require_permission(self, request: HttpRequest) -> None:
        if not self.has_decide_permission(request):
            raise PermissionDenied


def may_read(user: Any, mail: OutboundEmail) -> bool:
    """Say whether somebody may read the mail itself.

    Not every operator: with the link of a superuser's password reset they would become one.
    """
    return bool(user.is_superuser or (mail.created_by_id is not None and mail.created_by_id == user.pk))


def _address(page: str) -> str:
    return reverse(f"admin:campaigns_outboundemail_{page}")
