"""Events through real workers to real services, with everything killed that can be killed."""

import signal
from dataclasses import replace

import pytest
from harness import Process, World, load, wait_until

from pipelines import handover
from pipelines.handover import HandOver

#: Retries that fit into a test.
QUICK = {
    "timeout": 2,
    "in-memory-retry": {"attempts": 1, "initial": 0.02, "max": 0.05},
    "retry-backoff": {"initial": 0.2, "max": 1},
    "breaker": {"probe-interval": 1},
}
DELIVERED = {"package_delivered": ["PackageDelivered"]}
BOTH = {"package_delivered": ["PackageDelivered", "AuditPackageDelivered"]}
ENDPOINT = "logistics.v1.EventsAPI/PackageDelivered"


def test_every_event_reaches_every_endpoint_once_and_the_stock_faust_worker_does_it_alone(world: World) -> None:
    service = world.consumer("calm", BOTH, **QUICK)
    world.apply()
    ids = world.produce("package_delivered", 200)
    world.worker("calm")
    wait_until(lambda: world.settled("calm"), 40, "all settled")
    for method in BOTH["package_delivered"]:
        assert service.accepted(method) == dict.fromkeys(ids, 1)
    assert {call[3] for call in service.calls()} == {"1"}, "the first attempt is number 1"


def test_a_worker_killed_between_delivery_and_commit_loses_nothing(world: World) -> None:
    service = world.consumer("calm", DELIVERED, **QUICK)
    world.apply()
    ids = world.produce("package_delivered", 2000)
    worker = world.worker("calm")
    wait_until(lambda: len(service.accepted()) > 200, 30, "under way")
    worker.kill()
    group = f"waybill-{world.name('calm')}"
    committed = 2000 - world.lag(group, world.topic("package_delivered"))
    world.worker("calm")
    wait_until(lambda: world.settled("calm"), 60, "all settled")
    assert set(service.accepted()) == set(ids)
    # Who died while its call was under way is process 0.
    before = sum(call[0] == "OK" and call[6] in {str(worker.popen.pid), "0"} for call in service.calls())
    assert sum(service.accepted().values()) - 2000 <= before - committed, "nothing is repeated that was committed"
    assert world.dead_letters("calm") == []


@pytest.mark.timeout(240)
def test_workers_that_join_and_leave_one_after_another_or_together_repeat_nothing(world: World) -> None:
    # A deadline that no call comes near: an answer that is late on a busy machine is a duplicate, too.
    service = world.consumer("calm", DELIVERED, **QUICK | {"timeout": 10})
    world.apply()
    service.tell(delay=[0.0, 0.2])

    def at_work(worker: Process) -> bool:
        return any(call[6] == str(worker.popen.pid) for call in service.calls())

    def join() -> Process:
        worker = world.worker("calm")
        wait_until(lambda: at_work(worker), 60, "it has partitions and calls")
        return worker

    def rebalances(worker: Process) -> int:
        return worker.log.read_text().count("partitions were given up")

    with load(world, "package_delivered", 200) as ids:
        first, second = join(), join()
        before = rebalances(first)
        third = world.worker("calm")
        wait_until(lambda: rebalances(first) > before, 60, "a rebalance")
        leaving = [first, second]
        for worker in leaving:  # into the rebalance, and both at once
            worker.popen.send_signal(signal.SIGTERM)
        wait_until(lambda: at_work(third), 60, "the third has taken over")
        assert [worker.popen.wait(60) for worker in leaving] == [0, 0]
        last = join()
        assert third.terminate() == 0
        wait_until(lambda: len(service.accepted()) >= len(ids) - 200, 60, "the last one keeps up")
        assert last.alive
    wait_until(lambda: world.settled("calm"), 60, "all settled")
    assert service.accepted() == dict.fromkeys(ids, 1)
    assert {call[0] for call in service.calls()} == {"OK"}


def test_a_worker_killed_while_retrying_loses_nothing_and_keeps_the_budget(world: World) -> None:
    service = world.consumer("moody", BOTH, **QUICK, **{"max-retry-attempts": 4})
    world.apply()
    ids = [world.put("package_delivered") for _ in range(60)]
    hopeless, slow = ids[::15], ids[1::15] + ids[2::15] + ids[3::15]
    script = {i: ["UNKNOWN"] * 40 for i in hopeless} | {i: ["UNKNOWN"] * 3 for i in slow}
    service.tell(events=script)
    world.producer.flush()
    worker = world.worker("moody")
    wait_until(lambda: any(c[1] in hopeless and c[3] == "4" for c in service.calls()), 40, "second retry")
    worker.kill()
    world.worker("moody")
    spent = {(i, m) for i in hopeless for m in BOTH["package_delivered"]}
    wait_until(lambda: spent <= {(c[1], c[2]) for c in service.calls() if c[3] == "6"}, 40, "budgets are spent")
    ids += world.produce("package_delivered", 20)  # the DLQ takes them only while their endpoint succeeds
    wait_until(lambda: world.settled("moody"), 60, "all settled")
    dead = world.dead_letters("moody")
    assert {i for i, _ in dead} == set(hopeless)
    for method in BOTH["package_delivered"]:
        assert set(service.accepted(method)) == set(ids) - set(hopeless)
    assert {d.attempts for _, d in dead} == {2 + 4}, "one attempt, one in memory, four from the retry topic"
    calls = [sum(c[1] == i and c[2] == "PackageDelivered" for c in service.calls()) for i in hopeless]
    assert max(calls) <= 6 + 2, "a crash repeats at most what it interrupted"


