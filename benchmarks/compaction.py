"""What compaction costs beside DuckDB sorting the same segments into one file.

compaction.py fill|waybill|duckdb FOLDER [EVENTS]: one of them in a process of its own, which prints its result.
"""

import json
import logging
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import archive
import structlog
from consumers import ROOT
from contestants import most_resident
from rich.table import Table

PARTITIONS = 4
#: Of one segment.
EVENTS = 10_000
NAMES = {"duckdb": "bare DuckDB, one sorted file", "waybill": "a step of the compactor"}


@dataclass
class Record:
    """What the sink reads of Kafka's."""

    offset: int
    timestamp: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class Window:
    """Stands for an assignment that lasts."""

    live = True


def measure(home: Path, events: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Of each contestant the result of each round."""
    folder = home / "compaction"
    shutil.rmtree(folder, ignore_errors=True)
    process("fill", folder, events)
    return {name: [process(name, folder) for _ in range(rounds)] for name in NAMES}


def table(results: dict[str, list[dict[str, float]]]) -> Table:
    """Medians over the rounds, and the ratio of a line's rate per CPU-second to DuckDB's."""
    rows = Table(title=f"segments of {EVENTS:,} events to files sorted by time; {os.cpu_count()} cores")
    for column in ("", "events/s", "events per CPU-s", "of the baseline", "bytes an event", "memory"):
        rows.add_column(column, justify="left" if not column else "right")

    def median(name: str, of: str) -> float:
        return statistics.median(result[of] for result in results[name])

    def rate(name: str, by: str) -> float:
        return statistics.median(result["events"] / result[by] for result in results[name])

    for name, title in NAMES.items():
        size = median(name, "bytes") / median(name, "events")
        rows.add_row(
            title,
            f"{rate(name, 'wall'):,.0f}",
            f"{rate(name, 'cpu'):,.0f}",
            f"{rate(name, 'cpu') / rate('duckdb', 'cpu'):.2f}",
            f"{size:.0f}",
            f"{median(name, 'rss') / 2**20:,.0f} MiB",
        )
    return rows


def process(*arguments: object) -> dict[str, float]:
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def fill(folder: Path, events: int) -> dict[str, int]:
    """Segments of the real sink, of events that came up to a second late."""
    from connectors import schemas
    from lake import layout
    from lake.hot.chains import Chains
    from lake.hot.fetches import Fetch
    from lake.segments import Limits
    from lake.storage.local import LocalStorage

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    event = schemas.load(archive.configure(folder, "local").with_name("descriptors.binpb")).event(archive.TOPIC)
    assert event is not None
    storage, draw = LocalStorage(folder / "lake"), random.Random(1)
    layout.prepare(storage, [event])
    chains = Chains(storage, [event], Limits(1 << 30, 1e9, 1 << 30), lambda topics: dict.fromkeys(topics, "life"))
    chains.assign([(event.topic, partition) for partition in range(PARTITIONS)])
    windows, sent = [Window() for _ in range(PARTITIONS)], archive.records(event, events)
    for start in range(0, events // PARTITIONS, EVENTS):
        several = [
            Record(0, at, key.encode(), value, tuple(headers))
            for at, key, value, headers in islice(sent, PARTITIONS * EVENTS)
        ]
        for partition, window in enumerate(windows):
            records = sorted(several[partition::PARTITIONS], key=lambda record: record.timestamp + draw.randrange(1000))
            for offset, record in enumerate(records, start):
                record.offset = offset
            end = start + len(records)
            chains.step([Fetch(window, event.topic, partition, records, start, end, 1000 * len(records))])
        chains.flush()
    return {"events": events}


def waybill(folder: Path) -> dict[str, float]:
    import pyarrow as pa

    from lake.main import compact
    from lake.storage.local import LocalStorage

    pa.set_memory_pool(pa.system_memory_pool())  # as the command does
    shutil.rmtree(folder / "lake/main", ignore_errors=True)
    shutil.rmtree(folder / "lake/_lake/compaction", ignore_errors=True)
    storage = LocalStorage(folder / "lake")
    meter = Meter()
    [report] = compact.run(storage, [archive.TOPIC], compact.Policy(128 << 20, 1, 86_400), everything=True)
    assert not report.problems
    return meter.result(report.rows, report.bytes)


def duckdb(folder: Path) -> dict[str, float]:
    import duckdb

    out = folder / "sorted.parquet"
    meter = Meter()
    with duckdb.connect() as connection:
        [[rows]] = connection.execute(
            f"COPY (SELECT * FROM read_parquet('{folder}/lake/hot/*/life/*.parquet', union_by_name = true) "
            "ORDER BY coalesce(_time, _timestamp), _epoch, _partition, _offset) "
            f"TO '{out}' (FORMAT parquet, COMPRESSION zstd)"
        ).fetchall()
    return meter.result(rows, out.stat().st_size)


class Meter:
    """Measures from when it is made."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def result(self, events: int, size: int) -> dict[str, float]:
        wall, cpu = self._began
        took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        return {"events": events, "bytes": size, "rss": most_resident(), **took}


if __name__ == "__main__":
    what, where, *number = sys.argv[1:]
    print(json.dumps({"fill": fill, "waybill": waybill, "duckdb": duckdb}[what](Path(where), *map(int, number))))
