"""Subscriptions that change under load: where a consumer begins, dedicated topics, endpoints that go and come back."""

import json
from collections import Counter

import pytest
from harness import ConsumerService, Process, World, wait_until

QUICK = {
    "timeout": 20,  # a call that a busy machine delays is no second delivery
    "in-memory-retry": {"attempts": 1, "initial": 0.02, "max": 0.05},
    "retry-backoff": {"initial": 0.2, "max": 1},
    "breaker": {"probe-interval": 1},
}
DELIVERED = {"package_delivered": ["PackageDelivered"]}
BOTH = {"package_delivered": ["PackageDelivered", "AuditPackageDelivered"]}
TOPIC = "package_delivered"


def write(world: World, base: str, **keys: object) -> None:
    """Change the one subscription of a consumer."""
    [subscription] = world.consumers[world.name(base)]["distribution"]
    subscription.update(keys)
    (world.folder / "consumers.yaml").write_text(json.dumps({"consumers": world.consumers}))


def dedicated_worker(world: World, base: str, topic: str) -> Process:
    app = f"{world.name(base).replace('-', '_')}__{world.topic(topic)}"
    return world.faust(f"pipelines.apps:{app}", f"{base}-{topic}-worker.log")


def under_way(service: ConsumerService, more: int) -> None:
    reached = len(service.accepted()) + more
    wait_until(lambda: len(service.accepted()) >= reached, 40, "under way")


@pytest.mark.timeout(240)
def test_a_topic_is_dedicated_and_back_under_a_backlog_and_each_event_is_delivered_once(world: World) -> None:
    service = world.consumer("busy", DELIVERED, **QUICK, **{"max-in-flight": 4})
    world.apply()
    name, topic = world.name("busy"), world.topic(TOPIC)
    ids = world.produce(TOPIC, 900)
    service.tell(delay=[0.02, 0.02], events={ids[0]: ["UNKNOWN"] * 3})
    worker = world.worker("busy")
    under_way(service, 100)

    assert worker.terminate() == 0
    write(world, "busy", dedicated=True)
    early = dedicated_worker(world, "busy", TOPIC)
    assert early.popen.wait(30) == 1, "its group would begin anew"
    assert f"waybill consumer dedicate {name} {topic}`" in early.log.read_text()
    assert "Error" not in early.log.read_text()

    world.waybill("consumer", "dedicate", name, topic)
    main, dedicated = world.worker("busy"), dedicated_worker(world, "busy", TOPIC)
    under_way(service, 100)
    told = json.loads(world.waybill("consumer", "ls", "--json", check=False).stdout)  # others' may differ
    shown = [row for row in told if row["consumer"] == name]
    assert [row["dedicated"] for row in shown] == [None, topic]
    assert len({row["config"] for row in shown}) == 1
    failing = world.produce(TOPIC, 5)
    service.tell(events=dict.fromkeys(failing, ["UNKNOWN"] * 3))
    ids += failing + world.produce(TOPIC, 100)
    wait_until(lambda: main.alive and set(failing) <= set(service.accepted()), 40, "retried by the consumer's worker")
    assert (main.terminate(), dedicated.terminate()) == (0, 0)

    write(world, "busy", dedicated=False)
    world.waybill("consumer", "dedicate", name, topic, "--undo")
    world.worker("busy")
    service.tell(delay=[0, 0])
    ids += world.produce(TOPIC, 100)
    wait_until(lambda: world.settled("busy"), 60, "all settled")
    assert service.accepted() == Counter(ids)


@pytest.mark.timeout(240)
def test_retries_of_a_removed_endpoint_are_dead_letters_that_can_be_replayed_when_it_is_back(world: World) -> None:
    service = world.consumer("half", BOTH, **{**QUICK, "retry-backoff": {"initial": 60}, "start-from": "latest"})
    world.apply()
    world.produce(TOPIC, 5)  # before it begins
    service.tell(methods={"AuditPackageDelivered": "UNIMPLEMENTED"})  # goes to the retry topic without a second attempt
    worker = world.worker("half")
    wait_until(lambda: "a group begins" in worker.log.read_text(), 40, "its beginning is written down")
    ids = world.produce(TOPIC, 20)
    wait_until(lambda: len(world.retries("half")) >= 5, 40, "retries wait")
    assert worker.terminate() == 0

    write(world, "half", services=["PackageDelivered"])
    worker = world.worker("half")
    wait_until(lambda: world.settled("half"), 40, "nothing waits for the removed endpoint")
    gone = world.dead_letters("half")
    assert {i for i, _ in gone} == set(ids)
    assert {(d.endpoint.rpartition("/")[2], d.status) for _, d in gone} == {("AuditPackageDelivered", "GONE")}
    assert worker.terminate() == 0

    write(world, "half", services=BOTH[TOPIC])
    service.tell(methods={})
    world.worker("half")
    world.faust("pipelines.apps:replay", "replay.log")
    world.waybill("dlq", "replay", world.name("half"), "--error", "GONE", "--yes")
    wait_until(lambda: world.settled("half"), 40, "all settled")
    assert service.accepted("AuditPackageDelivered") == service.accepted("PackageDelivered") == Counter(ids)
