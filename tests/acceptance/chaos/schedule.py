"""Which fault hits what, and when: a pure function of the seed and the length of a run."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Kind(StrEnum):
    """Every kind of fault.  What each does is in ``faults``."""

    WORKER_KILL = "kill -9 of a worker"
    WORKER_TERM = "SIGTERM of a worker, which starts again"
    WORKER_JOIN = "a worker joins"
    WORKER_LEAVE = "a worker leaves"
    WORKER_FREEZE = "SIGSTOP of a worker for longer than its session"
    SINK_KILL = "kill -9 of a sink"
    SINK_FREEZE = "SIGSTOP of a sink for longer than its session"
    LAKE_FULL = "the disk under the lake is full"
    REPLAY_KILL = "kill -9 of the replay worker"
    KAFKA_KILL = "kill -9 of Kafka"
    LEADER_KILL = "kill -9 of the broker that leads a partition"
    CONNECT_KILL = "kill -9 of Connect"
    POSTGRES_KILL = "kill -9 of Postgres"
    CONSUMER_DOWN = "a consumer is down"
    CONSUMER_HANG = "a consumer never answers"
    CONSUMER_SLOW = "a consumer is slow"
    CONSUMER_RESET = "a consumer resets its connections"
    CONSUMER_STATUSES = "a consumer answers with random statuses"
    REPLAY = "dead letters are replayed"


@dataclass(frozen=True)
class Fault:
    """``at``: seconds from the start; it lasts ``seconds``; ``choice`` picks one of several processes."""

    at: float
    kind: Kind
    target: str
    seconds: float
    choice: int


@dataclass(frozen=True)
class Cast:
    """Consumers by what may be done to them: to their workers (all), and to their service (those of bad temper)."""

    consumers: tuple[str, ...]
    tempered: tuple[str, ...]
    brokers: int = 1


#: Seconds in which every kind occurs at least once; a run has whole rounds, and at least one.
ROUND = 180.0
#: Longest and shortest seconds of faults that last, where it matters.
SECONDS = {
    Kind.WORKER_FREEZE: (9.0, 12.0),
    Kind.SINK_FREEZE: (9.0, 12.0),
    Kind.LAKE_FULL: (4.0, 8.0),
    Kind.CONSUMER_DOWN: (3.0, 12.0),
    Kind.CONSUMER_HANG: (4.0, 10.0),
    Kind.CONSUMER_SLOW: (4.0, 10.0),
    Kind.CONSUMER_RESET: (4.0, 8.0),
    Kind.CONSUMER_STATUSES: (4.0, 10.0),
}
#: Parts of the stack: one may be away at a time, so each is given the seconds that it takes to come back.
_STACK = {Kind.KAFKA_KILL: 15.0, Kind.LEADER_KILL: 15.0, Kind.CONNECT_KILL: 12.0, Kind.POSTGRES_KILL: 8.0}
_OF_WORKERS = {kind for kind in Kind if kind.name.startswith("WORKER_")}
_OF_SERVICES = {kind for kind in Kind if kind.name.startswith("CONSUMER_")} | {Kind.REPLAY}


def kinds(brokers: int) -> tuple[Kind, ...]:
    """One broker leads all partitions; of three, only one at a time is killed."""
    absent = Kind.KAFKA_KILL if brokers > 1 else Kind.LEADER_KILL
    return tuple(kind for kind in Kind if kind is not absent)


def schedule(seed: int, seconds: float, cast: Cast) -> tuple[Fault, ...]:
    """The faults of a run in the order of their start; all have ended after ``seconds``."""
    chance = Random(seed)
    rounds = max(1, round(seconds / ROUND))
    faults: list[Fault] = []
    for number in range(rounds):
        faults += _round(chance, number * seconds / rounds, seconds / rounds, cast)
    return tuple(sorted(faults, key=lambda fault: fault.at))


def _round(chance: Random, start: float, length: float, cast: Cast) -> Iterator[Fault]:
    """Every kind once, in any order and at distances that vary; parts of the stack fall one after the other."""
    wanted = list(kinds(cast.brokers))
    chance.shuffle(wanted)
    for group in ([kind for kind in wanted if kind in _STACK], [kind for kind in wanted if kind not in _STACK]):
        slot = length / len(group)
        for index, kind in enumerate(group):
            seconds = _STACK.get(kind) or chance.uniform(*SECONDS.get(kind, (0.0, 0.0)))
            spare = max(0.0, slot - seconds) if kind in _STACK else slot
            at = min(index * slot + chance.uniform(0, spare), length - seconds)
            yield Fault(
                round(start + at, 2), kind, _target(chance, kind, cast), round(seconds, 2), chance.randrange(1000)
            )


def _target(chance: Random, kind: Kind, cast: Cast) -> str:
    if kind in _OF_WORKERS:
        return chance.choice(cast.consumers)
    return chance.choice(cast.tempered) if kind in _OF_SERVICES else ""
