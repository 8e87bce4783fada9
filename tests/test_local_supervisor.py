"""The supervisor: restarts what dies, stops in order, hurries when asked twice."""

import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from mailer_project.local.supervisor import (
    FIRST_DELAY,
    BackOff,
    Output,
    Program,
    StopRequested,
    Supervisor,
    ending,
)

GREETER = "import time; print('hello', flush=True); time.sleep(60)"
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('hello', flush=True)
time.sleep(60)
"""


def python(script: str, name: str = "child", **more: float) -> Program:
    return Program(name, [sys.executable, "-c", script], **more)  # type: ignore[arg-type]  # patience is a float


class Stage:
    """A supervisor, and what it has shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.supervisor = Supervisor(dict(os.environ), self.lines.append, coloured=False)

    def shows(self, text: str, times: int = 1) -> bool:
        return sum(text in line for line in self.lines) >= times

    def wait_for(self, text: str, times: int = 1) -> None:
        assert self.supervisor.wait_for(lambda: self.shows(text, times), 120), self.lines


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.supervisor.stop_requests = 2
    stage.supervisor.stop(list(stage.supervisor.children))


class TestSupervisor:
    def test_prefixes_what_a_program_says_with_its_name(self, stage: Stage) -> None:
        stage.supervisor.start(python(GREETER, "greeter"))
        stage.wait_for("hello")
        assert stage.lines == ["greeter      | hello"]

    def test_starts_a_killed_program_again_and_says_so(self, stage: Stage) -> None:
        child = stage.supervisor.start(python(GREETER))
        stage.wait_for("hello")
        assert child.process is not None
        child.process.kill()
        stage.wait_for("hello", times=2)
        assert stage.shows("child ended (SIGKILL); again in 0.5 s")

    def test_gives_the_exit_status_of_a_program_that_ends_by_itself(self, stage: Stage) -> None:
        program = Program("once", [sys.executable, "-c", "print('out'); raise SystemExit(3)"], once=True)
        assert stage.supervisor.run(program) == 3
        stage.supervisor.stop(["once"])
        assert stage.lines == ["once         | out"]

    def test_stops_what_it_is_told_and_nothing_else(self, stage: Stage) -> None:
        stage.supervisor.start(python(GREETER, "first"))
        second = stage.supervisor.start(python(GREETER, "second"))
        stage.wait_for("hello", times=2)
        stage.supervisor.stop(["first"])
        assert list(stage.supervisor.children) == ["second"]
        assert second.alive

    def test_kills_what_ignores_sigterm_after_its_patience(self, stage: Stage) -> None:
        child = stage.supervisor.start(python(STUBBORN, patience=0.5))
        stage.wait_for("hello")
        stage.supervisor.stop(["child"])
        assert not child.alive
        assert stage.shows("child has not stopped; killing it")

    def test_a_second_request_hurries(self, stage: Stage) -> None:
        child = stage.supervisor.start(python(STUBBORN, patience=3600))
        stage.wait_for("hello")
        stage.supervisor.stop_requests = 2
        stage.supervisor.stop(["child"])
        assert child.process is not None
        assert child.process.returncode == -signal.SIGKILL  # not its own end after a minute

    def test_a_signal_ends_every_wait(self, stage: Stage) -> None:
        before = {
            number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            stage.supervisor.listen_for_signals()
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
            with pytest.raises(StopRequested):
                stage.supervisor.wait_for(lambda: False, 120)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def test_stops_when_nobody_reads_its_lines_any_more(self) -> None:
        def write(line: str) -> None:
            raise BrokenPipeError

        supervisor = Supervisor({}, write, coloured=False)
        supervisor.say("anybody there?")
        with pytest.raises(StopRequested):
            supervisor.wait_for(lambda: False, 10)


class TestBackOff:
    def test_doubles_up_to_half_a_minute(self) -> None:
        back_off = BackOff()
        delays = [back_off.failed(now=100.0, ran_for=1.0) for _ in range(9)]
        assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]

    def test_begins_again_after_a_calm_run(self) -> None:
        back_off = BackOff()
        for _ in range(5):
            back_off.failed(now=100.0, ran_for=1.0)
        assert back_off.failed(now=200.0, ran_for=31.0) == FIRST_DELAY

    def test_is_due_when_the_delay_is_over(self) -> None:
        back_off = BackOff()
        back_off.failed(now=100.0, ran_for=1.0)
        assert [back_off.due(100.4), back_off.due(100.5)] == [False, True]


class TestOutput:
    def test_cuts_lines_wherever_the_pieces_end(self, stage: Stage) -> None:
        output = Output(stage.supervisor.start(python(GREETER)))
        assert output.lines(b"one\ntw") == ["one"]
        assert output.lines(b"o\n\nthree") == ["two", ""]
        assert output.lines(b"") == ["three"]


@pytest.mark.parametrize(
    ("status", "words"), [(0, "exit status 0"), (2, "exit status 2"), (-9, "SIGKILL"), (-15, "SIGTERM")]
)
def test_says_how_a_process_ended(status: int, words: str) -> None:
    assert ending(status) == words
