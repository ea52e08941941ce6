"""Which faults a lake meets, one after another: a function of the seed.  Pure."""

from collections.abc import Iterator
from enum import StrEnum
from random import Random


class Fault(StrEnum):
    SINK_KILL = "kill -9 of a sink"
    COMPACTOR_KILL = "kill -9 of a compactor"
    SINK_STOP = "SIGTERM of a sink"
    SINK_FREEZE = "SIGSTOP of a sink for longer than its session"
    OFFSETS = "group offsets are moved by hand"
    ROGUE = "a sink of another group writes the same lake"


#: What may hit at every moment comes more often.
SHARES = {
    Fault.SINK_KILL: 3,
    Fault.COMPACTOR_KILL: 4,
    Fault.SINK_STOP: 1,
    Fault.SINK_FREEZE: 1,
    Fault.OFFSETS: 1,
    Fault.ROGUE: 1,
}


def faults(seed: int, lake: str) -> Iterator[tuple[float, Fault]]:
    """Without end: seconds to wait, and then what.  Each kind comes in every round."""
    random = Random(f"{seed}/{lake}")
    every = [kind for kind, times in SHARES.items() for _ in range(times)]
    while True:
        random.shuffle(every)
        for kind in every:
            yield random.uniform(0.2, 2.0), kind
