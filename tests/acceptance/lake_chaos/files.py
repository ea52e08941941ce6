"""A lake's files as anybody sees them, and the count over them.  Knows nothing of the code under test but names."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import duckdb
import pyarrow.parquet as pq

from lake_chaos.truth import Truth

Watermarks = Mapping[int, int]


class Root(Protocol):
    """Where a lake lies, for those who read it."""

    def connect(self) -> duckdb.DuckDBPyConnection: ...

    def path(self, pattern: str) -> str: ...

    def newest(self, folder: str, ending: str) -> bytes | None:
        """Content of the file of ``folder`` whose name is the last that ends so."""

    def fetch(self, folder: Path) -> Path:
        """All of it, as files."""


@dataclass(frozen=True)
class Local:
    root: Path

    def connect(self) -> duckdb.DuckDBPyConnection:
        return duckdb.connect()

    def path(self, pattern: str) -> str:
        return str(self.root / pattern)

    def newest(self, folder: str, ending: str) -> bytes | None:
        names = sorted(self.root.glob(f"{folder}/*{ending}"))
        return names[-1].read_bytes() if names else None

    def fetch(self, folder: Path) -> Path:
        return self.root


@dataclass(frozen=True)
class Bucket:
    """``files`` is an s3fs without any cache."""

    files: Any
    root: str

    def connect(self) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect()
        connection.register_filesystem(self.files)
        return connection

    def path(self, pattern: str) -> str:
        return f"{self.root}/{pattern}"

    def newest(self, folder: str, ending: str) -> bytes | None:
        names = sorted(self.files.glob(f"{self.root}/{folder}/*{ending}"))
        return self.files.cat_file(names[-1]) if names else None

    def fetch(self, folder: Path) -> Path:
        self.files.get(self.root, str(folder), recursive=True)
        return folder


def watermarks(root: Root, topic: str) -> Watermarks:
    """By partition; none before the first commit.  The topic has one life."""
    commit = root.newest(f"_lake/compaction/{topic}", ".commit.json")
    return {partition: offset for _, partition, offset in json.loads(commit)["watermarks"]} if commit else {}


def count(root: Root, folder: Path, topic: str, truth: Truth) -> list[str]:
    """Every offset exactly once, in ``main/``, in the hot segments that follow it or in quarantine, with its bytes."""
    marks = watermarks(root, topic)
    files = root.fetch(folder)
    places: Counter[tuple[int, int]] = Counter()
    wrong: list[tuple[int, int]] = []
    in_main = sorted(files.glob(f"main/{topic}/dt=*/*.parquet"))
    hot = [
        path for path in sorted(files.glob(f"hot/{topic}/*/?????-*.parquet")) if _start(path) >= marks.get(_of(path), 0)
    ]
    for path in (*in_main, *hot):
        rows = pq.ParquetFile(path).read(["_partition", "_offset", "_raw"]).to_pydict()
        for partition, offset, raw in zip(rows["_partition"], rows["_offset"], rows["_raw"], strict=True):
            places[partition, offset] += 1
            if truth.values.get((partition, offset)) != raw:
                wrong.append((partition, offset))
    places.update((_of(path), _start(path)) for path in files.glob(f"quarantine/{topic}/*/*.avro"))
    told = {
        "missing": truth.values.keys() - places.keys(),
        "not in Kafka": places.keys() - truth.values.keys(),
        "more than once": {place for place, times in places.items() if times > 1},
        "with other bytes": set(wrong),
    }
    return [f"{len(found)} {what}, the first {min(found)}" for what, found in told.items() if found]


def _of(path: Path) -> int:
    return int(path.name[:5])


def _start(path: Path) -> int:
    return int(path.name[6:26])
