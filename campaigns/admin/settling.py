"""Settling unconfirmed mails: bulk actions of the delivery log, and buttons on a campaign's page."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from campaigns import actions, settling
from campaigns.admin.operating import in_words
from campaigns.admin.summary import Summary
from campaigns.admin.times import in_zone
from campaigns.models import Batch, Campaign, CampaignStatus, Decision, DeliveryLog, DeliveryStatus
from users.admin_theme import ModelAdmin
from users.models import User

REFUSALS = (settling.NotUnconfirmed, settling.TooManyNamed, settling.CampaignCancelled)


class NoteForm(forms.Form):
    """What is kept with a decision."""

    decision = forms.ChoiceField(choices=Decision.choices)
    note = forms.CharField(
        label="Note",
        required=False,
        max_length=settling.LONGEST_NOTE,
        help_text="How you know, for whoever asks later. Kept with the decision, your name and the time.",
        widget=forms.Textarea(attrs={"rows": 2}),
    )


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to settle, as the pages offer it; `effect` is read before it is confirmed."""

    decision: Decision
    label: str
    effect: str
    done: str
    kind: str = "main"


CHOICES = {
    choice.decision: choice
    for choice in (
        Choice(
            Decision.SENT,
            "Mark as sent",
            "They arrived, so they count as sent. Nothing leaves.",
            "counted as sent",
        ),
        Choice(
            Decision.SEND_AGAIN,
            "Send again",
            "Whoever got such a mail already may get it a second time, under the same Message-ID.",
            "to be sent again",
        ),
        Choice(
            Decision.GIVE_UP,
            "Give up",
            "They count as failed and are not sent again, though some may have arrived.",
            "given up",
            "danger",
        ),
    )
}


def offer(request: HttpRequest, campaign: Campaign, summary: Summary) -> dict[str, Any] | None:
    """What a campaign's page says of its unconfirmed mails; None when it has none."""
    if not summary.progress.unconfirmed:
        return None
    log = reverse("admin:campaigns_deliverylog_changelist")
    choices = [
        choice
        for choice in CHOICES.values()
        if choice.decision is not Decision.SEND_AGAIN or campaign.status != CampaignStatus.CANCELLED
    ]
    return {
        "count": summary.progress.unconfirmed,
        "log": f"{log}?campaign__id__exact={campaign.pk}&status__exact={DeliveryStatus.UNCONFIRMED}",
        "url": reverse("admin:campaigns_deliverylog_settle_campaign", args=[campaign.pk]),
        "choices": choices if actions.may_settle(request.user) else [],
        "form": NoteForm(auto_id=False),
    }


