"""Replays on a real broker, by real ``faust worker`` processes."""

import os
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.access import Access
from connectors.kafka import reader
from connectors.local.state import Stack
from pipelines import dlq, handover, replay_client, replay_state
from pipelines.dlq import Filter
from pipelines.handover import HandOver
from pipelines.plan import Channel, Plan
from pipelines.replay_state import Progress, State
from pipelines.versions import NewerVersion

RETRY_PARTITIONS = 3


class World:
    """Topics, plans and replay workers of one test."""

    def __init__(self, stack: Stack, admin: AdminClient, folder: Path, topic_name: Callable[[str], str]) -> None:
        self.kafka, self.admin, self.folder, self.topic_name = stack.kafka, admin, folder, topic_name
        self.access = Access(stack.kafka)
        self.channel = Channel(topic_name("commands"), topic_name("replay"), partitions=2)
        self.create(self.channel.commands, 2)
        self.create(self.channel.changelog, 2, **{"cleanup.policy": "compact"})
        self.workers: list[subprocess.Popen] = []

    def create(self, topic: str, partitions: int, **settings: str) -> str:
        self.admin.create_topics([NewTopic(topic, partitions, 1, config=settings)])[topic].result(20)
        return topic

    def consumer(self, name: str = "service-a") -> Any:
        return SimpleNamespace(
            name=name,
            dlq_topic=self.create(self.topic_name("dlq"), 2),
            retry_topic=self.create(self.topic_name("retry"), RETRY_PARTITIONS),
        )

    def bury(self, consumer: Any, ids: list[str], endpoint: str = "p.S/A", status: str = "INTERNAL") -> None:
        """Dead letters as the agents write them."""
        producer = Producer({"bootstrap.servers": self.kafka, "linger.ms": 5})
        for index, event in enumerate(ids):
            delivery = HandOver(consumer.name, endpoint, "events", 0, index, 2, 9, status, "it broke", "t1", "t2")
            original = [("ce_id", event.encode()), ("ce_type", b"p.E"), ("tracestate", None)]
            headers = handover.headers(original, event, delivery)
            producer.produce(consumer.dlq_topic, b"value of " + event.encode(), b"key", index % 2, headers=headers)
        assert producer.flush(20) == 0

    def put(self, topic: str, partition: int, value: bytes | None, key: bytes | None = None, headers: Any = ()) -> None:
        producer = Producer({"bootstrap.servers": self.kafka})
        producer.produce(topic, value, key, partition, headers=list(headers))
        assert producer.flush(20) == 0

    def plan(self, consumer: Any, meant: Filter = Filter(), rate: float = 5000.0) -> Plan:  # noqa: B008 - frozen
        plan = replay_client.make_plan(self.access, consumer, meant, rate, datetime.now(UTC))
        replay_client.submit(self.access, plan, self.channel)
        return plan

    def worker(self) -> subprocess.Popen:
        env = {
            "BOOTSTRAP": self.kafka,
            "COMMANDS": self.channel.commands,
            "GROUP": self.channel.group,
            "PARTITIONS": "2",
        }
        with (self.folder / "log").open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "faust", "-A", "replay_worker:app", "worker", "-l", "info"],
                cwd=Path(__file__).parent,
                stdout=log,
                stderr=log,
                env={**os.environ, **env, "DATA": str(self.folder / f"data{len(self.workers)}")},
            )
        self.workers.append(worker)
        return worker

    def progress(self, plan: Plan) -> Progress | None:
        return replay_client.read_state(self.access, self.channel).progress(plan.id)

    def moved(self, plan: Plan) -> int:
        progress = self.progress(plan)
        return progress.moved if progress else 0

    def ended(self, plan: Plan) -> Progress:
        self.wait(lambda: (p := self.progress(plan)) and p.state is State.ENDED, f"the end of {plan.id}")
        return self.progress(plan)

    def retries(self, consumer: Any) -> list[reader.Record]:
        return list(reader.scan(self.access, consumer.retry_topic, reader.ends(self.access, consumer.retry_topic)))

    def still_open(self, consumer: Any) -> list[dlq.DeadLetter]:
        state = replay_client.read_state(self.access, self.channel)
        return [d for d in replay_client.dead_letters(self.access, consumer.dlq_topic) if state.moved_by(d) is None]

    def lag(self) -> int:
        group = Consumer({"bootstrap.servers": self.kafka, "group.id": self.channel.group})
        try:
            ends = reader.ends(self.access, self.channel.commands)
            committed = group.committed([TopicPartition(self.channel.commands, p) for p in ends], timeout=20)
            return sum(ends[c.partition][1] - max(c.offset, 0) for c in committed)
        finally:
            group.close()

    def wait(self, condition: Callable[[], object], what: str, timeout: float = 40) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"not in {timeout} s: {what}\n{(self.folder / 'log').read_text()[-4000:]}"
            threading.Event().wait(0.1)

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()


