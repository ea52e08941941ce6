"""A lake on a real folder, without Kafka: any number of sinks on it, with a clock and topics that come and go."""

import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from aiokafka.structs import ConsumerRecord
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from prometheus_client import REGISTRY

from connectors.problems import Problem, Unreachable
from connectors.schemas import EventType
from lake.hot.chains import Chains
from lake.hot.fetches import Fetch
from lake.main import compaction
from lake.segments import Limits
from lake.storage import create_bytes
from lake.storage.local import LocalStorage

TOPIC, OTHER = "part", "other"
BAD = b"\xff" * 9
LIMITS = Limits(segment_bytes=1 << 30, segment_age=60.0, memory_bytes=64 << 20)
NUMBER, TEXT = FieldDescriptorProto.TYPE_INT32, FieldDescriptorProto.TYPE_STRING


def event(topic: str = TOPIC, **fields: Any) -> EventType:
    """Of a message with these fields, numbered in their order."""
    file = FileDescriptorProto(name="odd.proto", package="lake_test", syntax="proto3")
    message = file.message_type.add(name="Part")
    for number, (name, kind) in enumerate((fields or {"number": NUMBER}).items(), 1):
        message.field.add(name=name, number=number, type=kind, label=FieldDescriptorProto.LABEL_OPTIONAL)
    return _declared(topic, file)


def undecodable(topic: str) -> EventType:
    """Of a message that is too deep for the lake."""
    file = FileDescriptorProto(name="odd.proto", package="lake_test", syntax="proto3")
    names = ["Part", *(f"Inner{depth}" for depth in range(110))]
    for name, inner in pairwise(names):
        kind, label = FieldDescriptorProto.TYPE_MESSAGE, FieldDescriptorProto.LABEL_OPTIONAL
        file.message_type.add(name=name).field.add(
            name="inner", number=1, type=kind, label=label, type_name=f".lake_test.{inner}"
        )
    file.message_type.add(name=names[-1])
    return _declared(topic, file)


def _declared(topic: str, file: FileDescriptorProto) -> EventType:
    pool = DescriptorPool()
    pool.Add(file)
    return EventType(topic, "lake_test.Part", "", pool.FindMessageTypeByName("lake_test.Part"))


EVENTS = (event(TOPIC), event(OTHER))
Message = GetMessageClass(EVENTS[0].descriptor)


@dataclass(eq=False)
class Window:
    live: bool = True


class Moody(LocalStorage):
    """Says that it is away: before it does anything, or when it has done it and only the answer is lost."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.away, self.answers_lost = False, False
        self.created: list[str] = []

    def create(self, source: Path, key: str) -> bool:
        if self.away:
            raise Unreachable("the bucket does not answer")
        done = super().create(source, key)
        self.created.append(key)
        if done and self.answers_lost:
            raise Unreachable("the answer of the bucket was lost")
        return done

    def keys(self, prefix: str) -> list[str]:
        if self.away:
            raise Unreachable("the bucket does not answer")
        return super().keys(prefix)


@dataclass
class World:
    """``lives``: the id of each topic that Kafka has."""

    root: Path
    limits: Limits = LIMITS
    now: float = 1000.0
    reachable: bool = True
    lives: dict[str, str] = field(default_factory=lambda: {TOPIC: "first-life", OTHER: "other-life"})

    def sink(self, *events: EventType, storage: LocalStorage | None = None) -> Chains:
        return Chains(storage or Moody(self.root), events or EVENTS, self.limits, self.identify, lambda: self.now)

    def identify(self, topics):
        if not self.reachable:
            raise Unreachable("Kafka is away")
        return {topic: self.lives.get(topic) or Problem(f"the topic {topic} does not exist") for topic in topics}

    def files(self, epoch=None, topic=TOPIC):
        return sorted(self.root.glob(f"hot/{topic}/{epoch or self.lives[topic]}/*.parquet"))

    def rows(self, topic=TOPIC):
        read = (row for path in self.files(topic=topic) for row in pq.read_table(path).to_pylist())
        return [(row["_partition"], row["_offset"]) for row in read]

    def scratch(self):
        return list(self.root.glob("spool/*/.*.tmp"))

    def quarantined(self):
        return sorted(int(path.stem[6:]) for path in self.root.glob(f"quarantine/{TOPIC}/*/*.avro"))

    def compact(self, seq: int, watermark: int, partition: int = 0) -> None:
        """Say that all below ``watermark`` is in ``main/``, and delete its segments but the newest."""
        commit = compaction.Commit(TOPIC, seq, watermarks={(self.lives[TOPIC], partition): watermark})
        key = compaction.commit_key(TOPIC, seq)
        assert create_bytes(LocalStorage(self.root), key, compaction.encode_commit(commit))
        for path in self.files()[:-1]:
            if path.name.startswith(f"{partition:05d}-") and int(path.stem[6:]) < watermark:
                path.unlink()


@contextmanager
def a_full_disk(largest: int = 300) -> Iterator[None]:
    """Files beyond a few bytes cannot be written."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def record(offset, value=None, partition=0, topic=TOPIC, headers=()):
    payload = Message(number=offset).SerializeToString() if value is None else value
    return ConsumerRecord(topic, partition, offset, 0, 0, b"", payload, None, 0, 0, headers)


def fetch(window, start, end, records=None, partition=0, topic=TOPIC):
    if records is None:
        records = [record(offset, partition=partition, topic=topic) for offset in range(start, end)]
    size = sum(1000 + len(one.value) for one in records)
    return Fetch(window, topic, partition, records, start, end, size)


def metadata(path):
    return {name.decode(): value.decode() for name, value in pq.read_metadata(path).metadata.items()}


def once(offsets, partition=0):
    return Counter((partition, offset) for offset in offsets)


def metric(name, **labels):
    return REGISTRY.get_sample_value(name, labels) or 0.0
