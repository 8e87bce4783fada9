"""The bench's own sums, and that it can start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import newsletter
from tests.bench.arithmetic import Figures, interleaved, quantile, times
from tests.bench.report import Table, put_between_marks
from tests.bench.timing import watch
from tests.sinks import SmtpSink

ROOT = Path(__file__).parent.parent


class TestArithmetic:
    def test_takes_the_middle_and_shows_the_ends(self) -> None:
        figures = Figures((300.0, 100.0, 130.0))
        assert (figures.median, figures.span) == (130.0, (100.0, 300.0))

    def test_lets_the_contestants_take_turns(self) -> None:
        calls: list[str] = []

        def called(name: str) -> int:
            calls.append(name)
            return len(calls)

        answers = interleaved({"a": lambda: called("a"), "b": lambda: called("b")}, 3)
        assert calls == ["a", "b", "a", "b", "a", "b"]
        assert answers == {"a": [1, 3, 5], "b": [2, 4, 6]}

    @pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
    def test_takes_the_quantile_by_nearest_rank(self, share: float, value: int) -> None:
        assert quantile(range(100, 0, -1), share) == value

    def test_has_no_quantile_of_nothing(self) -> None:
        with pytest.raises(ValueError, match="no quantile of nothing"):
            quantile([], 0.5)

    @pytest.mark.parametrize(
        ("ours", "theirs", "said"),
        [
            (620, 1000, "0.62 x"),
            (999, 1000, "1.0 x"),
            (730, 100, "7.3 x"),
            (1234, 100, "12 x"),
            (123_400, 100, "1,230 x"),
        ],
    )
    def test_says_how_many_times(self, ours: float, theirs: float, said: str) -> None:
        assert times(ours, theirs) == said


class TestReport:
    def test_writes_a_table_that_markdown_reads(self) -> None:
        table = Table("Speed", ("what", "a second"), [("ours", "10"), ("theirs", "1")], ["A note."])
        assert table.markdown() == (
            "### Speed\n\n| what | a second |\n| --- | ---: |\n| ours | 10 |\n| theirs | 1 |\n\nA note.\n"
        )

    def test_replaces_only_what_stands_between_the_marks(self) -> None:
        page = "before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n"
        assert put_between_marks(page, "new\n") == (
            "before\n<!-- figures -->\n\nnew\n\n<!-- end of figures -->\nafter\n"
        )

    def test_refuses_a_page_without_marks(self) -> None:
        with pytest.raises(ValueError, match="no <!-- figures -->"):
            put_between_marks("a page", "new")

    def test_finds_its_marks_in_the_page_of_this_project(self) -> None:
        put_between_marks((ROOT / "docs/benchmarks.md").read_text(), "new")


class TestCounting:
    def test_reads_the_last_whole_counter_of_smtp_sink(self, tmp_path: Path) -> None:
        counters = tmp_path / "counters"
        counters.write_bytes(b"")
        sink = SmtpSink(1, counters)
        assert sink.accepted == 0
        counters.write_bytes(b"sess=0 quit=0 mesg=99\r" * 100 + b"sess=1 quit=0 mesg=100\rsess=1 qu")
        assert sink.accepted == 100

    def test_counts_only_what_came_after_the_begin(self, tmp_path: Path) -> None:
        counters = tmp_path / "counters"
        counters.write_bytes(b"sess=0 quit=0 mesg=7\r")

        def begin() -> None:
            counters.write_bytes(b"sess=0 quit=0 mesg=10\r")

        timing = watch(SmtpSink(1, counters), begin, lambda accepted: accepted >= 3)
        assert timing.accepted == 3
        assert timing.first == timing.last <= timing.ended
        assert timing.flowing == 0


class TestNewsletter:
    def test_is_ten_kilobytes_with_ten_slots(self) -> None:
        html = newsletter.html()
        assert (len(html.encode()), html.count("{{")) == (10_240, 10)

    def test_has_a_value_for_each_slot(self) -> None:
        assert set(newsletter.fields(1)) == set(newsletter.FIELDS)


class TestStarting:
    def test_prints_a_table_of_a_tiny_run(self) -> None:
        own = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench", "--tiny", "--only", "compose", "smtp"],
            cwd=ROOT,
            env=own,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "| this system: compiled once, slots filled | " in done.stdout
        assert "| this system, 4 sender processes | 400 | " in done.stdout or (
            "smtp-sink is not installed" in done.stdout
        )
