"""Workers of ``engine_app`` on a topic of their own, for the tests of the engine."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from connectors.access import Access
from connectors.kafka.offsets import Commit, Groups

PARTITIONS = 4


def wait_until(condition: object, timeout: float, what: str) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"not in {timeout} s: {what}"
        threading.Event().wait(0.1)


class Engine:
    def __init__(
        self, bootstrap: str, admin: AdminClient, folder: Path, seconds: float = 0.0, partitions: int = PARTITIONS
    ) -> None:
        self.bootstrap, self.admin, self.seconds, self.partitions = bootstrap, admin, seconds, partitions
        self.topic = self.group = f"engine-{uuid.uuid4().hex[:8]}"
        self.ledger, self.log_file = folder / f"{self.topic}.ledger", folder / f"{self.topic}.log"
        self.ledger.touch()
        self.log = self.log_file.open("ab")
        self.workers: list[subprocess.Popen] = []
        self.create(self.topic, partitions)

    def grow(self, partitions: int) -> None:
        self.admin.create_partitions([NewPartitions(self.topic, partitions)])[self.topic].result(20)
        self.partitions = partitions

    def create(self, topic: str, partitions: int) -> None:
        self.admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(20)

    def worker(self, **told: str) -> subprocess.Popen:
        env = {
            "BOOTSTRAP": self.bootstrap,
            "TOPIC": self.topic,
            "GROUP": self.group,
            "LEDGER": str(self.ledger),
            "SECONDS": str(self.seconds),
        }
        worker = subprocess.Popen(
            [sys.executable, "-m", "faust", "-A", "engine_app:app", "worker", "-l", "info"],
            cwd=Path(__file__).parent,
            stdout=self.log,
            stderr=self.log,
            env={**os.environ, **env, **told},
        )
        self.workers.append(worker)
        return worker

    def stop(self, worker: subprocess.Popen) -> int:
        """Its exit code."""
        worker.terminate()
        return worker.wait(30)

    def produce(self, count: int, *, value: bytes = b"x" * 100, partition: int | None = None) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5})
        for i in range(count):
            producer.produce(self.topic, value, partition=i % self.partitions if partition is None else partition)
        assert producer.flush(30) == 0

    def go(self) -> None:
        """Let records that wait go on."""
        self.ledger.with_suffix(".ledger.go").touch()

    def seen(self) -> Counter:
        return Counter(self.ledger.read_text().split("\n")[:-1])

    def said(self) -> str:
        return self.log_file.read_text()

    def lag(self) -> int:
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.group})
        try:
            committed = consumer.committed([TopicPartition(self.topic, p) for p in range(self.partitions)], timeout=20)
            return sum(consumer.get_watermark_offsets(c, timeout=10)[1] - max(c.offset, 0) for c in committed)
        finally:
            consumer.close()

    def remove(self, partition: int, before: int) -> None:
        """As retention does: the log of ``partition`` starts at ``before``."""
        at = TopicPartition(self.topic, partition, before)
        assert self.admin.delete_records([at])[at].result(20).low_watermark == before

    def commit(self, offsets: dict[int, int]) -> None:
        commits = {partition: Commit(offset) for partition, offset in offsets.items()}
        Groups(Access(self.bootstrap)).commit(self.group, self.topic, commits)

    def wait(self, condition: object, timeout: float = 40) -> None:
        wait_until(condition, timeout, f"seen {len(self.seen())}, see {self.log_file}")

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.log.close()
        self.admin.delete_topics([self.topic])[self.topic].result(20)


def health(port: int, path: str) -> tuple[int, dict]:
    """Status and body of /livez or /readyz; 0 before anybody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except OSError:
        return 0, {}


def metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return answer.read().decode()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
