"""A lake without Kafka, made by the real sink and the real compactor, for tests that break it or decode it again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
from descriptors import every_kind
from google.protobuf.message_factory import GetMessageClass

from connectors.kafka.reader import Record
from connectors.schemas import EventType
from lake.hot.chains import Chains
from lake.hot.fetches import Fetch
from lake.main import compact, compaction
from lake.main.compact import Policy
from lake.main.compaction import Commit
from lake.reading import snapshot
from lake.segments import Limits
from lake.storage import Storage, create_bytes
from lake.storage.local import LocalStorage

TOPIC = "part"
EVENT = EventType(TOPIC, "lake_test.v1.Part", "", every_kind().file.message_types_by_name["Part"])
Message = GetMessageClass(EVENT.descriptor)
BAD = b"\xff" * 9
DAY_MS = 24 * 60 * 60 * 1000


class Window:
    live = True


def record(offset: int, value: bytes | None = None, *, partition: int = 0, day: int = 0, ce_type: str = "") -> Record:
    """The event number ``offset`` of the so-and-so-many-th day since 1970."""
    payload = Message(number=offset).SerializeToString() if value is None else value
    headers = (("ce_type", ce_type.encode()),) if ce_type else ()
    return Record(TOPIC, partition, offset, day * DAY_MS, b"key", payload, headers)


@dataclass
class WholeLake:
    storage: Storage
    event: EventType = EVENT
    epoch: str = "first-life"

    def write(self, *fetches: tuple[int, int, Sequence[Record]]) -> None:
        """A segment for each of these: a partition, where its chain is to end, and records, less those that it has."""
        sink = Chains(
            self.storage, [self.event], Limits(1 << 30, 1e9, 1 << 30), lambda topics: dict.fromkeys(topics, self.epoch)
        )
        starts = sink.assign({(self.event.topic, partition) for partition, _, _ in fetches})
        windows = {partition: Window() for partition, _, _ in fetches}
        for partition, end, records in fetches:
            start = starts[self.event.topic, partition]
            held = [one for one in records if one.offset >= start]
            sink.step([Fetch(windows[partition], self.event.topic, partition, held, start, end, 100)])
            sink.flush()
            starts[self.event.topic, partition] = end
        sink.close()

    def fill(self, start: int, end: int, *, partition: int = 0, bad: Iterable[int] = ()) -> None:
        """A segment of all offsets in ``[start, end)``, one day for every ten of them."""
        rejected = set(bad)
        records = [
            record(offset, BAD if offset in rejected else None, partition=partition, day=offset // 10)
            for offset in range(start, end)
        ]
        self.write((partition, end, records))

    def compact(self) -> None:
        """Everything of ``hot/`` into ``main/``, in one step."""
        (report,) = compact.run(self.storage, [self.event.topic], Policy(1 << 30, 0.0, 1e9), everything=True)
        assert (report.steps, report.problems) == (1, [])

    def begin_step(self) -> None:
        """A step of the compactor that died before its commit."""
        seq = compaction.newest(self.storage, self.event.topic).seq + 1
        self.compact()
        self.storage.delete(compaction.commit_key(self.event.topic, seq))

    def commit(self, commit: Commit) -> None:
        key = compaction.commit_key(commit.topic, commit.seq)
        self.storage.delete(key)
        assert create_bytes(self.storage, key, compaction.encode_commit(commit))


@dataclass
class LocalLake(WholeLake):
    """In a folder, so that its files can be broken."""

    root: Path = Path()

    def files(self, pattern: str) -> list[Path]:
        return sorted(self.root.glob(pattern))

    def segment(self, start: int, partition: int = 0) -> Path:
        return self.root / f"hot/{self.event.topic}/{self.epoch}/{partition:05d}-{start:020d}.parquet"

    def container(self, offset: int, partition: int = 0) -> Path:
        return self.root / f"quarantine/{self.event.topic}/{self.epoch}/{partition:05d}-{offset:020d}.avro"

    def rewrite(self, path: Path, change=lambda table: table, **footer: object) -> None:
        """Another file in the place of ``path``: rows changed, and what its footer says of itself."""
        table = pq.read_table(path)
        metadata = pq.read_metadata(path).metadata
        told = {name: value for name, value in metadata.items() if name.startswith(b"waybill.")}
        told |= {f"waybill.{name}".encode(): str(value).encode() for name, value in footer.items()}
        changed = change(table)
        path.unlink()
        with pq.ParquetWriter(path, changed.schema) as writer:
            writer.write_table(changed)
            writer.add_key_value_metadata(told)

    def change_commit(self, seq: int, **changes: object) -> None:
        self.commit(replace(compaction.read_commit(self.storage, self.event.topic, seq), **changes))


def local_lake(root: Path) -> LocalLake:
    storage = LocalStorage(root)
    create_bytes(storage, f"{snapshot.TOPICS}/{TOPIC}", b"")
    return LocalLake(storage, root=root)
