"""The faults, and a plan of them: which one strikes when, decided by a seed before anything runs."""

import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import psycopg
import redis

from tests.chaos.system import LEASE_SECONDS, NODES, PROCESSES, System

FIRST, LAST = 0.03, 0.93  # shares of the audience that have been written to when the faults strike
LONGEST_OUTAGE = 2.0  # seconds that a killed service stays away
WITHDRAWN = 8  # addresses at a time
PATIENCE = 60.0  # seconds that PostgreSQL is waited for

Later = Callable[[], None]
"""What a fault leaves to be done after some seconds."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    `strike` does it and returns what to do how many seconds later, if anything. `in_doubt` is how many
    processes it may catch between "about to leave" and "recorded".
    """

    name: str
    strike: Callable[[System, Random], tuple[float, Later] | None]
    in_doubt: int
    broker: str = ""  # only with this one


@dataclass(frozen=True, slots=True)
class Stroke:
    """A fault of the plan: it strikes when `share` of the audience has been written to."""

    share: float
    fault: Fault
    seed: int


def plan(seed: int, count: int, *, broker: str) -> list[Stroke]:
    """Draw `count` faults and their moments; each kind comes once before any comes twice."""
    random = Random(seed)  # noqa: S311  # repeatable on purpose
    drawn: list[Fault] = []
    while len(drawn) < count:
        kinds = [fault for fault in FAULTS if fault.broker in ("", broker)]
        random.shuffle(kinds)
        drawn += kinds[: count - len(drawn)]
    shares = sorted(random.uniform(FIRST, LAST) for _ in drawn)
    return [Stroke(share, fault, random.getrandbits(32)) for share, fault in zip(shares, drawn, strict=True)]


# --- Our own processes --------------------------------------------------------------------------


def _kill_sender(system: System, random: Random) -> None:
    system.send_signal(random.choice(NODES), signal.SIGKILL)


def _kill_container(system: System, random: Random) -> None:
    system.send_signal(random.choice(NODES), signal.SIGKILL, to="all")


def _kill_child(system: System, random: Random) -> None:
    system.send_signal(random.choice(NODES), signal.SIGKILL, to="child", index=random.randrange(PROCESSES))


def _terminate_sender(system: System, random: Random) -> None:
    system.send_signal(random.choice(NODES), signal.SIGTERM)


def _sleep(system: System, random: Random) -> tuple[float, Later]:
    name = random.choice(NODES)
    program = system.programs[name]
    asleep = program.family
    for process in asleep:
        process.suspend()

    def wake() -> None:
        for process in asleep:
            if process.is_running():
                process.resume()

    return LEASE_SECONDS + random.uniform(1, 5), wake


def _kill(name: str) -> Callable[[System, Random], None]:
    def strike(system: System, random: Random) -> None:
        system.send_signal(name, signal.SIGKILL)

    return strike


# --- Services -----------------------------------------------------------------------------------


def _outage(name: str, *, lose_data: bool = False) -> Callable[[System, Random], None]:
    def strike(system: System, random: Random) -> None:
        system.kill_service(name, down=random.uniform(0, LONGEST_OUTAGE), lose_data=lose_data)

    return strike


def _kill_backend(system: System, random: Random) -> None:
    """Kill one of PostgreSQL's processes, as the kernel does when memory runs out; all start anew."""
    backends = system.backends()
    if backends:
        random.choice(backends).kill()


def _flush(system: System, random: Random) -> None:
    with redis.Redis.from_url(system.valkey.url) as client:
        client.flushall()


def _cut_redis(system: System, random: Random) -> None:
    with redis.Redis.from_url(system.valkey.url) as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def _cut_rabbitmq(system: System, random: Random) -> None:
    assert system.rabbitmq is not None
    system.rabbitmq.cut_connections()


# --- The provider -------------------------------------------------------------------------------


def _answers(name: str, most: int) -> Callable[[System, Random], None]:
    def strike(system: System, random: Random) -> None:
        with socket.create_connection(system.control, timeout=5) as connection:
            connection.sendall(f"{name} {random.randint(1, most)}\n".encode())
            connection.recv(16)

    return strike


