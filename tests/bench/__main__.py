"""The command of `make bench`; see tests.bench."""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.db import connection
from redis import Redis

import tests.figures  # noqa: F401  # first: starts the services and makes Django ready
from tests.bench import (
    asking,
    composing,
    growing,
    importing,
    report,
    rivals,
    sending,
    single,
    starting,
    sweeping,
)
from tests.bench.report import Table
from tests.bench.sizes import BY_NAME, Sizes
from tests.figures.system import say
from tests.sinks import MissingProgram


def limits(sizes: Sizes) -> Table:
    """Run the programs of tests.figures that print what the limit and fairness come to."""
    table = Table("Rate limit of 600/s over eight processes; a small campaign beside a large one", ())
    for program in (("limiter", "20"), ("fairness", "50000")) if sizes.figures else ():
        command = [sys.executable, "-m", f"tests.figures.{program[0]}", *program[1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        table.notes += [f"- {line}" for line in done.stdout.splitlines()]
    return table


ROWS: dict[str, Callable[[Sizes, str | None], Table]] = {
    "compose": lambda sizes, _: composing.measure(sizes),
    "smtp": sending.over_smtp,
    "sendgrid": sending.over_http,
    "start": lambda sizes, _: starting.measure(sizes),
    "growth": lambda sizes, _: growing.measure(sizes),
    "sweep": lambda sizes, _: sweeping.measure(sizes),
    "status": lambda sizes, _: asking.measure(sizes),
    "single": lambda sizes, _: single.measure(sizes),
    "import": importing.measure,
    "memory": lambda sizes, _: importing.measure_memory(sizes),
    "limits": lambda sizes, _: limits(sizes),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", dest="sizes", action="store_const", const="quick", default="full")
    parser.add_argument("--tiny", dest="sizes", action="store_const", const="tiny", help="only to see it run")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--peers", help="the Python of the peers' environment; without it, ours alone")
    parser.add_argument("--write", type=Path, help="a page to write the tables into, between its marks")
    options = parser.parse_args()
    sizes = BY_NAME[options.sizes]
    circumstances = report.circumstances(
        how=f"{sizes.name} form, {sizes.rounds} rounds interleaved",
        servers=server_versions(),
        peers=rivals.versions(options.peers) if options.peers else {},
    )
    say(circumstances.markdown())
    tables = []
    for name in options.only:
        since = time.monotonic()
        try:
            table = ROWS[name](sizes, options.peers)
        except MissingProgram as missing:
            table = Table(f"{name}: not measured", (), notes=[str(missing)])
        if table.rows or table.notes:
            tables.append(table)
            say(table.markdown())
        sys.stderr.write(f"{name}: {time.monotonic() - since:.0f} s\n")
    if options.write:
        page = report.put_between_marks(options.write.read_text(), report.document(tables, circumstances))
        options.write.write_text(page)


def server_versions() -> dict[str, str]:
    """Return the versions of the servers that the bench uses."""
    major, minor = divmod(connection.pg_version, 10_000)  # type: ignore[attr-defined]  # PostgreSQL's wrapper
    info = Redis.from_url(settings.REDIS_URL).info("server")
    return {
        "PostgreSQL": f"{major}.{minor}",
        "Valkey": str(info.get("valkey_version", info["redis_version"])),
        "Postfix": report.printed_version("postconf", "mail_version"),
        "nginx": report.printed_version("/usr/sbin/nginx", "-v"),
    }


if __name__ == "__main__":
    main()
