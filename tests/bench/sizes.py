"""How much is sent in each form of the bench."""

from dataclasses import dataclass

ROUNDS = 3
PROCESSES = 4  # that send, of ours and of every peer that can have several; also smtp-source's sessions


@dataclass(frozen=True, slots=True)
class Sizes:
    """Recipients in each round of each row; `seconds` is how long the status is asked for."""

    name: str
    rounds: int
    composed: int
    smtp: int
    sendgrid: int
    slow: int  # what peers get that send one mail after the other
    batched: int  # and those that send many at a time: several batches for each process
    start: tuple[int, ...]
    growth: tuple[int, ...]
    once: tuple[int, ...]  # further sizes of the row of growth, for one round only
    imported: int  # rows of a file
    imported_slowly: int  # by peers that take row by row
    imported_once: int  # a large file, for one round only; none when 0
    status: int
    seconds: float
    calls: int  # of one that sends a single mail
    schedules: int  # in the table that the tick sweeps
    due: int  # and of these, due at once
    figures: bool  # whether tests.figures' programs run too


FULL = Sizes(
    name="full",
    rounds=ROUNDS,
    composed=2_000,
    smtp=50_000,
    sendgrid=50_000,
    slow=1_000,
    batched=4_000,
    start=(10_000, 100_000, 200_000, 1_000_000),
    growth=(10_000, 100_000),
    once=(1_000_000,),
    imported=100_000,
    imported_slowly=10_000,
    imported_once=1_000_000,
    status=1_000_000,
    seconds=20.0,
    calls=200,
    schedules=1_000_000,
    due=10_000,
    figures=True,
)
QUICK = Sizes(
    name="quick",
    rounds=ROUNDS,
    composed=500,
    smtp=5_000,
    sendgrid=10_000,
    slow=300,
    batched=1_600,
    start=(10_000, 50_000),
    growth=(5_000, 20_000),
    once=(),
    imported=100_000,
    imported_slowly=2_000,
    imported_once=0,
    status=50_000,
    seconds=5.0,
    calls=100,
    schedules=100_000,
    due=5_000,
    figures=False,
)
TINY = Sizes(
    name="tiny",
    rounds=1,
    composed=50,
    smtp=400,
    sendgrid=400,
    slow=50,
    batched=200,
    start=(1_000,),
    growth=(1_000,),
    once=(),
    imported=1_000,
    imported_slowly=200,
    imported_once=0,
    status=1_000,
    seconds=1.0,
    calls=5,
    schedules=2_000,
    due=200,
    figures=False,
)
BY_NAME = {sizes.name: sizes for sizes in (FULL, QUICK, TINY)}
