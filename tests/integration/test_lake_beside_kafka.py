"""The proof that a lake is whole, beside real Kafka with all that makes its offsets skip."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from object_store import ObjectStore
from whole_lake import BAD, EVENT, Message, WholeLake, local_lake

from connectors import settings
from connectors.access import Access
from connectors.kafka import reader
from connectors.kafka.reader import Record
from connectors.local.state import Stack
from lake import storage
from lake.epochs import TopicIds
from lake.proof import requarantine
from lake.proof.findings import Comparison, End
from lake.proof.topic_log import TopicLog
from lake.proof.verify import Report, verify
from lake.reading import snapshot
from lake.storage import create_bytes
from lake.storage.local import LocalStorage

PARTITIONS = 2


class Beside:
    """A topic, and a lake that is filled from it by the real writer."""

    def __init__(self, stack: Stack, admin: AdminClient, lake: WholeLake, **config: str) -> None:
        self.admin, self.access = admin, Access(stack.kafka)
        self.topic = f"part_{uuid.uuid4().hex[:10]}"
        self.make(**config)
        self.lake = replace(lake, event=replace(EVENT, topic=self.topic), epoch=self.life())
        create_bytes(lake.storage, f"{snapshot.TOPICS}/{self.topic}", b"")

    def make(self, **config: str) -> None:
        config = {name.replace("_", "."): value for name, value in config.items()}
        self.admin.create_topics([NewTopic(self.topic, PARTITIONS, 1, config=config)])[self.topic].result(20)

    def life(self) -> str:
        deadline = time.monotonic() + 20
        while isinstance(found := TopicIds(self.access).lives([self.topic])[self.topic], Exception):
            assert time.monotonic() < deadline
        return found

    def transactions(self, *outcomes: bool, bad: bool = False) -> None:
        """Ten records in each partition, committed or aborted; the third of each is no event if ``bad``."""
        producer = Producer({"bootstrap.servers": self.access.servers, "transactional.id": uuid.uuid4().hex})
        producer.init_transactions(20)
        for committed in outcomes:
            producer.begin_transaction()
            for number in range(10 * PARTITIONS):
                value = BAD if bad and number // PARTITIONS == 2 else Message(number=number).SerializeToString()
                producer.produce(self.topic, value, b"key", number % PARTITIONS)
            producer.flush(20)
            producer.commit_transaction(20) if committed else producer.abort_transaction(20)

    def plainly(self, count: int, key: Callable[[int], bytes] = lambda _: b"key") -> None:
        producer = Producer({"bootstrap.servers": self.access.servers, "linger.ms": 5})
        for number in range(count):
            producer.produce(self.topic, Message(number=number).SerializeToString(), key(number), 0)
        assert producer.flush(20) == 0

    def archive(self, change: Callable[[list[Record]], list[Record]] = lambda records: records) -> None:
        """All that Kafka shows, in the lake, but for the ``change``."""
        ends = reader.ends(self.access, self.topic)
        found = list(reader.scan(self.access, self.topic, ends))
        for partition, (_, high) in ends.items():
            self.lake.write((partition, high, change([one for one in found if one.partition == partition])))

    def remove(self, partition: int, before: int) -> None:
        place = TopicPartition(self.topic, partition, before)
        assert self.admin.delete_records([place])[place].result(20).low_watermark == before

    def report(self, *, values: bool = True) -> Report:
        return verify(self.lake.storage, self.topic, self.access, values=values)

    def found(self) -> list[tuple[str, int | None, int | None, int | None, int]]:
        return [(one.kind, one.partition, one.start, one.end, one.count) for one in self.report().findings]


@pytest.fixture
def beside(stack: Stack, admin: AdminClient, tmp_path: Path) -> Beside:
    return Beside(stack, admin, local_lake(tmp_path))


def test_a_lake_is_whole_through_transactions_of_which_some_were_aborted(beside: Beside) -> None:
    beside.transactions(True, False, True, bad=True)
    beside.archive()
    beside.lake.compact()
    beside.transactions(False, True, True)
    beside.archive()
    whole = beside.report()
    assert (whole.findings, whole.notes[1:]) == ((), ())
    assert (whole.rows, whole.quarantined, whole.offsets, whole.lag) == (76, 4, 132, 0)
    beside.transactions(True, False)
    report = beside.report(values=False)
    assert (report.findings, report.lag) == ((), 44)


def test_a_record_that_the_lake_lacks_is_named(beside: Beside) -> None:
    beside.transactions(True, False, True)
    beside.archive(lambda records: [one for one in records if one.partition or one.offset not in {4, 5, 25}])
    assert beside.found() == [("lost", 0, 4, 6, 3)]
    beside.lake.compact()
    (one,) = beside.report().findings
    assert str(one).startswith(f"{beside.topic}[0] epoch {beside.lake.epoch}, offsets 4 to 5: in Kafka and not in ")
    assert str(one).endswith("-00000000000000000000.parquet (in main since step 1) (3 in all)")


def test_a_record_that_kafka_does_not_show_is_named(beside: Beside) -> None:
    beside.transactions(True, False, True)
    beside.archive(lambda records: sorted([*records, replace(records[0], offset=15)], key=lambda one: one.offset))
    assert beside.found() == [("extra", 0, 15, 16, 1), ("extra", 1, 15, 16, 1)]


def test_a_changed_payload_is_named(beside: Beside) -> None:
    beside.plainly(10)
    other = Message(number=99).SerializeToString()
    beside.archive(lambda records: [replace(one, value=other) if one.offset == 7 else one for one in records])
    assert beside.found() == [("value", 0, 7, 8, 1)]
    assert beside.report(values=False).findings == ()


def test_what_retention_removed_is_not_compared_and_only_what_the_lake_never_had_is_told(beside: Beside) -> None:
    beside.plainly(20)
    beside.archive(lambda records: [one for one in records if one.offset != 3])
    beside.remove(0, 10)
    assert beside.found() == []
    beside.plainly(20)
    beside.remove(0, 25)
    assert beside.found() == [("cut", 0, 20, 25, 1)]
    assert beside.report().lag == 15


def test_what_retention_removes_while_it_is_compared_is_not_missed(beside: Beside) -> None:
    beside.plainly(20)
    log, place = TopicLog(beside.access, beside.topic, values=False), (beside.lake.epoch, 0)
    span = log.span(place, 0, 20)
    assert span == (0, 20)
    beside.remove(0, 10)
    log.compare({place: Comparison(pa.array(range(20), pa.int64()), None, *span)}, {place: []})
    assert log.findings({place: End(20)}) == []


def test_a_lake_that_begins_where_retention_has_left_something_is_whole(beside: Beside) -> None:
    beside.plainly(20)
    beside.remove(0, 10)
    assert (beside.report().findings, beside.report().lag) == ((), 10)
    beside.archive()
    assert (beside.report().findings, beside.report().lag) == ((), 0)


def test_a_lake_beyond_the_end_of_the_log_is_told(beside: Beside) -> None:
    beside.plainly(10)
    beside.archive()
    beside.lake.write((0, 14, []))
    assert beside.found() == [("ahead", 0, 10, 14, 1)]


def test_of_a_topic_that_kafka_compacts_the_lake_may_have_more(
    stack: Stack, admin: AdminClient, tmp_path: Path
) -> None:
    beside = Beside(
        stack, admin, local_lake(tmp_path),
        cleanup_policy="compact", segment_ms="50", min_cleanable_dirty_ratio="0.001", segment_bytes="1048576",
    )  # fmt: skip
    for _ in range(3):
        beside.plainly(40, key=lambda number: b"%d" % (number % 4))
        time.sleep(0.1)  # as long as a segment may be open, else nothing is ever compacted
    beside.archive()
    ends = reader.ends(beside.access, beside.topic)
    deadline = time.monotonic() + 60
    while len(list(reader.scan(beside.access, beside.topic, ends))) == 120:
        assert time.monotonic() < deadline, "Kafka does not compact"
        time.sleep(0.5)
    assert beside.report().findings == ()


def test_each_life_of_a_topic_is_whole_and_a_topic_that_is_gone_is_not_compared(
    beside: Beside, admin: AdminClient
) -> None:
    beside.plainly(10)
    beside.archive()
    admin.delete_topics([beside.topic])[beside.topic].result(20)
    deadline = time.monotonic() + 20
    while beside.topic in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline
    gone = beside.report()
    assert (gone.findings, gone.lag, gone.notes) == ((), None, ("Kafka has no such topic: not compared with it",))
    beside.make()
    beside.lake.epoch = beside.life()
    beside.plainly(4)
    assert (beside.report().findings, beside.report().lag) == ((), 4)
    beside.archive()
    whole = beside.report()
    assert (whole.findings, whole.rows, whole.lag) == ((), 14, 0)


def test_the_command_proves_a_lake_beside_kafka(beside: Beside, tmp_path: Path) -> None:
    beside.transactions(True, False, True)
    beside.archive(lambda records: records[1:])
    config = tmp_path / "waybill.yaml"
    config.write_text(
        f"kafka: {{bootstrap-servers: '{beside.access.servers}'}}\ndescriptors: d\nconsumers: []\n"
        f"lake: {{root: '{tmp_path}'}}\n"
    )
    command = [Path(sys.executable).with_name("waybill"), "lake", "verify", beside.topic, "--values", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "WAYBILL_CONFIG": str(config)}
    )
    assert done.returncode == 1, done.stderr
    (report,) = json.loads(done.stdout)
    assert [(one["kind"], one["partition"], one["start"]) for one in report["findings"]] == [
        ("lost", 0, 0),
        ("lost", 1, 0),
    ]


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[storage.Storage]:
    """A lake in an object store."""
    with ObjectStore(tmp_path) as store:
        config = tmp_path / "waybill.yaml"
        config.write_text(
            f"kafka: {{bootstrap-servers: 'nowhere:1'}}\ndescriptors: d\nconsumers: []\n"
            f"lake: {{root: '{store.root}', s3: {store.yaml}, scratch: '{tmp_path / 'scratch'}'}}\n"
        )
        yield storage.of(settings.load(config).lake)


def test_a_lake_in_an_object_store_is_proved_and_its_quarantine_decoded_again_like_one_in_a_folder(
    stack: Stack, admin: AdminClient, bucket: storage.Storage
) -> None:
    beside = Beside(stack, admin, WholeLake(bucket))
    beside.transactions(True, False, True, bad=True)
    beside.archive()
    beside.lake.compact()
    beside.transactions(True)
    beside.archive()
    other = replace(EVENT, topic=beside.topic, name="lake_test.v1.Other")
    assert requarantine.plan(bucket, other).quarantined == 4
    whole = beside.report()
    assert (whole.findings, whole.rows, whole.quarantined, whole.lag) == ((), 56, 4, 0)
    (key, *_) = bucket.keys(f"main/{beside.topic}/dt=1970-01-01") or bucket.keys(f"main/{beside.topic}")[1:]
    bucket.delete(key)
    assert {one.kind for one in beside.report().findings} >= {"missing file"}
    assert not isinstance(bucket, LocalStorage)
