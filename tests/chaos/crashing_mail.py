"""Sends one single mail and dies by kill -9 at a named point.

    python -m tests.chaos.crashing_mail MAIL POINT COUNT

POINT and COUNT are those of `tests.chaos.crashing`, without record: a mail is never that long on its way.
Exits 0 when it never comes there.
"""

import os
import sys

import django

from tests.chaos.crashing import arm


def main(mail_id: int, point: str, times: int) -> None:
    """Arm the point, then work as the transactional worker does."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mailer_project.settings")
    django.setup()
    from campaigns import outbound  # Django is ready only now
    from campaigns.outbound import steps
    from campaigns.providers import configured_line

    line = configured_line()
    arm(line, steps, point, times)
    outbound.post(mail_id, owner="a process that dies", line=line)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
