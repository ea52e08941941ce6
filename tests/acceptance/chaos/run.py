"""One run: start, break things by the schedule, let everything settle, weigh."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import wait_until

from chaos import evidence, faults, history
from chaos.ledger import Verdict, judge
from chaos.rig import CONSUMERS, TOPICS, Rig, build
from chaos.schedule import Fault, schedule
from connectors.local.state import Stack

#: Seconds in which all must be settled when the faults are over.
SETTLING = 120.0


@dataclass(frozen=True)
class Result:
    verdict: Verdict
    saved: int
    replayed: int
    faults: tuple[Fault, ...]
    settled_after: float
    crashes: tuple[str, ...]
    histories: tuple[str, ...]


def run(stack: Stack, folder: Path, seed: int, seconds: float, per_second: float, say: Callable[[str], None]) -> Result:
    """Break things for ``seconds``.  Raises AssertionError if something stalls, or a fault cannot be inflicted."""
    began = time.monotonic()

    def say_when(text: str) -> None:
        say(f"{time.monotonic() - began:6.1f} s  {text}")

    with build(stack, folder, seed, per_second, say_when) as rig:
        planned = schedule(seed, seconds, rig.cast)
        say_when(f"all runs; {len(planned)} faults in {seconds:.0f} s, seed {seed}")
        play(rig, planned, seconds)
        stopped = time.monotonic()
        rig.producer.terminate()
        settle(rig)
        settled_after = time.monotonic() - stopped
        say_when(f"settled after {settled_after:.1f} s")
    found = evidence.gather(rig)
    verdict = judge(found)
    histories = tuple(history.tell(rig, found, suspect) for suspect in verdict.suspects)
    crashes = tuple(entry.what for entry in found.journal if entry.crash)
    return Result(
        verdict, len(found.facts.saved), len(found.facts.replayed), planned, settled_after, crashes, histories
    )


def play(rig: Rig, planned: tuple[Fault, ...], seconds: float) -> None:
    """Inflict each fault at its time, in a thread of its own, and wait for the end of all."""
    start = time.monotonic()
    failed: list[BaseException] = []

    def inflict(fault: Fault) -> None:
        try:
            faults.inflict(rig, fault)
        except BaseException as error:
            failed.append(error)
            raise

    threads = []
    for fault in planned:
        faults.last(max(0.0, start + fault.at - time.monotonic()))
        thread = threading.Thread(target=inflict, args=[fault], name=str(fault.kind))
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()
    faults.last(max(0.0, start + seconds - time.monotonic()))
    if failed:
        raise AssertionError(f"{len(failed)} faults could not be inflicted") from failed[0]


def settle(rig: Rig) -> None:
    """Wait until all that was saved is in Kafka, and all in Kafka is committed by everybody."""
    saved = {event.event_id for event in evidence.evidence.saved(rig.stack.postgres)}

    def carried() -> bool:
        return saved <= {e for topic in TOPICS for e in evidence.in_kafka(rig.stack.kafka, topic).values()}

    deadline = time.monotonic() + SETTLING
    wait_until(carried, deadline - time.monotonic(), "all events are in Kafka")
    for name, distribution in CONSUMERS.items():
        topics = {f"waybill-{name}": tuple(distribution), f"waybill-{name}-retry": (rig.world.topic(f"{name}_retry"),)}
        for group, read in topics.items():
            left = max(1.0, deadline - time.monotonic())
            wait_until(lambda group=group, read=read: rig.world.lag(group, *read) == 0, left, f"{group} has no lag")
    wait_until(
        lambda: rig.world.lag("waybill-lake", *TOPICS) == 0,
        max(1.0, deadline - time.monotonic()),
        "the lake has no lag",
    )
