"""POSTs an audience under an Idempotency-Key and dies by kill -9 on the way.

    python -m tests.chaos.crashing_request USER KEY MOMENT

MOMENT is "before" or "after" the commit that keeps the answer together with the audience.
"""

import os
import sys

import django

from tests.chaos.crashing import die


def main(user_id: int, key: str, moment: str) -> None:
    """Arm the commit, then post."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mailer_project.settings")
    django.setup()
    from django.db.backends.base.base import BaseDatabaseWrapper  # Django is ready only now
    from rest_framework.test import APIClient

    from users import idempotency
    from users.models import User

    keep, commit = idempotency._keep, BaseDatabaseWrapper.commit

    def deadly(wrapper: BaseDatabaseWrapper) -> None:
        if moment == "after":
            commit(wrapper)
        die()

    def armed(*args: object) -> None:
        keep(*args)  # type: ignore[arg-type]  # passed on as they came
        BaseDatabaseWrapper.commit = deadly  # type: ignore[assignment,method-assign]  # this process is to die of it

    idempotency._keep = armed  # type: ignore[assignment]  # takes what it takes
    client = APIClient()
    client.force_authenticate(User.objects.get(pk=user_id))
    client.post("/api/v1/audiences/", {"name": "Friends"}, headers={"Idempotency-Key": key})


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
