"""What a worker holds is bounded, whatever its consumer does; what it cannot hold waits in Kafka, and others pass."""

import os
import random
import threading
import time
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path
from statistics import median

from harness import ConsumerService, Process, World, wait_until

from connectors.kafka import reader

#: Events of a backlog and the bytes that a worker may hold; `make soak` takes 50,000, and what a worker is given.
BACKLOG, MEMORY = int(os.environ.get("WAYBILL_BACKLOG", "2000")), os.environ.get("WAYBILL_MEMORY", "16MiB")
SIZE = 10_000
READ_AGAIN = "waybill_retries_read_again_total"
#: Bytes of resident memory that a worker may need.
LIMIT = 256_000_000
#: Seconds and events a second of a steady load with 2 % that always fail.
LOAD, RATE = float(os.environ.get("WAYBILL_LOAD", "9")), 100
PATIENCE = 60 + BACKLOG / 50
DELIVERED = {"package_delivered": ["PackageDelivered"]}


def resident(worker: Process) -> int:
    """The most bytes there ever were."""
    status = Path(f"/proc/{worker.popen.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def metric(worker: Process, name: str) -> float:
    """The sum over all labels."""
    environment = Path(f"/proc/{worker.popen.pid}/environ").read_text().split("\0")
    port = next(entry.split("=")[1] for entry in environment if entry.startswith("WAYBILL_METRICS_PORT="))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name}{{"))


def backlog(world: World) -> set[str]:
    rng = random.Random(1)
    ids = {world.put("package_delivered", value=rng.randbytes(SIZE)) for _ in range(BACKLOG)}
    assert world.producer.flush(60) == 0
    return ids


def all_arrive(world: World, service: ConsumerService, worker: Process, ids: set[str]) -> None:
    wait_until(lambda: world.settled("broken"), PATIENCE, "all settled")
    assert set(service.accepted()) == ids
    assert world.dead_letters("broken") == []
    assert resident(worker) < LIMIT


def test_a_backlog_that_all_waits_for_retries_is_let_go_of_and_read_again_when_it_is_due(world: World) -> None:
    keys = {
        "in-memory-retry": {"attempts": 0},
        "retry-backoff": {"initial": 8, "max": 8},
        "breaker": {"window": 200, "distinct-events": 200},  # one in ten succeeds: it never opens
        "max-retry-attempts": 1000,
    }
    service = world.consumer("broken", DELIVERED, **keys)
    world.settings["worker"] = {"memory-bytes": MEMORY}
    world.apply()
    service.tell(random=[0.9, ["UNKNOWN"]])
    ids = backlog(world)
    worker = world.worker("broken")

    def handed_over() -> bool:
        assert worker.alive
        ends = reader.ends(world.access, world.topic("broken_retry"))
        return sum(high - low for low, high in ends.values()) > 0.85 * BACKLOG

    wait_until(handed_over, PATIENCE, "nearly all are in the retry topic")
    service.tell(random=[0, []])
    all_arrive(world, service, worker, ids)
    assert metric(worker, READ_AGAIN) > BACKLOG / 4


def test_a_backlog_behind_open_breakers_stays_in_kafka(world: World) -> None:
    service = world.consumer("broken", DELIVERED, breaker={"probe-interval": 1})
    world.settings["worker"] = {"memory-bytes": MEMORY}
    world.apply()
    service.tell(default="UNKNOWN")
    ids = backlog(world)
    worker = world.worker("broken")

    def fails(status: str) -> Callable[[], bool]:
        return lambda: len([call for call in service.calls() if call[0] == status]) >= 10

    wait_until(fails("UNKNOWN"), 40, "the endpoint's breaker")
    service.tell(default="UNAVAILABLE")
    wait_until(fails("UNAVAILABLE"), 40, "the consumer's breaker")
    service.tell(default="OK")
    all_arrive(world, service, worker, ids)


def test_events_that_always_fail_hold_up_no_others(world: World) -> None:
    keys = {"retry-backoff": {"initial": 0.2, "max": 1}, "max-retry-attempts": 4}
    service = world.consumer("sick", DELIVERED, **keys)
    world.apply()
    service.tell(always=[2, "INTERNAL"])
    world.worker("sick")
    world.produce("package_delivered")
    wait_until(service.calls, 40, "under way")
    produced: dict[str, float] = {}
    end = time.time() + LOAD
    while (now := time.time()) < end:
        produced[world.put("package_delivered")] = now
        threading.Event().wait(max(0, now + 1 / RATE - time.time()))
    assert world.producer.flush(60) == 0
    # The DLQ takes as many as others succeed: those of the end need some who do.
    sick = {event for event in world.saved[world.topic("package_delivered")] if zlib.crc32(event.encode()) % 100 < 2}
    service.tell(always=[0, ""], events={event: ["INTERNAL"] * 50 for event in sick})
    dead: set[str] = set()

    def all_are_dead() -> bool:
        dead.update(event for event, _ in world.dead_letters("sick"))
        return len(dead) >= len(sick) or not world.produce("package_delivered", 5)

    wait_until(all_are_dead, 60 + LOAD / 4, "all dead letters")
    wait_until(lambda: world.settled("sick"), 60, "all settled")
    calls = service.calls()
    accepted = set(service.accepted())
    assert dead == sick
    assert accepted == world.saved[world.topic("package_delivered")] - sick
    assert len(dead) > len(produced) / 200

    delays = [float(call[5]) - produced[call[1]] for call in calls if call[0] == "OK" and call[1] in produced]
    third = len(delays) // 3
    early, late = median(delays[:third]), median(delays[-third:])
    assert late < early + 4
