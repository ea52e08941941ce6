"""Consumers that are down, fail, hang, flap or are killed by one event: nothing is lost and nobody else waits."""

import os
import threading
import urllib.request

import pytest
from harness import ConsumerService, World, load, wait_until

#: Seconds an outage lasts; `make soak` takes ten minutes.
OUTAGE = float(os.environ.get("WAYBILL_OUTAGE", "12"))
#: Dead letters an outage may make: of those whose budget was spent at its beginning, one a minute enters the DLQ.
DEAD_LETTERS = int(OUTAGE // 60)
#: Seconds for everything that waited to be delivered.
CATCH_UP = 60 + OUTAGE / 2
QUICK = {
    "timeout": 2,
    "in-memory-retry": {"attempts": 1, "initial": 0.02, "max": 0.05},
    "retry-backoff": {"initial": 0.2, "max": 1},
}
DELIVERED = {"package_delivered": ["PackageDelivered"]}
BOTH = {"package_delivered": ["PackageDelivered", "AuditPackageDelivered"]}


def check_that_all_arrived(world: World, base: str, service: ConsumerService, ids: list[str]) -> None:
    wait_until(lambda: world.settled(base), CATCH_UP, f"{base}: all settled")
    dead = {event for event, _ in world.dead_letters(base)}
    assert set(service.accepted()) | dead == set(ids)
    assert len(dead) <= DEAD_LETTERS


@pytest.mark.timeout(180 + 3 * OUTAGE)
def test_a_consumer_that_is_down_fills_no_dlq_and_gets_everything_once_it_is_back(world: World) -> None:
    service = world.consumer("down", DELIVERED, **QUICK, **{"max-retry-attempts": 2})
    world.apply()
    worker = world.worker("down")
    with load(world, "package_delivered", 50) as ids:
        wait_until(lambda: len(service.accepted()) > 20, 40, "under way")
        service.stop()
        threading.Event().wait(OUTAGE)  # the outage itself, not a wait for something
        for path in ("livez", "readyz"):  # a consumer that is down is no fault of its worker
            with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/{path}", timeout=10) as answer:
                assert answer.status == 200
        before = len(service.accepted())
        service.start()
        wait_until(lambda: len(service.accepted()) > before, 15, "called again soon after it is back")
    check_that_all_arrived(world, "down", service, ids)


@pytest.mark.timeout(180 + 3 * OUTAGE)
def test_a_consumer_that_fails_at_everything_fills_no_dlq_and_gets_everything_once_it_is_mended(world: World) -> None:
    service = world.consumer("broken", DELIVERED, **QUICK, **{"max-retry-attempts": 2})
    world.apply()
    world.worker("broken")
    with load(world, "package_delivered", 50) as ids:
        wait_until(lambda: len(service.accepted()) > 20, 40, "under way")
        service.tell(default="UNKNOWN")
        threading.Event().wait(OUTAGE)  # the outage itself, not a wait for something
        service.tell(default="OK")
    check_that_all_arrived(world, "broken", service, ids)
    calls = len(service.calls())
    assert calls < len(ids) + 100 + OUTAGE, "an outage is probed, not hammered"


@pytest.mark.timeout(180 + 3 * OUTAGE)
def test_consumers_that_fail_every_other_second_or_under_load_fill_no_dlq_and_get_everything(world: World) -> None:
    flapping = world.consumer("flapping", DELIVERED, **QUICK)
    loaded = world.consumer("loaded", DELIVERED, **QUICK)
    world.apply()
    world.worker("flapping")
    world.worker("loaded")
    with load(world, "package_delivered", 50) as ids:
        wait_until(lambda: min(len(flapping.accepted()), len(loaded.accepted())) > 20, 40, "under way")
        loaded.tell(capacity=[4, 0.2])  # less than half of what comes
        for second in range(int(OUTAGE) * 2 // 3):
            flapping.tell(default="OK" if second % 2 else "UNKNOWN")
            threading.Event().wait(1)  # the outage itself, not a wait for something
        flapping.tell(default="OK")
        loaded.tell(capacity=None)
    check_that_all_arrived(world, "flapping", flapping, ids)
    check_that_all_arrived(world, "loaded", loaded, ids)


def test_an_event_that_kills_its_consumer_ends_as_a_dead_letter_and_the_others_flow(world: World) -> None:
    breaker = {"breaker": {"probe-interval": 0.5}}
    # Others may be in flight when the consumer dies: one attempt must not be all they have.
    service = world.consumer("mortal", DELIVERED, **QUICK, **breaker, **{"max-retry-attempts": 3})
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


def test_a_consumer_that_hangs_or_is_slow_delays_no_other(world: World) -> None:
    hanging = world.consumer("hanging", DELIVERED, **QUICK)
    slow = world.consumer("slow", DELIVERED, **QUICK | {"timeout": 8})
    healthy = world.consumer("healthy", DELIVERED, **QUICK)
    world.apply()
    hanging.tell(default="hang")
    slow.tell(delay=[5, 5])
    for base in ("hanging", "slow", "healthy"):
        world.worker(base)
    ids = world.produce("package_delivered", 300)
    wait_until(lambda: world.settled("healthy"), 40, "the healthy one has no lag any more")
    assert healthy.accepted() == dict.fromkeys(ids, 1)
    assert set(hanging.accepted()) == set()
    assert not world.settled("slow")
    hanging.tell(default="OK")
    slow.tell(delay=None)
    for base, service in (("hanging", hanging), ("slow", slow)):
        wait_until(lambda base=base: world.settled(base), 60, f"{base} catches up")
        assert set(service.accepted()) == set(ids)


def test_what_waits_for_one_endpoint_does_not_stop_the_others_and_is_delivered_once_unspent(world: World) -> None:
    service = world.consumer("half", {**BOTH, "package_created": ["PackageCreated"]}, **QUICK)
    world.apply()
    service.tell(methods={"AuditPackageDelivered": "UNKNOWN", "PackageCreated": "UNKNOWN"})
    others = world.produce("package_created", 3000)  # more than a worker works on at a time
    worker = world.worker("half")
    wait_until(lambda: len(service.calls()) >= 20, 40, "the breaker of the other topic's endpoint opens")
    ids = world.produce("package_delivered", 4500)  # more than a worker takes in without committing
    wait_until(lambda: len(service.accepted("PackageDelivered")) == len(ids), 60, "the endpoint that works has all")
    assert set(service.accepted()) == set(ids)
    assert worker.alive
    service.tell(methods={})
    wait_until(lambda: world.settled("half"), 60, "all settled")
    for method, expected in (("PackageDelivered", ids), ("AuditPackageDelivered", ids), ("PackageCreated", others)):
        assert service.accepted(method) == dict.fromkeys(expected, 1)
    assert world.dead_letters("half") == []
    spent = [call for call in service.calls() if call[0] == "OK" and call[3] != "1"]
    assert len(spent) <= 2 * 20, "none but those whose failures opened the breakers"


def test_a_worker_told_to_stop_hands_over_what_waits_for_one_endpoint_and_repeats_nothing(world: World) -> None:
    service = world.consumer("half", BOTH, **QUICK)
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


def test_a_worker_told_to_stop_repeats_nothing_behind_a_delivery_that_waits_for_its_next_attempt(world: World) -> None:
    patient = {"in-memory-retry": {"attempts": 2, "initial": 30, "max": 30}}
    service = world.consumer("patient", DELIVERED, **QUICK | patient)
    world.apply()
    ids = world.produce("package_delivered", 60)
    service.tell(events={failed: ["UNKNOWN"] for failed in ids[:5]})
    worker = world.worker("patient")
    wait_until(lambda: set(service.accepted()) >= set(ids[5:]), 40, "all others have arrived")
    assert worker.terminate() == 0
    world.worker("patient")
    wait_until(lambda: world.settled("patient"), 60, "all settled")
    assert service.accepted() == dict.fromkeys(ids, 1)
