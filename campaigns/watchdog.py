"""Why a campaign does not move, in one sentence: since when, what follows, what to do.

Nothing is decided by it. It reads what the ledger says of itself (`progress`) and what the parts around it
say (`vitals`); `why_still` makes the sentence of both and asks nobody else.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from campaigns import progress, vitals
from campaigns.models import CampaignStatus
from campaigns.progress import Progress, Standing
from campaigns.vitals import Vitals, moment

QUIET = timedelta(seconds=30)  # without a sign of life, after which a campaign counts as standing still
_NEAR_THE_LIMIT = 0.9  # of a provider's rate, from which that rate is what a campaign waits for


def of(campaign_id: int) -> Progress:
    """Return the progress of one campaign with its `trouble`. Raises KeyError when there is none such."""
    return of_many([campaign_id])[campaign_id]


def of_many(campaign_ids: Iterable[int]) -> dict[int, Progress]:
    """Return the progress of each campaign that exists, by id, each with its `trouble`."""
    found = progress.of_many(campaign_ids)
    may_move = (CampaignStatus.IN_PROGRESS, CampaignStatus.SCHEDULED)
    around = vitals.look() if any(each.status in may_move for each in found.values()) else Vitals(())
    return {key: replace(each, trouble=why_still(each, around)) for key, each in found.items()}


def why_still(current: Progress, around: Vitals) -> str:
    """Return why the campaign does not move, or not as it should; '' when there is nothing to say.

    `around` counts only for campaigns that are scheduled or in progress.
    """
    if not current.standing:
        return ""
    case = _Case(current, current.standing, around)
    if broken := case.does_not_add_up():
        return broken
    match current.status:
        case CampaignStatus.PAUSED:
            return case.paused()
        case CampaignStatus.CANCELLED:
            return case.not_all_cancelled()
        case CampaignStatus.SCHEDULED:
            return case.overdue()
        case CampaignStatus.IN_PROGRESS:
            return next((words for rule in _IN_PROGRESS if (words := rule(case))), "")
        case CampaignStatus.COMPLETED | CampaignStatus.FAILED:
            return case.in_doubt()
    return ""


@dataclass(frozen=True, slots=True)
class _Case:
    """One campaign; each method is a rule that returns its sentence, or '' when it does not apply."""

    current: Progress
    standing: Standing
    around: Vitals

    def does_not_add_up(self) -> str:
        total, counted = self.current.total, self.current.counted
        if total == counted:
            return ""
        return (
            f"The ledger does not add up: {total:,} mails were to be sent, and {counted:,} are accounted "
            "for. Somebody changed its tables; restore them before anything else"
        )

    def paused(self) -> str:
        words = f"Paused since {self._at(self.standing.changed_at)}; resume it to go on"
        leased = self.standing.leased
        if not leased:
            return words
        return f"{words}. {_batches(leased, 'is', 'are')} with workers, who stop before their next mail"

    def not_all_cancelled(self) -> str:
        count, leased = self.current.open, self.standing.leased
        if not count:
            return ""
        words = f"{_mails(count, 'is', 'are')} still to be cancelled"
        if not leased:
            return f"{words}; the next tick does it"
        held = f"{_batches(leased, 'is', 'are')} with workers"
        return f"{words}; {held}, cancelled once they give {_it(leased)} back or their leases end"

    def overdue(self) -> str:
        due = self.standing.scheduled_at
        if due is None or self.standing.asked_at - due < vitals.TICK_LATE:
            return ""
        return f"It was to start at {self._at(due)}, and no tick has started it. {self._tick}"

    def in_doubt(self) -> str:
        count = self.current.unconfirmed
        if not count:
            return ""
        words = f"{_mails(count, 'is', 'are')} unconfirmed: they may have left, and no answer was recorded"
        return f"{words}. Settle them in the delivery log or by settle_unconfirmed {self.current.id}"

    # --- In progress

    def cannot_be_finished(self) -> str:
        reason = self.standing.status_reason
        return reason and f"The ledger does not add up, so this is not called completed: {reason}"

    def not_built(self) -> str:
        if self.standing.built_at:
            return ""
        words = f"The delivery log has been in the making since {self._at(self.current.started_at)}"
        return f"{words}. {self._tick}" if self._is_quiet else words

    def nothing_open(self) -> str:
        if self.current.open or self.standing.leased or not self._is_quiet:
            return ""
        return self._by_tick("Every mail has its answer; the next tick ends the campaign")

    def abandoned(self) -> str:
        count = self.standing.abandoned
        if not count:
            return ""
        who = "a worker that has gone" if count == 1 else "workers that have gone"
        left = f"{_batches(count, 'was', 'were')} left by {who}"
        return self._by_tick(f"{left}; the next tick takes {_it(count)} back")

    def redis_away(self) -> str:
        if self.around.known or not self._is_quiet:
            return ""
        return "Redis does not answer; it keeps the rate limits, so senders wait until it does"

    def no_sender(self) -> str:
        standing, hinted = self.standing, self.standing.oldest_hint_at
        if standing.leased or hinted is None or not self._is_quiet or standing.asked_at - hinted < QUIET:
            return ""
        words = f"{_batches(standing.queued, 'has', 'have')} been in the queue since {self._at(hinted)}"
        if standing.others_leased:
            return f"{words}; the senders are busy with other campaigns"
        return f"{words}, and no sender takes {_it(standing.queued)}: is one running?"

    def nothing_queued(self) -> str:
        count = self.standing.unpublished
        if self.standing.leased or self.standing.queued or not count or not self._is_quiet:
            return ""
        due = f"{_batches(count, 'is', 'are')} due and in no queue"
        return self._by_tick(f"{due}; the next tick publishes {_it(count)}")

    def troubled(self) -> str:
        standing = self.standing
        if not standing.troubled:
            return ""
        waiting = f"{_batches(standing.troubled, 'waits', 'wait')} until {self._at(standing.troubled_until)}"
        mostly = "" if standing.one_trouble else "mostly "
        return self._by_tick(f"{waiting}: {mostly}{standing.trouble}")

    def providers_closed(self) -> str:
        """Speaks when the first provider is not asked now."""
        now = self.standing.asked_at
        closed = [provider.closed_because(now) for provider in self.around.providers]
        if not closed or not closed[0]:
            return ""
        used = [each.name for each, why in zip(self.around.providers, closed, strict=True) if not why]
        return "; ".join(filter(None, closed)) + (f"; {used[0]} is used instead" if used else "")

    def rate(self) -> str:
        if not self.standing.leased:
            return ""
        for provider in self.around.providers:
            limit = provider.limit.per_second
            is_near = limit and self.current.rate_per_second >= _NEAR_THE_LIMIT * limit
            if provider.is_booked_out or is_near:
                return f"{provider.name}: waiting for the rate limit of {limit}/s"
        return ""

    def only_deferred(self) -> str:
        standing = self.standing
        if not standing.waiting or standing.waiting < standing.batches:
            return ""
        mails = _mails(self.current.open, "waits", "wait")
        if not self.current.deferred:
            return self._by_tick(
                f"{mails} for their own time, the first at {self._at(standing.waiting_until)}"
            )
        return self._by_tick(f"{mails} for the next try at {self._at(standing.waiting_until)}")

    def silent_workers(self) -> str:
        leased = self.standing.leased
        if not leased or not self._is_quiet:
            return ""
        return (
            f"{_batches(leased, 'is', 'are')} with workers who have not been heard of since "
            f"{self._at(self.standing.leased_at or self._last_sign)}: the provider is slow, or they died and "
            "their leases will run out"
        )

    def last_trouble(self) -> str:
        return self.standing.last_trouble

    # --- What the rules have in common

    @property
    def _last_sign(self) -> datetime:
        """When it was last seen to move: a change of status, its ledger, a record, a lease lengthened."""
        standing = self.standing
        signs = (standing.changed_at, standing.built_at, standing.recorded_at, standing.leased_at)
        return max((sign for sign in signs if sign), default=standing.asked_at)

    @property
    def _is_quiet(self) -> bool:
        return self.standing.asked_at - self._last_sign >= QUIET

    @property
    def _tick(self) -> str:
        return self.around.last_tick(self.standing.asked_at)

    def _by_tick(self, words: str) -> str:
        """Add to what the next tick will put right that no tick seems to come."""
        return f"{words}. {self._tick}" if self.around.tick_is_late(self.standing.asked_at) else words

    def _at(self, at: datetime | None) -> str:
        return moment(at, self.standing.asked_at) if at else "an unknown time"


# the first that finds something speaks
_IN_PROGRESS = (
    _Case.cannot_be_finished,
    _Case.not_built,
    _Case.nothing_open,
    _Case.abandoned,
    _Case.redis_away,
    _Case.no_sender,
    _Case.nothing_queued,
    _Case.troubled,
    _Case.providers_closed,
    _Case.rate,
    _Case.only_deferred,
    _Case.silent_workers,
    _Case.last_trouble,
)


def _batches(count: int, one: str, many: str) -> str:
    return f"1 batch {one}" if count == 1 else f"{count:,} batches {many}"


def _mails(count: int, one: str, many: str) -> str:
    return f"1 mail {one}" if count == 1 else f"{count:,} mails {many}"


def _it(count: int) -> str:
    return "it" if count == 1 else "them"
