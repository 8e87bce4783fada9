"""The tables in Markdown, and what machine and which versions they were measured with."""

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
OURS = ("Django", "celery", "psycopg", "redis", "urllib3", "gunicorn")


@dataclass(slots=True)
class Table:
    """One question, its answers, and what a reader has to know of them."""

    title: str
    head: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Return heading, table and notes."""
        lines = [f"### {self.title}", ""]
        if self.rows:
            lines += [_line(self.head), _line(["---", *["---:"] * (len(self.head) - 1)])]
            lines += [*map(_line, self.rows), ""]
        return "\n".join([*lines, *(f"{note}\n" for note in self.notes)])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def document(tables: Iterable[Table], circumstances: Table) -> str:
    """Return everything that was measured as one piece of Markdown."""
    return "\n".join(table.markdown() for table in [circumstances, *tables])


def put_between_marks(page: str, figures: str) -> str:
    """Return the page with what stands between its marks replaced. Raises ValueError without the marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no {BEGIN} … {END} to write between")
    return f"{before}{BEGIN}\n\n{figures.strip()}\n\n{END}{after}"


def circumstances(*, how: str, servers: dict[str, str], peers: dict[str, str]) -> Table:
    """Return the machine, the versions, and how busy the machine was before.

    `how` names the sizes; `servers` and `peers` map a program's or a package's name to its version.
    """
    rows = [
        ("when", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {how}"),
        ("commit", _commit()),
        ("machine", f"{os.cpu_count()} x {_processor()}, {_memory_gib():.0f} GiB, {platform.system()}"),
        ("load before", f"{os.getloadavg()[0]:.1f} (1 min), {os.getloadavg()[1]:.1f} (5 min)"),
        ("Python", platform.python_version()),
        ("this system", ", ".join(f"{name} {version(name)}" for name in OURS)),
        ("servers", ", ".join(f"{name} {number}" for name, number in servers.items())),
        ("peers", ", ".join(f"{name} {number}" for name, number in peers.items()) or "none installed"),
    ]
    return Table("Measured with", ("what", ""), list(rows))


def _commit() -> str:
    """Return which commit is measured, and whether something was changed since; `?` outside of a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return "?"
    return done.stdout.strip()


def _processor() -> str:
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:  # not Linux
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _memory_gib() -> float:
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


def printed_version(*command: str) -> str:
    """Return the first thing like a version in what a program prints, or `?`."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except OSError:
        return "?"
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else "?"
