"""The command of `make fuzz`; see tests.fuzzing."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import tests.figures  # noqa: F401  # first: starts the services and makes Django ready
from campaigns.models import Audience, Campaign, EmailTemplate, Recipient
from tests.campaign_helpers import clock
from tests.schedule_helpers import schedule
from tests.sinks import free_port
from tests.workers import environment, wait_until
from users.models import User

_ROOT = Path(__file__).parent.parent.parent
PASSWORD = "correct horse battery staple"
RATES = ("LOGIN_RATE", "REGISTER_RATE", "RESET_RATE")  # or most of what is asked would be answered 429
# Schemathesis 4.32.5 stumbles in its phase "coverage" over bodies with a file: "Unsupported type: 'Binary'"
PHASES = (
    ["--phases", "examples,fuzzing,stateful"],
    ["--phases", "coverage", "--exclude-path-regex", "/(tasks|imports|imports/preview|attachments)/$"],
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("--schemathesis", required=True, help="the program st")
    parser.add_argument("--tag", action="append", default=[], help="only the resources with this tag")
    parser.add_argument("--examples", default="50", help="for each operation")
    options = parser.parse_args()
    boss, person = _people()
    with _server() as address:
        failed = [
            who.email
            for who in (boss, person)
            if _ask(options.schemathesis, address, who, options.tag, options.examples) != 0
        ]
    sys.exit(f"failed as {', '.join(failed)}" if failed else 0)


def _people() -> tuple[User, User]:
    """Store an operator, a user, and some rows that both may name."""
    boss = User.objects.create_superuser("boss@example.com", PASSWORD)
    person = User.objects.create_user("person@example.com", PASSWORD)
    letter = EmailTemplate.objects.create(name="Daily", subject="Hello {{ name }}", text="It is time.")
    audience = Audience.objects.create(name="Friends")
    Recipient.objects.create(audience=audience, email="asha@example.com")
    Campaign.objects.create(name="May", audience=audience, template=letter)
    for owner in (boss, person):
        schedule(owner, letter, now=clock())
    return boss, person


@contextmanager
def _server() -> Iterator[str]:
    """Serve the API as in production, without workers behind it; on a port that nobody else listens at."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "gunicorn", "mailer_project.wsgi", f"--bind={address}"]
    options = [
        "--workers=2",
        "--worker-class=gthread",
        "--threads=4",
        "--no-control-socket",
        "--log-level=error",
    ]
    env = environment(EMAIL_PORT="1", LOG_LEVEL="CRITICAL", **dict.fromkeys(RATES, "100000/min"))
    server = subprocess.Popen([*command, *options], cwd=_ROOT, env=env)
    try:
        wait_until(partial(_answers, address), seconds=60, what="the server answers")
        yield address
    finally:
        server.terminate()
        server.wait()


def _answers(address: str) -> bool:
    connection = HTTPConnection(address, timeout=2)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _token(address: str, who: User) -> str:
    connection = HTTPConnection(address, timeout=30)
    body = json.dumps({"email": who.email, "password": PASSWORD})
    connection.request("POST", "/api/v1/auth/token/", body, {"Content-Type": "application/json"})
    document = json.loads(connection.getresponse().read())
    connection.close()
    return str(document["access"])


def _ask(program: str, address: str, who: User, tags: list[str], examples: str) -> int:
    token = _token(address, who)
    # absolute: it runs in a directory of its own
    command = [
        str(Path(program).absolute()),
        "run",
        f"http://{address}/api/schema/",
        "--checks",
        "not_a_server_error",
        "--workers",
        "2",
    ]
    command += ["--max-examples", examples, "--continue-on-failure", "--generation-deterministic"]
    command += ["--header", f"Authorization: Bearer {token}", "--suppress-health-check", "all"]
    for tag in tags:
        command += ["--include-tag", tag]
    return max(_run([*command, *phase]) for phase in PHASES)


def _run(command: list[str]) -> int:
    return subprocess.run(command, cwd=os.environ["LOCAL_DIR"]).returncode


if __name__ == "__main__":
    main()
