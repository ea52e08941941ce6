"""The sink on a real broker, compared with what a read_committed consumer sees of the same topics."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from descriptors import compiled
from google.protobuf.message_factory import GetMessageClass

from connectors import schemas
from connectors.local.state import Stack

ROOT = Path(__file__).parents[2]
PARTITIONS = 4
BAD = b"\xff" * 20

PROTO = """
syntax = "proto3";
package lake_test.v1;
import "waybill/v1/options.proto";
message ParcelWeighed {{
  option (waybill.v1.event) = {{topic: "{topic}"}};
  uint64 number = 1;
  repeated string labels = 2;
}}
message ParcelLost {{
  option (waybill.v1.event) = {{topic: "{second}"}};
  uint64 number = 1;
}}
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Lake:
    """Sinks of one group over one topic, on a lake of their own.  Its catalog has a ``second`` one."""

    def __init__(self, bootstrap: str, admin: AdminClient, folder: Path, segment_age: float) -> None:
        self.bootstrap, self.admin, self.folder = bootstrap, admin, folder
        self.topic = self.group = f"parcel_weighed_{uuid.uuid4().hex[:8]}"
        self.root = folder / "lake"
        self.log = (folder / "log").open("ab")
        self.workers: list[subprocess.Popen[bytes]] = []
        self.port = 0
        self.second = f"parcel_lost_{uuid.uuid4().hex[:8]}"
        self.make_topic(self.topic)
        self.configure(segment_age)
        event = schemas.load(folder / "descriptors.binpb").event(self.topic)
        self.message = GetMessageClass(event.descriptor)

    def configure(self, segment_age: float, quarantine_limit: int = 1000) -> None:
        protos = self.folder / "protos"
        (protos / "waybill/v1").mkdir(parents=True, exist_ok=True)
        (protos / "waybill/v1/options.proto").write_bytes((ROOT / "proto/waybill/v1/options.proto").read_bytes())
        (protos / "parcels.proto").write_text(PROTO.format(topic=self.topic, second=self.second))
        (self.folder / "descriptors.binpb").write_bytes(compiled(protos))
        (self.folder / "waybill.yaml").write_text(
            f"""
kafka: {{bootstrap-servers: "{self.bootstrap}", session-timeout: 6}}
descriptors: descriptors.binpb
consumers: [consumers/*.yaml]
lake:
  root: lake
  segment-bytes: 100000
  segment-age: {segment_age}
  memory-bytes: 4000000
  quarantine-limit: {quarantine_limit}
"""
        )

    def make_topic(self, name: str) -> None:
        for future in self.admin.create_topics([NewTopic(name, PARTITIONS, 1)]).values():
            future.result(20)

    def environment(self) -> dict[str, str]:
        config = str(self.folder / "waybill.yaml")
        return {**os.environ, "WAYBILL_CONFIG": config, "WAYBILL_METRICS_PORT": str(self.port), "GROUP": self.group}

    def worker(self) -> "subprocess.Popen[bytes]":
        self.port = free_port()
        command = [sys.executable, "-m", "faust", "-A", "lake_app:app", "worker", "-l", "info"]
        worker = subprocess.Popen(
            command, cwd=Path(__file__).parent, stdout=self.log, stderr=self.log, env=self.environment()
        )
        self.workers.append(worker)
        return worker

    def payload(self, number: int) -> bytes:
        return self.message(number=int(number), labels=["fragile"] * (int(number) % 3)).SerializeToString()

    def produce(
        self,
        numbers: range,
        *,
        transactions: bool = False,
        value: Callable[[int], bytes | None] | None = None,
        topic: str = "",
    ) -> None:
        """Hundreds in transactions of which every fourth is aborted, or all plainly."""
        settings = {"bootstrap.servers": self.bootstrap, "linger.ms": 5}
        producer = Producer(settings | ({"transactional.id": uuid.uuid4().hex} if transactions else {}))
        if transactions:
            producer.init_transactions(20)
        for at in range(numbers.start, numbers.stop, 100):
            if transactions:
                producer.begin_transaction()
            for number in range(at, min(at + 100, numbers.stop)):
                headers = [("ce_id", f"id-{number}".encode())]
                content = value(number) if value else self.payload(number)
                producer.produce(topic or self.topic, content, f"key-{number}", number % PARTITIONS, headers=headers)
            assert producer.flush(20) == 0
            if transactions:
                producer.abort_transaction(20) if at // 100 % 4 == 3 else producer.commit_transaction(20)

    def in_kafka(self) -> dict[tuple[int, int], bytes | None]:
        """Payload by partition and offset."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "nobody",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        consumer.assign([TopicPartition(self.topic, partition, 0) for partition in range(PARTITIONS)])
        found, ended = {}, 0
        while ended < PARTITIONS:
            for message in consumer.consume(1000, 1.0):
                if message.error():
                    ended += 1
                else:
                    found[message.partition(), message.offset()] = message.value()
        consumer.close()
        return found

    def files(self, topic: str = "") -> list[Path]:
        return sorted(self.root.glob(f"hot/{topic or self.topic}/*/?????-*.parquet"))

    def said(self) -> str:
        """By all workers."""
        return (self.folder / "log").read_text()

    def rows(self) -> list[tuple[int, int, bytes, int]]:
        """Partition, offset, payload and decoded number of each row."""
        if not self.files():
            return []
        query = (
            f"SELECT _partition, _offset, _raw, number FROM read_parquet('{self.root}/hot/{self.topic}/*/*.parquet')"
        )
        return duckdb.connect().execute(query).fetchall()

    def quarantined(self) -> list[tuple[int, int]]:
        names = [path.stem for path in self.root.glob(f"quarantine/{self.topic}/*/*.avro")]
        return [(int(name[:5]), int(name[6:])) for name in names]

    def end(self) -> Counter[int]:
        """Where each chain ends."""
        ends: Counter[int] = Counter()
        for path in self.files():
            ends[int(path.name[:5])] = max(
                ends[int(path.name[:5])], int(pq.read_metadata(path).metadata[b"waybill.next"])
            )
        return ends

    def group_offsets(self, change: Callable[[list[TopicPartition]], None] | None = None) -> list[int]:
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.group, "enable.auto.commit": False})
        try:
            committed = consumer.committed([TopicPartition(self.topic, p) for p in range(PARTITIONS)], timeout=20)
            if change:
                change(committed)
                consumer.commit(offsets=committed, asynchronous=False)
            return [one.offset for one in committed]
        finally:
            consumer.close()

    def moved(self, change: Callable[[list[TopicPartition]], None]) -> bool:
        """Kafka refuses while the group still has a member."""
        try:
            self.group_offsets(change)
        except KafkaException:
            return False
        return True

    def wait(self, condition: Callable[[], object], timeout: float = 40, *, working: bool = True) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if working:
                assert any(worker.poll() is None for worker in self.workers), f"no worker lives, see {self.log.name}"
            assert time.monotonic() < deadline, f"not in {timeout} s; {len(self.rows())} rows, see {self.log.name}"
            threading.Event().wait(0.1)

    def assigned(self) -> list[int]:
        """How many partitions each member of the group has, once it has settled."""
        group = self.admin.describe_consumer_groups([self.group])[self.group].result(20)
        if group.state != ConsumerGroupState.STABLE:
            return []
        return [len(member.assignment.topic_partitions) for member in group.members]

    def lag(self) -> int:
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "nobody"})
        try:
            places = [TopicPartition(self.topic, partition) for partition in range(PARTITIONS)]
            ends = [consumer.get_watermark_offsets(place, timeout=10)[1] for place in places]
        finally:
            consumer.close()
        return sum(ends) - sum(map(max, self.group_offsets(), [0] * PARTITIONS))

    def metric(self, name: str) -> float:
        """Of the newest worker; 0 while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return 0.0
        return float(next(line.split()[-1] for line in lines if line.startswith(name + " ")))

    def waybill(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [Path(sys.executable).with_name("waybill"), "lake", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=self.environment())

    def sql(self, statement: str) -> list[dict[str, object]]:
        return json.loads(self.waybill("sql", "--json", statement).stdout)

    def remove(self, partition: int, before: int) -> None:
        """As retention does: the log of ``partition`` starts at ``before``."""
        place = TopicPartition(self.topic, partition, before)
        assert self.admin.delete_records([place])[place].result(20).low_watermark == before

    def stop(self, worker: "subprocess.Popen[bytes]") -> None:
        worker.terminate()
        assert worker.wait(40) == 0

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.log.close()


@pytest.fixture
def lake(stack: Stack, admin: AdminClient, tmp_path: Path) -> Iterator[Lake]:
    lake = Lake(stack.kafka, admin, tmp_path, segment_age=1.0)
    yield lake
    lake.close()


@pytest.fixture
def patient_lake(stack: Stack, admin: AdminClient, tmp_path: Path) -> Iterator[Lake]:
    """One that publishes nothing while a test lasts, unless it is told to stop."""
    lake = Lake(stack.kafka, admin, tmp_path, segment_age=3600.0)
    yield lake
    lake.close()


def test_every_committed_record_is_there_once_through_aborts_kills_and_moved_offsets(lake: Lake) -> None:
    bad = {100: BAD, 202: None, 1001: BAD, 2950: BAD}

    def value(number: int) -> bytes | None:
        return bad.get(number, lake.payload(number))

    lake.produce(range(1500), transactions=True, value=value)
    first = lake.worker()
    lake.wait(lambda: len(lake.rows()) > 100)
    first.kill()
    first.wait()
    both = [lake.worker(), lake.worker()]
    lake.produce(range(1500, 2500), transactions=True, value=value)
    lake.wait(lambda: lake.assigned() == [2, 2])
    lake.stop(both[0])
    lake.wait(lambda: lake.assigned() == [4])
    lake.produce(range(2500, 3000), transactions=True, value=value)
    lake.stop(both[1])

    def move(committed: list[TopicPartition]) -> None:
        committed[0].offset, committed[1].offset, committed[2].offset = 0, 7, committed[2].offset + 1
        committed[3].offset = 10_000  # far ahead of the lake and of the log

    lake.produce(range(3000, 3300), transactions=True)
    lake.wait(lambda: lake.moved(move), working=False)
    last = lake.worker()
    lake.produce(range(3300, 3600), transactions=True)
    expected = lake.in_kafka()
    lake.wait(lambda: len(lake.rows()) + len(lake.quarantined()) >= len(expected))
    lake.stop(last)

    rows = lake.rows()
    assert sorted([*((partition, offset) for partition, offset, *_ in rows), *lake.quarantined()]) == sorted(expected)
    assert all(raw == expected[partition, offset] == lake.payload(number) for partition, offset, raw, number in rows)
    assert {expected[place] for place in lake.quarantined()} == {BAD, None}
    assert not list(lake.root.rglob("*.tmp"))


def test_a_sink_told_to_stop_publishes_what_it_holds_and_commits_up_to_there(patient_lake: Lake) -> None:
    lake = patient_lake
    lake.produce(range(1000))
    worker = lake.worker()
    lake.wait(lambda: lake.metric("waybill_lake_commit_age_seconds") > 0)
    assert lake.rows() == []
    lake.stop(worker)
    assert lake.rows()
    assert lake.group_offsets() == [lake.end()[partition] for partition in range(PARTITIONS)]


def test_a_new_lake_gets_everything_again_whatever_its_group_has_committed(lake: Lake) -> None:
    lake.produce(range(600), transactions=True)
    expected = lake.in_kafka()
    first = lake.worker()
    lake.wait(lambda: len(lake.rows()) == len(expected))
    lake.wait(lambda: lake.lag() == 0)  # past the markers behind the last record too
    lake.stop(first)
    lake.root.rename(lake.folder / "old-lake")
    lake.worker()
    lake.wait(lambda: len(lake.rows()) == len(expected))
    assert lake.sql(f"SELECT count(*) AS events FROM {lake.topic}_latest") == [{"events": len(expected)}]


def test_a_partition_whose_next_records_are_gone_is_held_and_told_until_the_lake_is_let_go_on_behind_them(
    lake: Lake,
) -> None:
    lake.produce(range(400))
    lake.remove(1, 30)  # before the lake has anything of it: it begins with what there is
    worker = lake.worker()
    lake.wait(lambda: len(lake.rows()) == 370)
    lake.stop(worker)
    lake.produce(range(400, 800))
    lake.remove(0, 150)
    worker = lake.worker()
    lake.wait(lambda: len(lake.rows()) == 670)
    held = f'waybill_partitions_held{{group="{lake.group}",topic="{lake.topic}"}}'
    lake.wait(lambda: lake.metric(held) == 1)
    said = lake.said()
    assert "offsets 100 to 149 are gone" in said
    assert "waybill lake skip" in said

    assert "offsets 100 to 149" in lake.waybill("skip", lake.topic, "0").stderr
    assert lake.end()[0] == 100
    lake.waybill("skip", lake.topic, "0", "--yes")
    lake.stop(worker)
    lake.worker()
    lake.wait(lambda: len(lake.rows()) == 720)
    assert {offset for partition, offset, *_ in lake.rows() if partition == 0} == {*range(100), *range(150, 200)}
    lake.wait(lambda: lake.lag() == 0)


def test_a_topic_made_anew_under_a_running_sink_starts_a_chain_of_its_own(lake: Lake) -> None:
    lake.produce(range(400))
    worker = lake.worker()
    lake.wait(lambda: len(lake.rows()) == 400)
    (old,) = {path.parent for path in lake.files()}
    lake.admin.delete_topics([lake.topic])[lake.topic].result(20)
    lake.wait(lambda: lake.topic not in lake.admin.list_topics(timeout=10).topics)
    lake.make_topic(lake.topic)
    lake.produce(range(1000, 1900))
    lake.wait(lambda: len(lake.rows()) == 1300)
    (new,) = {path.parent for path in lake.files()} - {old}
    rows = duckdb.sql(f"SELECT _partition, _offset, number FROM read_parquet('{new}/*.parquet')").fetchall()
    assert sorted(map(int, (number for *_, number in rows))) == list(range(1000, 1900))
    assert {(partition, offset) for partition, offset, _ in rows} == set(lake.in_kafka())
    assert worker.poll() is None, "without a restart"


def test_a_topic_that_is_made_while_a_sink_runs_is_archived_without_a_restart(lake: Lake) -> None:
    lake.produce(range(400))
    worker = lake.worker()
    lake.wait(lambda: len(lake.rows()) == 400)
    assert "topics are missing" in lake.said()
    lake.make_topic(lake.second)
    lake.produce(range(100), topic=lake.second)
    lake.produce(range(400, 500))
    lake.wait(lambda: len(lake.files(lake.second)) >= PARTITIONS)
    lake.wait(lambda: len(lake.rows()) == 500)
    assert worker.poll() is None


def test_a_sink_that_was_stopped_and_overtaken_wakes_up_without_harm(lake: Lake) -> None:
    lake.produce(range(400))
    sleeper = lake.worker()
    lake.wait(lambda: lake.metric("waybill_lake_commit_age_seconds") > 0)
    sleeper.send_signal(signal.SIGSTOP)
    lake.worker()
    lake.produce(range(400, 1600))
    lake.wait(lambda: len(lake.rows()) == 1600)
    sleeper.send_signal(signal.SIGCONT)
    lake.wait(lambda: lake.assigned() == [2, 2])
    lake.produce(range(1600, 2000))
    lake.wait(lambda: len(lake.rows()) >= 2000)
    assert sorted((partition, offset) for partition, offset, *_ in lake.rows()) == sorted(lake.in_kafka())
    assert all(worker.poll() is None for worker in lake.workers)


def test_a_storage_that_takes_nothing_for_a_while_ends_no_sink_and_loses_nothing(lake: Lake) -> None:
    lake.produce(range(400))
    worker = lake.worker()
    lake.wait(lambda: len(lake.rows()) == 400)
    here, away = lake.root / "hot" / lake.topic, lake.folder / "away"
    here.rename(away)
    lake.produce(range(400, 20_000))
    lake.wait(lambda: lake.metric("waybill_lake_storage_away_seconds") > 3)
    lake.wait(lambda: lake.metric("waybill_lake_due_segments") >= PARTITIONS)
    assert lake.metric("waybill_lake_held_bytes") < 5_000_000, "reading stops at the bound of the memory"
    assert "The lake's storage takes nothing" in lake.said()
    away.rename(here)
    lake.wait(lambda: len(lake.rows()) == 20_000)
    lake.wait(lambda: lake.lag() == 0)
    assert sorted((partition, offset) for partition, offset, *_ in lake.rows()) == sorted(lake.in_kafka())
    assert worker.poll() is None


def test_a_partition_of_garbage_is_held_until_the_limit_is_raised_and_all_others_go_on(lake: Lake) -> None:
    lake.configure(1.0, quarantine_limit=10)
    lake.produce(range(400), value=lambda number: BAD if number % PARTITIONS == 2 else lake.payload(number))
    worker = lake.worker()
    lake.wait(lambda: len(lake.rows()) == 300)
    held = f'waybill_partitions_held{{group="{lake.group}",topic="{lake.topic}"}}'
    lake.wait(lambda: lake.metric(held) == 1)
    lake.produce(range(400, 800))
    lake.wait(lambda: len(lake.rows()) == 600)
    assert "100 of 100 records from offset 0 on cannot be decoded" in lake.said()
    assert (lake.quarantined(), lake.end()[2]) == ([], 0)
    lake.stop(worker)
    lake.configure(1.0, quarantine_limit=100)
    lake.worker()
    lake.wait(lambda: len(lake.rows()) == 700)
    assert sorted(lake.quarantined()) == [(2, offset) for offset in range(100)]
    lake.wait(lambda: lake.lag() == 0)


def test_what_was_fetched_of_held_partitions_takes_no_room_from_the_others(lake: Lake) -> None:
    lake.configure(1.0, quarantine_limit=10)
    large = BAD * 1000  # 500 kB of each partition at once, where a MB is fetched ahead
    lake.produce(range(800), value=lambda number: large if number % PARTITIONS else lake.payload(number))
    lake.worker()
    lake.wait(lambda: len(lake.rows()) == 200)
    held = f'waybill_partitions_held{{group="{lake.group}",topic="{lake.topic}"}}'
    lake.wait(lambda: lake.metric(held) == 3)
    lake.produce(range(800, 1600))
    lake.wait(lambda: len(lake.rows()) == 400)
