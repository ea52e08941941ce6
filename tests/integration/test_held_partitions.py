"""Partitions whose next record is gone, on a real broker."""

from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from engine import Engine, free_port, health, metrics


@pytest.fixture
def engine(stack: object, admin: AdminClient, tmp_path: Path) -> Engine:
    engine = Engine(stack.kafka, admin, tmp_path)
    yield engine
    engine.close()


def held(port: int, engine: Engine) -> float:
    name = f'waybill_partitions_held{{group="{engine.group}",topic="{engine.topic}"}} '
    return sum(float(line.removeprefix(name)) for line in metrics(port).splitlines() if line.startswith(name))


def test_retention_that_passes_a_worker_holds_that_partition_and_no_other_until_the_group_is_moved_on(
    engine: Engine,
) -> None:
    port = free_port()
    engine.produce(1, value=b"wait", partition=3)
    engine.produce(400)
    worker = engine.worker(METRICS_PORT=str(port))
    engine.wait(lambda: len(engine.seen()) == 400 and engine.lag() == 101)

    # It passes a stopped worker in partition 0, and in 3, of which nothing was ever settled.
    assert engine.stop(worker) == 0
    engine.produce(400)
    engine.remove(0, 150)
    engine.remove(3, 60)
    worker = engine.worker(METRICS_PORT=str(port))
    engine.wait(lambda: len(engine.seen()) == 600)
    engine.wait(lambda: held(port, engine) == 2)
    assert "offsets 100 to 149 are gone" in engine.said()
    assert "offsets 0 to 59 are gone" in engine.said()
    engine.wait(lambda: engine.lag() == 100 + 201)  # that of the held partitions

    # It passes a running worker in partition 1: the first record waits, the next are read until the bound.
    engine.produce(1, value=b"wait", partition=1)
    engine.produce(700, value=b"x" * 10_000, partition=1)
    engine.wait(lambda: len(engine.seen()) > 800)
    engine.remove(1, 800)
    engine.go()
    engine.wait(lambda: held(port, engine) == 3)
    engine.produce(100, partition=2)
    engine.wait(lambda: sum(line.startswith("2 ") for line in engine.seen()) == 300)
    status, body = health(port, "/readyz")
    assert (status, len(body["parts"][engine.group]["held"])) == (200, 3)
    assert worker.poll() is None
    assert engine.said().count("a partition is held") < 10, "a line a minute for each"

    # A person moves the group on.
    assert engine.stop(worker) == 0
    engine.commit({0: 150, 1: 800, 3: 60})
    engine.worker(METRICS_PORT=str(port))
    engine.wait(lambda: engine.lag() == 0)
    for partition, left in ((0, range(150, 200)), (1, range(800, 901)), (3, range(60, 201))):
        assert {f"{partition} {offset}" for offset in left} <= engine.seen().keys()
    assert held(port, engine) == 0
