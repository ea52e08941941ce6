"""The engine on a real broker: what is committed, and what a worker's end repeats."""

import os
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS = 4


class Engine:
    """Workers of ``engine_app`` on a topic of their own."""

    def __init__(self, bootstrap: str, admin: AdminClient, folder: Path, seconds: float) -> None:
        self.bootstrap, self.topic = bootstrap, f"engine-{uuid.uuid4().hex[:8]}"
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self.log = (folder / "log").open("ab")
        self.seconds = seconds
        self.workers: list[subprocess.Popen] = []
        for future in admin.create_topics([NewTopic(self.topic, PARTITIONS, 1)]).values():
            future.result(20)

    def worker(self) -> subprocess.Popen:
        env = {
            "BOOTSTRAP": self.bootstrap,
            "TOPIC": self.topic,
            "GROUP": self.topic,
            "LEDGER": str(self.ledger),
            "SECONDS": str(self.seconds),
        }
        worker = subprocess.Popen(
            [sys.executable, "-m", "faust", "-A", "engine_app:app", "worker", "-l", "info"],
            cwd=Path(__file__).parent,
            stdout=self.log,
            stderr=self.log,
            env={**os.environ, **env},
        )
        self.workers.append(worker)
        return worker

    def produce(self, count: int, **transactional: str) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5})
        for i in range(count):
            producer.produce(self.topic, b"x" * 100, partition=i % PARTITIONS)
        assert producer.flush(30) == 0

    def seen(self) -> Counter:
        return Counter(self.ledger.read_text().split("\n")[:-1])

    def lag(self) -> int:
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.topic})
        try:
            committed = consumer.committed([TopicPartition(self.topic, p) for p in range(PARTITIONS)], timeout=20)
            return sum(consumer.get_watermark_offsets(c, timeout=10)[1] - max(c.offset, 0) for c in committed)
        finally:
            consumer.close()

    def wait(self, condition: object, timeout: float = 40) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"not in {timeout} s: seen {len(self.seen())}, lag {self.lag()}"
            threading.Event().wait(0.1)

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.log.close()


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
