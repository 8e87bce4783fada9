"""Does one deed of the system and dies by kill -9 just before or just after its commit.

    python -m tests.chaos.crashing_deeds DEED ID MOMENT

DEED is one of `DEEDS`, ID the batch or the campaign that it is done to, MOMENT "before" or "after". Exits 0
when the deed is done without a commit on the way.
"""

import os
import sys
from collections.abc import Callable
from typing import Any, Final

import django

from tests.chaos.crashing import die, dying

# The deed, and the step of it whose first commit is meant.
DEEDS: Final = {
    "rule out": "campaigns.ledger.rule_out",
    "renew": "campaigns.ledger.renew",
    "build the ledger": "campaigns.dispatch.build_ledger",
    "choose what to publish": "campaigns.dispatch.next_batches",
    "publish": "campaigns.tasks.publish",
    "take back": "campaigns.ledger.take_back_expired",
    "finalize": "campaigns.dispatch.finalize",
    "settle": "campaigns.settling.settle_campaign",
    "cancel what is open": "campaigns.dispatch.finalize",
}
# Their one statement commits by itself, or they talk to the broker: their call stands for the commit.
WITHOUT_TRANSACTION: Final = ("choose what to publish", "publish")


def main(deed: str, id: int, moment: str) -> None:
    """Arm the commit, then do the deed."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mailer_project.settings")
    django.setup()
    from django.utils.module_loading import import_string  # Django is ready only now

    module, _, name = DEEDS[deed].rpartition(".")
    owner = sys.modules.get(module) or import_string(module)
    step = getattr(owner, name)
    setattr(owner, name, dying(step, moment, 1) if deed in WITHOUT_TRANSACTION else _armed(step, moment))
    _do(deed, id)


def _armed(step: Callable[..., Any], moment: str) -> Callable[..., Any]:
    """Return `step`, but with the process killed before or after the first commit of a call of it."""
    from django.db.backends.base.base import BaseDatabaseWrapper

    commit = BaseDatabaseWrapper.commit

    def deadly(wrapper: BaseDatabaseWrapper) -> None:
        if moment == "after":
            commit(wrapper)
        die()

    def armed(*args: Any, **kwargs: Any) -> Any:
        BaseDatabaseWrapper.commit = deadly  # type: ignore[assignment,method-assign]  # this process is to die of it
        return step(*args, **kwargs)

    return armed


def _do(deed: str, id: int) -> None:
    from django.utils import timezone

    from campaigns import delivery, dispatch, ledger, recovery, settling, tasks
    from campaigns.models import Decision
    from campaigns.providers import configured_line
    from users.models import User

    match deed:
        case "rule out" | "renew":
            delivery.send_batch(id, owner="a process that dies", line=configured_line())
        case "build the ledger":
            dispatch.build_ledger(id, now=timezone.now())
        case "choose what to publish" | "publish":
            tasks.start_campaign_send(id)
        case "take back":
            recovery.take_back_expired_leases()
        case "finalize" | "cancel what is open":
            dispatch.finalize(id, now=timezone.now())
        case "settle":
            boss = User.objects.get(email="boss@example.com")
            ruling = ledger.Ruling(Decision.SEND_AGAIN, boss.pk, boss.email, "", timezone.now())
            settling.settle_campaign(id, ruling)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