class Settles(ModelAdmin[DeliveryLog]):
    """The delivery log's actions: choose mails, confirm with a note, have them settled."""

    actions = ("mark_as_sent", "send_again", "give_up")

    def has_settle_permission(self, request: HttpRequest) -> bool:
        """Whether the operator may decide."""
        return actions.may_settle(request.user)

    @admin.action(description="Mark as sent", permissions=["settle"])
    def mark_as_sent(self, request: HttpRequest, chosen: "QuerySet[DeliveryLog]") -> HttpResponse | None:
        """Ask before counting as sent."""
        return self._confirm(request, chosen, CHOICES[Decision.SENT])

    @admin.action(description="Send again", permissions=["settle"])
    def send_again(self, request: HttpRequest, chosen: "QuerySet[DeliveryLog]") -> HttpResponse | None:
        """Ask before sending again."""
        return self._confirm(request, chosen, CHOICES[Decision.SEND_AGAIN])

    @admin.action(description="Give up", permissions=["settle"])
    def give_up(self, request: HttpRequest, chosen: "QuerySet[DeliveryLog]") -> HttpResponse | None:
        """Ask before giving up."""
        return self._confirm(request, chosen, CHOICES[Decision.GIVE_UP])

    @admin.display(description="decisions", empty_value="none")
    def decisions(self, delivery: DeliveryLog) -> SafeString | None:
        """Who decided what about it, and when."""
        kept = delivery.settlements.all()
        if not kept:
            return None
        lines = (
            (
                in_zone(one.decided_at, delivery.campaign.timezone),
                one.decided_by_email,
                one.get_decision_display(),
                f" - {one.note}" if one.note else "",
            )
            for one in kept
        )
        return format_html("<ul>{}</ul>", format_html_join("", "<li>{}: <b>{}</b>: {}{}</li>", lines))

    def get_urls(self) -> list[URLPattern]:
        """Add what settles."""
        return [
            path("settle/", self._posted(self.settle), name="campaigns_deliverylog_settle"),
            path(
                "settle/<int:campaign_id>/",
                self._posted(self.settle_campaign),
                name="campaigns_deliverylog_settle_campaign",
            ),
            *super().get_urls(),
        ]

    def settle(self, request: HttpRequest) -> HttpResponse:
        """Settle the posted deliveries, all or none; back to the list as it was filtered."""
        self._require_settle_permission(request)
        named = request.POST.getlist("delivery")
        if not named or not all(number.isascii() and number.isdecimal() for number in named):
            return HttpResponseBadRequest("delivery: numbers, at least one.", content_type="text/plain")
        self._decide(
            request,
            lambda decision, note: actions.settle_deliveries(
                [int(number) for number in named],
                decision,
                by=cast(User, request.user),
                note=note,
                now=timezone.now(),
            ),
        )
        return HttpResponseRedirect(_list_address(request))

    def settle_campaign(self, request: HttpRequest, campaign_id: int) -> HttpResponse:
        """Settle all that is unconfirmed of a campaign; back to its page."""
        self._require_settle_permission(request)
        campaign = get_object_or_404(Campaign, pk=campaign_id)
        done = self._decide(
            request,
            lambda decision, note: actions.settle_campaign(
                campaign_id, decision, by=cast(User, request.user), note=note, now=timezone.now()
            ),
        )
        if done:
            self.log_change(request, campaign, done)  # type: ignore[arg-type]  # it takes any row
        return HttpResponseRedirect(reverse("admin:campaigns_campaign_change", args=[campaign_id]))

    def _posted(self, view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        return self.admin_site.admin_view(require_POST(view))

    def _require_settle_permission(self, request: HttpRequest) -> None:
        if not self.has_settle_permission(request):
            raise PermissionDenied

    def _confirm(
        self, request: HttpRequest, chosen: "QuerySet[DeliveryLog]", choice: Choice
    ) -> HttpResponse | None:
        """Show how many would be settled; None, with a message, where there is nothing to confirm."""
        # status is in no index: the counters of the batches say where to look
        batches = Batch.objects.filter(unconfirmed__gt=0)
        doubtful = chosen.filter(status=DeliveryStatus.UNCONFIRMED, batch__in=batches).order_by("pk")
        ids = list(doubtful.values_list("pk", flat=True)[: settling.MOST_NAMED + 1])
        if not ids:
            messages.error(request, "None of the chosen mails is unconfirmed.")
            return None
        if len(ids) > settling.MOST_NAMED:
            messages.error(
                request,
                f"Choose up to {settling.MOST_NAMED:,} unconfirmed mails at a time; "
                "a campaign's page settles all that it has.",
            )
            return None
        context = {
            **self.admin_site.each_context(request),
            "title": choice.label,
            "opts": self.opts,
            "choice": choice,
            "ids": ids,
            "left_out": 0 if _all_pages(request) else len(_ticked(request)) - len(ids),
            "form": NoteForm(auto_id=False),
            "action": f"{reverse('admin:campaigns_deliverylog_settle')}?{request.GET.urlencode()}",
            "back": _list_address(request),
        }
        return TemplateResponse(request, "admin/campaigns/deliverylog/settle.html", context)

    def _decide(self, request: HttpRequest, settle: Callable[[Decision, str], int]) -> str:
        """Do what was confirmed and say so, or why not; the sentence, empty when it was refused."""
        form = NoteForm(request.POST)
        if not form.is_valid():
            for reason in in_words({name: [str(text) for text in form.errors[name]] for name in form.errors}):
                messages.error(request, reason)
            return ""
        choice = CHOICES[Decision(form.cleaned_data["decision"])]
        try:
            settled = settle(choice.decision, form.cleaned_data["note"])
        except REFUSALS as refused:
            messages.error(request, str(refused))
            return ""
        if not settled:
            messages.info(request, "Nothing was unconfirmed any more.")
            return ""
        done = f"{settled:,} unconfirmed mail{'' if settled == 1 else 's'}: {choice.done}."
        messages.success(request, done)
        return done


def _ticked(request: HttpRequest) -> list[str]:
    return request.POST.getlist(ACTION_CHECKBOX_NAME)


def _all_pages(request: HttpRequest) -> bool:
    """Whether the rows of all pages were chosen, not only those that are ticked."""
    return request.POST.get("select_across") == "1"


def _list_address(request: HttpRequest) -> str:
    address = reverse("admin:campaigns_deliverylog_changelist")
    return f"{address}?{request.GET.urlencode()}" if request.GET else address
