"""The engine on a real broker: what is committed, and what a worker's end repeats."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from engine import PARTITIONS, Engine


@pytest.fixture
def engine(stack: object, admin: AdminClient, tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(stack.kafka, admin, tmp_path, 0.002)
    yield engine
    engine.close()


def test_a_worker_killed_at_work_loses_nothing_and_repeats_at_most_what_was_not_committed(engine: Engine) -> None:
    engine.produce(3000)
    first = engine.worker()
    engine.wait(lambda: len(engine.seen()) > 600)
    first.kill()
    first.wait()
    engine.worker()
    engine.wait(lambda: len(engine.seen()) == 3000)
    engine.wait(lambda: engine.lag() == 0)
    repeated = sum(engine.seen().values()) - 3000
    assert repeated <= 400 + 100, "the bound of uncommitted records and one poll"


def test_a_worker_told_to_stop_and_one_that_joins_repeat_nothing(engine: Engine) -> None:
    engine.produce(4000)
    first = engine.worker()
    engine.wait(lambda: len(engine.seen()) > 400)
    engine.worker()
    engine.wait(lambda: len(engine.seen()) > 1600)
    first.terminate()
    assert first.wait(30) == 0
    engine.wait(lambda: len(engine.seen()) == 4000)
    engine.wait(lambda: engine.lag() == 0)
    assert sum(engine.seen().values()) == 4000


def test_a_worker_whose_group_rebalances_while_it_stops_closes_its_connections_where_they_are_read(
    engine: Engine,
) -> None:
    engine.produce(400)
    worker = engine.worker(REBALANCE="while it stops")
    engine.wait(lambda: len(engine.seen()) > 100)
    assert engine.stop(worker) == 0
    assert "partitions were given up" in engine.said()
    assert "closed from another thread" not in engine.said()


def test_an_app_that_has_its_partitions_assigned_anew_loses_and_repeats_nothing(engine: Engine) -> None:
    worker = engine.worker()
    for times in range(1, 4):
        engine.produce(300)
        engine.produce(1, value=b"anew")
        engine.produce(300)
        engine.wait(lambda times=times: engine.said().count("partitions were assigned") == 1 + times)
    engine.wait(lambda: len(engine.seen()) == 3 * 601)
    engine.wait(lambda: engine.lag() == 0)
    assert sum(engine.seen().values()) == 3 * 601
    assert worker.poll() is None


def test_aborted_records_are_not_delivered_and_markers_leave_no_lag(engine: Engine) -> None:
    producer = Producer({"bootstrap.servers": engine.bootstrap, "transactional.id": engine.topic, "linger.ms": 5})
    producer.init_transactions(20)
    for round_ in range(6):
        producer.begin_transaction()
        for i in range(100):
            producer.produce(engine.topic, b"abort" if round_ % 2 else b"commit", partition=i % PARTITIONS)
        producer.flush(20)
        producer.abort_transaction(20) if round_ % 2 else producer.commit_transaction(20)
    engine.worker()
    engine.wait(lambda: len(engine.seen()) == 300)
    engine.wait(lambda: engine.lag() == 0)
    assert sum(engine.seen().values()) == 300
