"""The crash test, for anybody to run.

    make chaos [SEEDS="1 2 3"] [BROKER=redis|amqp] [PROVIDER=smtp|sendgrid|both] [POLICY=hold|resend]

A campaign is sent through a whole installation on 127.0.0.1 while its parts are killed. In the end each
address is looked up in what the provider had on disk before it answered. Exits 1 when the promise was
broken; the same seed strikes the same faults at the same shares of the audience.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from mailer_project.local import place
from tests.chaos.run import Result, Run
from tests.chaos.system import Setup

HEAD = (
    "| seed | broker | provider | policy | faults | seconds | accepted | withdrawn in time | lost | twice "
    "| in doubt | bound | unconfirmed, of these arrived | readings of the status | wrong |\n"
    + "| --- " * 15
    + "|\n"
)


def main() -> int:
    options = _options()
    setup = Setup(options.broker, options.provider, options.policy, options.rate)
    result = _run(setup, options)
    _say(row(result))
    for problem in result.problems:
        _say(f"BROKEN: {problem}")
    if options.table:
        _append(options.table, row(result))
    return 1 if result.problems else 0


def _run(setup: Setup, options: argparse.Namespace) -> Result:
    directory = Path(tempfile.mkdtemp(prefix="mailer-chaos-"))
    directory.chmod(0o755)  # the servers' account must get through when this runs as root
    run = Run(options.seed, setup, options.recipients, options.faults, directory, _say)
    keep = True
    try:
        result = run()
        keep = options.keep or bool(result.problems)
    except KeyboardInterrupt:
        keep = False
        raise SystemExit("Interrupted; everything it had started has ended.") from None
    finally:
        if keep:
            _say(f"The logs are in {directory}")
        else:
            place.remove(directory)
    return result


def row(result: Result) -> str:
    """One line of the table in docs/delivery.md."""
    verdict, setup = result.verdict, result.setup
    cells = [
        result.seed,
        setup.broker,
        setup.provider,
        setup.policy,
        result.faults,
        f"{result.seconds:.0f}",
        f"{result.accepted:,}",
        len(verdict.withdrawn),
        len(verdict.lost),
        len(verdict.twice),
        len(verdict.doubted),
        f"{verdict.bound:,}",
        f"{len(verdict.unconfirmed)}, {result.arrived_in_doubt}",
        result.readings,
        len(result.wrong_readings),
    ]
    return f"| {' | '.join(map(str, cells))} |"


def _append(file: Path, line: str) -> None:
    text = file.read_text() if file.exists() else HEAD
    file.write_text(f"{text}{line}\n")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description="Kill everything; count the mails.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--broker", choices=["redis", "amqp"], default="redis")
    parser.add_argument("--provider", choices=["smtp", "sendgrid", "both"], default="smtp")
    parser.add_argument("--policy", choices=["hold", "resend"], default="hold")
    parser.add_argument("--recipients", type=_positive, default=20_000)
    parser.add_argument("--faults", type=_positive, default=24)
    parser.add_argument(
        "--rate", type=_positive, default=600, help="mails a second, for faults to find it at work"
    )
    parser.add_argument("--table", type=Path, help="file to which the line of each run is added")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a run that went well, too")
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