# --- Operators ----------------------------------------------------------------------------------


def _pause(system: System, random: Random) -> tuple[float, Later]:
    system.operator.ask("pause")
    return random.uniform(0.5, 3), lambda: system.operator.ask("resume")


def _suppress(system: System, random: Random) -> None:
    for _, email in _some_open(system, random):
        system.withdrawn[email] = "suppressed"
        system.operator.suppress(email)


def _delete(system: System, random: Random) -> None:
    for recipient_id, email in _some_open(system, random):
        system.withdrawn[email] = "cancelled"
        system.operator.delete_recipient(recipient_id)


def _some_open(system: System, random: Random) -> list[tuple[int, str]]:
    """Draw members of the audience that have no answer yet, half of them from batches in a worker's hands."""
    found = [row for row in _open(system) if row[1] not in system.withdrawn]
    held = [row for row in found if row[2]]
    chosen = random.sample(held, min(WITHDRAWN // 2, len(held)))
    others = [row for row in found if row not in chosen]
    chosen += random.sample(others, min(WITHDRAWN - len(chosen), len(others)))
    return [(recipient_id, email) for recipient_id, email, _ in chosen]


def _open(system: System) -> list[tuple[int, str, bool]]:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with psycopg.connect(system.postgres.url) as connection:
                return connection.execute(
                    """
                    SELECT row.recipient_id, row.email, batch.lease_until IS NOT NULL
                      FROM campaigns_deliverylog AS row
                      JOIN campaigns_batch AS batch ON batch.id = row.batch_id
                     WHERE row.campaign_id = %s AND row.status IN ('pending', 'deferred')
                       AND row.recipient_id IS NOT NULL ORDER BY row.id
                    """,
                    [system.operator.campaign],
                ).fetchall()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "PostgreSQL stays away"
            time.sleep(0.2)  # it is being restarted


FAULTS: Sequence[Fault] = (
    Fault("kill -9 of a sender's main process", _kill_sender, PROCESSES),
    Fault("kill -9 of a sender with its children", _kill_container, PROCESSES),
    Fault("kill -9 of a sender's child", _kill_child, 1),
    Fault("SIGTERM to a sender", _terminate_sender, 0),
    Fault("a sender sleeps past its lease", _sleep, PROCESSES),
    Fault("kill -9 of the scheduler", _kill("scheduler"), 0),
    Fault("kill -9 of Beat", _kill("beat"), 0),
    Fault("kill -9 of PostgreSQL", _outage("postgres"), PROCESSES * len(NODES)),
    Fault("kill -9 of one process of PostgreSQL", _kill_backend, PROCESSES * len(NODES)),
    Fault("kill -9 of Redis", _outage("valkey"), 0),
    Fault("kill -9 of Redis, its data lost", _outage("valkey", lose_data=True), 0),
    Fault("FLUSHALL", _flush, 0),
    Fault("Redis' connections cut", _cut_redis, 0),
    Fault("kill -9 of RabbitMQ", _outage("rabbitmq"), 0, "amqp"),
    Fault("kill -9 of RabbitMQ, its data lost", _outage("rabbitmq", lose_data=True), 0, "amqp"),
    Fault("RabbitMQ's connections cut", _cut_rabbitmq, 0, "amqp"),
    Fault("the provider accepts, then hangs up", _answers("drop-after", 2), 2),
    Fault("the provider accepts, a gateway fails", _answers("gateway", 2), 2),
    Fault("the provider hangs up before it accepts", _answers("drop-before", 3), 0),
    Fault("the provider says 421, or 429", _answers("slow-down", 3), 0),
    Fault("the provider says 451, or 500", _answers("unavailable", 3), 0),
    Fault("kill -9 of the provider", _kill("provider"), PROCESSES * len(NODES)),
    Fault("pause, and resume", _pause, 0),
    Fault("addresses are suppressed", _suppress, 0),
    Fault("recipients are deleted", _delete, 0),
)
