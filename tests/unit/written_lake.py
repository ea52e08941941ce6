"""A lake whose segments a test writes row by row, with any columns; the compactor is the real one."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lake import layout, segments
from lake.columns import schema
from lake.main import compact
from lake.proof.inventory import requarantined_key
from lake.reading import reader_files, snapshot
from lake.segments import Chain, Footer
from lake.storage import create_bytes
from lake.storage.local import LocalStorage

DAY = datetime(2026, 11, 28, tzinfo=UTC)


def columns(**fields: pa.DataType) -> pa.Schema:
    """Of a message whose fields have the numbers 1, 2, ...; then the lake's own."""
    numbered = [
        pa.field(name, kind, metadata={schema.FIELD_ID: str(number)})
        for number, (name, kind) in enumerate(fields.items(), 1)
    ]
    return pa.schema([*numbered, *schema.METADATA])


class WrittenLake:
    def __init__(self, root: Path, topic: str = "parcel", of: pa.Schema | None = None) -> None:
        self.storage, self.topic = LocalStorage(root), topic
        self.root = root
        self.ends: dict[Chain, int] = {}
        self.columns = columns(weight=pa.int64()) if of is None else of
        self.declare(self.columns)

    def declare(self, of: pa.Schema, topic: str = "") -> None:
        """What a sink does when it starts."""
        layout.declare(self.storage, topic or self.topic, of)
        create_bytes(self.storage, f"{snapshot.TOPICS}/{topic or self.topic}", b"")
        reader_files.write_views(self.storage)

    def append(
        self, *rows: dict[str, Any], of: pa.Schema | None = None, partition: int = 0, epoch: str = "first-life"
    ) -> str:
        """The next segment of a chain, one offset a row; its key."""
        chain = Chain(self.topic, epoch, partition)
        start = self.ends.get(chain, 0)
        table = self._table(rows, self.columns if of is None else of, chain, start)
        self.ends[chain] = start + len(rows)
        footer = Footer(start, start + len(rows), len(rows), (), epoch, "", "a test")
        key = segments.segment_key(chain, start)
        self._write(table, key, footer.encode())
        return key

    def requarantine(self, seq: int, *rows: dict[str, Any]) -> None:
        table = self._table(rows, self.columns, Chain(self.topic, "first-life", 9), seq)
        self._write(table, requarantined_key(self.topic, seq), {})

    def compact(self, *, retention: float = 86400.0, topics: Sequence[str] = ()) -> None:
        policy = compact.Policy(file_bytes=1 << 27, age=0.0, retention=retention)
        now = datetime.now(UTC) + timedelta(seconds=1)
        compact.run(self.storage, topics or [self.topic], policy, everything=True, clock=lambda: now)

    def _table(self, rows: Sequence[dict[str, Any]], of: pa.Schema, chain: Chain, start: int) -> pa.Table:
        place = {"_topic": chain.topic, "_epoch": chain.epoch, "_partition": chain.partition, "_timestamp": DAY}
        told = [
            {**place, "_offset": offset, "_event_id": f"{chain.epoch}/{chain.partition}/{offset}", **row}
            for offset, row in enumerate(rows, start)
        ]
        return pa.Table.from_pylist(told, of)

    def _write(self, table: pa.Table, key: str, metadata: dict[str, str]) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(path, table.schema) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata(metadata)
