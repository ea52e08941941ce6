"""Topics that grow, go and come back under a running worker, on a real broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from engine import PARTITIONS, Engine

from connectors.access import Access
from connectors.kafka import reader


@pytest.fixture
def engine(stack: object, admin: AdminClient, tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(stack.kafka, admin, tmp_path)
    yield engine
    engine.close()


def test_partitions_added_to_a_topic_are_read_from_their_first_record(engine: Engine) -> None:
    engine.produce(40)
    engine.worker()
    engine.wait(lambda: len(engine.seen()) == 40)
    engine.grow(PARTITIONS + 1)
    engine.produce(30, partition=PARTITIONS)  # before any worker knows of it
    engine.wait(lambda: {f"{PARTITIONS} {offset}" for offset in range(30)} <= engine.seen().keys())
    engine.wait(lambda: engine.lag() == 0)


def test_a_hand_over_waits_for_a_topic_that_is_gone_with_an_alarm_and_goes_on_when_it_is_back(engine: Engine) -> None:
    gone = f"{engine.topic}-dlq"

    def arrived() -> int:
        return len(list(reader.scan(Access(engine.bootstrap), gone, reader.ends(Access(engine.bootstrap), gone))))

    engine.create(gone, 1)
    worker = engine.worker(HAND_OVER_TO=gone)
    engine.produce(10)
    engine.wait(lambda: engine.lag() == 0)
    engine.admin.delete_topics([gone])[gone].result(20)
    engine.produce(100)
    alarm = "records wait for their hand-over: the topic is missing"
    engine.wait(lambda: alarm in engine.said())
    assert f'"topic": "{gone}"' in engine.said()
    assert "`waybill topics apply`" in engine.said()
    assert (engine.lag(), worker.poll()) == (100, None)
    engine.create(gone, 1)
    engine.wait(lambda: engine.lag() == 0)
    assert arrived() >= 100
    assert engine.said().count(alarm) < 3, "a line a minute"

    engine.admin.delete_topics([gone])[gone].result(20)
    engine.produce(10)
    engine.wait(lambda: engine.said().count("Got error produce response") > 1)
    assert engine.stop(worker) == 0, "it ends in good order all the same"
