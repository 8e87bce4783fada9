"""The command of `make fuzz`, with a program in Schemathesis's place that notes what it is asked to do."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
# It asks for a page with the token and for two that are limited, and notes what it was answered.
NOTING = """#!{python}
import json, sys, urllib.error, urllib.request
url, token = sys.argv[2], sys.argv[sys.argv.index("--header") + 1].partition(": ")
def status(path, body=None):
    asked = urllib.request.Request(url.replace("schema/", "v1/" + path), body, {{token[0]: token[2]}})
    asked.add_header("Content-Type", "application/json")
    try:
        return urllib.request.urlopen(asked).status
    except urllib.error.HTTPError as error:
        return error.code
seen = {{status("auth/register/", b"{{}}") for _ in range(25)}}
with open({notes!r}, "a") as notes:
    print(json.dumps([status("auth/me/"), sorted(seen), "--max-examples" in sys.argv]), file=notes)
sys.exit(1)
"""


class TestFuzz:
    def test_asks_as_operator_and_as_user_meets_no_limit_and_says_who_met_a_fault(
        self, tmp_path: Path
    ) -> None:
        program, notes = tmp_path / "st", tmp_path / "notes"
        program.write_text(NOTING.format(python=sys.executable, notes=str(notes)))
        program.chmod(0o755)
        named = os.path.relpath(program, ROOT)  # as `make fuzz` names it
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzzing", "--schemathesis", named],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert notes.read_text().splitlines() == ["[200, [400], true]"] * 4  # two phases for each
        assert done.returncode == 1
        assert "failed as boss@example.com, person@example.com" in done.stderr
