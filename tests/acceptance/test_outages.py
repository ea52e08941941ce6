"""Consumers that are down, fail at everything or are killed by one event: nothing is lost and nobody else waits."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from harness import World, wait_until

#: Seconds an outage lasts; `make soak` takes two minutes.
OUTAGE = float(os.environ.get("WAYBILL_OUTAGE", "12"))
QUICK = {
    "timeout": 2,
    "in-memory-retry": {"attempts": 1, "initial": 0.02, "max": 0.05},
    "retry-backoff": {"initial": 0.2, "max": 1},
}
DELIVERED = {"package_delivered": ["PackageDelivered"]}


@contextmanager
def load(world: World, base: str, per_second: int) -> Iterator[list[str]]:
    """A steady stream of events while the block runs."""
    ids: list[str] = []
    ended = threading.Event()

    def produce() -> None:
        while not ended.wait(1 / per_second):
            ids.append(world.put(base))

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield ids
    finally:
        ended.set()
        thread.join()
        assert world.producer.flush(60) == 0


def test_a_consumer_that_is_down_fills_no_dlq_and_gets_everything_once_it_is_back(world: World) -> None:
    service = world.consumer("down", DELIVERED, **QUICK, **{"max-retry-attempts": 2})
    world.apply()
    world.worker("down")
    with load(world, "package_delivered", 50) as ids:
        wait_until(lambda: len(service.accepted()) > 20, 40, "under way")
        service.stop()
        threading.Event().wait(OUTAGE)  # the outage itself, not a wait for something
        before = len(service.accepted())
        service.start()
        wait_until(lambda: len(service.accepted()) > before, 15, "called again soon after it is back")
    wait_until(lambda: world.settled("down"), 60, "all settled")
    assert set(service.accepted()) == set(ids)
    assert world.dead_letters("down") == []


def test_a_consumer_that_fails_at_everything_fills_no_dlq_and_gets_everything_once_it_is_mended(world: World) -> None:
    service = world.consumer("broken", DELIVERED, **QUICK, **{"max-retry-attempts": 2})
    world.apply()
    world.worker("broken")
    with load(world, "package_delivered", 50) as ids:
        wait_until(lambda: len(service.accepted()) > 20, 40, "under way")
        service.tell(default="UNKNOWN")
        threading.Event().wait(OUTAGE)  # the outage itself, not a wait for something
        service.tell(default="OK")
    wait_until(lambda: world.settled("broken"), 90, "all settled")
    assert set(service.accepted()) == set(ids)
    assert world.dead_letters("broken") == []
    calls = len(service.calls())
    assert calls < len(ids) + 100, "an outage is probed, not hammered"


def test_an_event_that_kills_its_consumer_ends_as_a_dead_letter_and_the_others_flow(world: World) -> None:
    breaker = {"breaker": {"probe-interval": 0.5}}
    service = world.consumer("mortal", DELIVERED, **QUICK, **breaker, **{"max-retry-attempts": 1})
    world.apply()
    ids = [world.put("package_delivered") for _ in range(60)]
    killer = ids[20]
    service.tell(events={killer: "crash"})
    world.producer.flush()
    world.worker("mortal")
    wait_until(lambda: set(service.accepted()) >= set(ids) - {killer}, 60, "the others are delivered")
    wait_until(lambda: world.settled("mortal"), 60, "all settled")
    dead = world.dead_letters("mortal")
    assert [i for i, _ in dead] == [killer]
    assert dead[0][1].status == "UNAVAILABLE"


def test_a_consumer_that_hangs_delays_no_other(world: World) -> None:
    hanging = world.consumer("hanging", DELIVERED, **QUICK)
    healthy = world.consumer("healthy", DELIVERED, **QUICK)
    world.apply()
    hanging.tell(default="hang")
    world.worker("hanging")
    world.worker("healthy")
    ids = world.produce("package_delivered", 300)
    wait_until(lambda: world.settled("healthy"), 40, "the healthy one is through")
    assert healthy.accepted() == dict.fromkeys(ids, 1)
    assert set(hanging.accepted()) == set()
    hanging.tell(default="OK")
    wait_until(lambda: world.settled("hanging"), 60, "the other one catches up")
    assert set(hanging.accepted()) == set(ids)


def test_a_worker_told_to_stop_hands_over_what_waits_for_one_endpoint_and_repeats_nothing(world: World) -> None:
    both = {"package_delivered": ["PackageDelivered", "AuditPackageDelivered"]}
    service = world.consumer("half", both, **QUICK)
    world.apply()
    service.tell(methods={"AuditPackageDelivered": "UNKNOWN"})
    ids = world.produce("package_delivered", 150)
    worker = world.worker("half")
    wait_until(lambda: len(service.accepted("PackageDelivered")) == 150, 40, "one endpoint has all")
    assert worker.terminate() == 0
    waited = {i for i, delivery in world.retries("half") if delivery.attempts == 0}
    assert len(waited) > 50, "most were never called: the endpoint's breaker was open"
    service.tell(methods={})
    world.worker("half")
    wait_until(lambda: world.settled("half"), 60, "all settled")
    assert service.accepted("PackageDelivered") == dict.fromkeys(ids, 1)
    assert service.accepted("AuditPackageDelivered") == dict.fromkeys(ids, 1)
    assert world.dead_letters("half") == []