@pytest.fixture
def idle(stack: Stack, admin: AdminClient, tmp_path: Path, topic_name: Callable[[str], str]) -> Iterator[World]:
    """A world without a worker."""
    world = World(stack, admin, tmp_path, topic_name)
    yield world
    world.close()


@pytest.fixture(scope="module")
def world(stack: Stack, admin: AdminClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world with a worker, for several tests."""
    world = World(stack, admin, tmp_path_factory.mktemp("replay"), lambda prefix: f"{prefix}_{uuid.uuid4().hex[:12]}")
    world.worker()
    yield world
    world.close()


def ids_of(records: list[reader.Record]) -> Counter:
    return Counter(dict(record.headers)["ce_id"].decode() for record in records)


def test_a_replay_gives_the_matching_open_dead_letters_another_try_at_the_endpoint_that_failed(world: World) -> None:
    service = world.consumer()
    world.bury(service, [f"a{i}" for i in range(40)])
    world.bury(service, [f"a{i}" for i in range(40)], endpoint="p.S/B", status="NOT_FOUND")
    world.put(service.dlq_topic, 0, b"no headers at all")
    first = world.plan(service, Filter(error="internal"))
    world.bury(service, ["later"])

    assert (world.ended(first).moved, world.ended(first).skipped) == (40, 0)
    retries = world.retries(service)
    assert ids_of(retries) == Counter(f"a{i}" for i in range(40))
    for record in retries:
        event = dict(record.headers)["ce_id"].decode()
        delivery = handover.parse(record.headers)
        assert record.partition == handover.retry_partition(event, RETRY_PARTITIONS)
        assert (record.key, record.value) == (b"key", b"value of " + event.encode())
        assert (delivery.endpoint, delivery.generation, delivery.attempts) == ("p.S/A", 3, 0)
        assert (delivery.topic, delivery.offset, delivery.error) == ("events", int(event[1:]), "it broke")
        assert ("tracestate", None) in record.headers

    rest = world.plan(service)
    assert (world.ended(rest).moved, world.ended(rest).skipped) == (41, 1)
    assert [d.status for d in world.still_open(service)] == ["MALFORMED"]
    again = world.plan(service)
    assert (world.ended(again).moved, world.ended(again).skipped) == (0, 1)
    assert len(world.retries(service)) == 81
    world.wait(lambda: world.lag() == 0, "all plans committed")


def test_a_slow_plan_and_a_command_that_cannot_be_read_hold_up_no_other_consumer(world: World) -> None:
    slow, fast = world.consumer("service-a"), world.consumer("service-c")
    assert world.channel.partition_of("service-a") == world.channel.partition_of("service-c")
    world.bury(slow, [f"a{i}" for i in range(60)])
    world.bury(fast, ["b"])
    world.put(world.channel.commands, world.channel.partition_of("service-a"), b"{no plan")
    crawling, second = world.plan(slow, rate=1), world.plan(slow)
    quick = world.plan(fast)
    world.ended(quick)
    assert world.progress(crawling).state is State.RUNNING
    assert world.progress(second) is None, "the plans of one consumer run in turn"
    world.wait(lambda: world.lag() == 3, "the unreadable command committed")
    assert "a command cannot be read" in (world.folder / "log").read_text()


def test_broken_dead_letters_commands_and_rows_are_left_out_and_newer_ones_left_to_a_newer_worker(idle: World) -> None:
    service, channel = idle.consumer("service-a"), idle.channel
    partition = channel.partition_of("service-a")
    idle.bury(service, [f"a{i}" for i in range(10)])
    whole = dict(handover.headers([], "x", HandOver("service-a", "p.S/A", "events", 0, 0)))
    spoiled = [{}, whole | {"waybill_offset": b"9" * 5000}, whole | {"waybill_attempts": b"\xff"}]
    spoiled += [{n: v for n, v in whole.items() if n != "waybill_topic"}, whole | {"waybill_format": b"2"}]
    for headers in spoiled:
        idle.put(service.dlq_topic, 1, None, headers=headers.items())
    plan = idle.plan(service)
    commands = [None, b"", b"\xff", b"[" * 50_000, b"null", plan.to_bytes().replace(b"5000.0", b"1e300")]
    for command in commands:
        idle.put(channel.commands, partition, command)
    idle.put(channel.commands, partition, plan.to_bytes().replace(b'"version":1', b'"version":2'))
    unlucky = idle.plan(service)
    open_ones = {d.event.id: d for d in idle.still_open(service)}
    for key, row in {
        replay_state.plan_key(plan.id): b'{"format": 1, "next": 7',
        replay_state.plan_key(unlucky.id): b'{"format": 2}',
        replay_state.mark_key(open_ones["a1"]): b"garbage",
        replay_state.mark_key(open_ones["a2"]): b'["an older plan", "a2"]',
    }.items():
        idle.put(channel.changelog, partition, row, key)

    idle.worker()
    idle.wait(lambda: idle.lag() == 2, "all but what a newer worker must take")
    assert (idle.progress(plan).moved, idle.progress(plan).skipped) == (9, len(spoiled))
    assert set(ids_of(idle.retries(service))) == {f"a{i}" for i in range(10)} - {"a2"}
    log = (idle.folder / "log").read_text()
    assert log.count('a command cannot be read"') == len(commands)
    assert "a command cannot be read and waits" in log
    idle.wait(lambda: (idle.folder / "log").read_text().count("replay waits") >= 2, "a repeated alarm")
    with pytest.raises(NewerVersion, match="format version 2"):
        idle.progress(unlucky)


def test_a_plan_outlives_a_worker_told_to_stop_and_one_that_is_killed(idle: World) -> None:
    service = idle.consumer()
    idle.bury(service, [f"a{i}" for i in range(300)])
    plan = idle.plan(service, rate=100)
    first = idle.worker()
    idle.wait(lambda: idle.moved(plan) >= 40, "40 moved")
    first.terminate()
    assert first.wait(20) == 0
    assert len(idle.retries(service)) == idle.moved(plan) < 300, "what was moved is written down"
    second = idle.worker()
    idle.wait(lambda: idle.moved(plan) >= 80, "80 moved")
    second.kill()
    second.wait()
    assert idle.moved(plan) < 300
    assert idle.lag() == 1, "a plan is committed when it has ended"
    idle.worker()
    assert idle.ended(plan).moved == 300
    counted = ids_of(idle.retries(service))
    assert set(counted) == {f"a{i}" for i in range(300)}
    assert counted.total() <= 300 + 25, "a crash repeats one portion, a stop none"
    assert idle.still_open(service) == []
    idle.wait(lambda: idle.lag() == 0, "the plan committed")


def test_watching_a_plan_that_nobody_runs_says_how_to_start_a_worker(idle: World) -> None:
    service = idle.consumer()
    idle.bury(service, ["a"])
    plan = idle.plan(service)
    with pytest.raises(replay_client.NoWorker, match="waybill worker replay"):
        list(replay_client.watch(idle.access, plan, idle.channel, quiet=0.5))


def test_watching_a_plan_ends_with_the_plan(world: World) -> None:
    service = world.consumer("service-d")
    world.bury(service, ["a"])
    *_, last = replay_client.watch(world.access, world.plan(service), world.channel)
    assert (last.state, last.moved) == (State.ENDED, 1)