def test_a_worker_killed_between_hand_over_and_commit_loses_nothing(world: World) -> None:
    service = world.consumer("strict", DELIVERED, **QUICK)
    world.apply()
    service.tell(default="INVALID_ARGUMENT")
    ids = world.produce("package_delivered", 600)
    worker = world.worker("strict")
    wait_until(lambda: len(service.calls()) > 60, 30, "under way")
    worker.kill()
    world.worker("strict")
    wait_until(lambda: world.settled("strict"), 60, "all settled")
    dead = world.dead_letters("strict")
    assert {i for i, _ in dead} == set(ids)
    assert {(d.endpoint, d.status, d.attempts) for _, d in dead} == {(ENDPOINT, "INVALID_ARGUMENT", 1)}


def test_only_the_endpoint_that_failed_gets_an_event_again(world: World) -> None:
    service = world.consumer("half", BOTH, **QUICK)
    world.apply()
    ids = [world.put("package_delivered") for _ in range(40)]
    service.tell(methods={"AuditPackageDelivered": "UNKNOWN"})
    world.producer.flush()
    world.worker("half")
    wait_until(lambda: len(service.accepted("PackageDelivered")) == 40, 30, "the other endpoint has all")
    service.tell(methods={})
    wait_until(lambda: world.settled("half"), 60, "all settled")
    assert service.accepted("PackageDelivered") == dict.fromkeys(ids, 1)
    assert service.accepted("AuditPackageDelivered") == dict.fromkeys(ids, 1)


@pytest.mark.timeout(240)
def test_a_broker_killed_under_load_loses_nothing(world: World) -> None:
    service = world.consumer("calm", DELIVERED, **QUICK)
    world.apply()
    world.worker("calm")
    ids = world.produce("package_delivered", 1500)
    wait_until(lambda: len(service.accepted()) > 100, 30, "under way")
    world.stack.kill("kafka")
    world.stack.wait_ready()
    ids += world.produce("package_delivered", 500)
    wait_until(lambda: world.settled("calm"), 90, "all settled")
    assert set(service.accepted()) == set(ids)
    assert world.dead_letters("calm") == []


def test_an_empty_payload_no_headers_and_no_protobuf_are_all_delivered(world: World) -> None:
    service = world.consumer("calm", DELIVERED, **QUICK)
    world.apply()
    empty = world.put("package_delivered", value=b"")
    garbage = world.put("package_delivered", value=b"\xff\xff\xff")
    world.put("package_delivered", headers=[])
    world.producer.flush()
    world.worker("calm")
    wait_until(lambda: world.settled("calm"), 40, "all settled")
    accepted = service.accepted()
    assert accepted[empty] == accepted[garbage] == 1
    assert any(i.startswith(world.topic("package_delivered") + "/") for i in accepted), "known by where it lies"
    assert len(accepted) == 3


def test_what_nobody_can_take_is_a_dead_letter_that_says_why(world: World) -> None:
    service = world.consumer("calm", DELIVERED, **QUICK)
    world.apply()
    null = world.put("package_delivered", value=None)
    other = world.put("package_delivered", headers=[("ce_id", b"other"), ("ce_type", b"logistics.v1.Else")])
    world.producer.flush()
    world.worker("calm")
    wait_until(lambda: world.settled("calm"), 40, "all settled")
    causes = {i: d.error for i, d in world.dead_letters("calm")}
    assert causes[null] == "no payload: the record's value is null"
    assert causes["other"].startswith("unexpected type: 'logistics.v1.Else'")
    assert other
    assert service.calls() == []


def test_retry_records_that_lead_nowhere_are_dead_letters_that_say_why(world: World) -> None:
    service = world.consumer("calm", DELIVERED, **QUICK)
    world.apply()
    topic = world.topic("calm_retry")
    given = HandOver(world.name("calm"), ENDPOINT, "package_delivered", 0, 0)
    gone = replace(given, endpoint="logistics.v1.EventsAPI/Nowhere")
    for event, delivery, value in (("fine", given, b""), ("null", given, None), ("gone", gone, b"")):
        world.producer.produce(topic, value, headers=handover.headers((), event, delivery))
    world.producer.produce(topic, b"", headers=[("ce_id", b"bare")])
    assert world.producer.flush(60) == 0
    world.worker("calm")
    wait_until(lambda: world.settled("calm"), 40, "all settled")
    assert service.accepted() == {"fine": 1}
    assert {event: (d.status, d.error) for event, d in world.dead_letters("calm")} == {
        "null": ("MALFORMED", "malformed retry record: its value is null"),
        "gone": ("GONE", f"endpoint {gone.endpoint} is not in the configuration of {world.name('calm')} any more"),
        "bare": ("MALFORMED", "malformed retry record: no header waybill_consumer"),
    }


@pytest.mark.parametrize("answer", ["UNKNOWN", "INVALID_ARGUMENT"])
def test_a_payload_around_the_limit_reaches_the_retry_topic_and_the_dlq(world: World, answer: str) -> None:
    service = world.consumer("strict", DELIVERED, **QUICK, **{"max-retry-attempts": 1})
    world.apply()
    service.tell(default=answer)
    limit = 4 << 20
    below, at, above = (world.put("package_delivered", value=b"x" * (limit + d)) for d in (-1, 0, 1))
    small = [world.put("package_delivered") for _ in range(5)]
    service.tell(events=dict.fromkeys(small, ["OK"] * 9))  # the DLQ takes spent ones only while others succeed
    world.producer.flush()
    world.worker("strict")
    wait_until(lambda: world.settled("strict"), 60, "all settled")
    dead = dict(world.dead_letters("strict"))
    assert {i: d.status for i, d in dead.items()} == {below: answer, at: answer, above: "REFUSED"}
    sizes = {len(r.value) for r in world.records(world.topic("strict_dlq"))}
    assert sizes == {limit - 1, limit, limit + 1}, "whole, not cut"
