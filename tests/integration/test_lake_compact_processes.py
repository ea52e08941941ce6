"""Compactors as processes: several at a time, killed, on S3, and going on for ever."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from google.protobuf.message_factory import GetMessageClass
from object_store import Detour, ObjectStore
from test_lake_storage import opened

from connectors import schemas
from connectors.kafka.reader import Record
from lake import layout, segments
from lake.hot.chains import Chains
from lake.hot.fetches import Fetch
from lake.main import compact, compaction
from lake.segments import Limits
from lake.storage.local import LocalStorage

ROOT = Path(__file__).parents[2]
TOPIC = "package_delivered"
EVENT = schemas.load(ROOT / "proto" / "descriptors.binpb").event(TOPIC)
PAYLOAD = GetMessageClass(EVENT.descriptor)(photo_key="a").SerializeToString()
PARTITIONS = range(3)
EVERYTHING = compact.Policy(1 << 30, 86_400, 86_400)

COMPACTOR = """
import sys
from pathlib import Path
from lake.main import compact
from lake.reading import snapshot
from lake.storage.local import LocalStorage
store = LocalStorage(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    compact.run(store, snapshot.chosen(store, []), compact.Policy(1 << 30, 86_400, 1), everything=True)
"""


class Window:
    live = True


class Writer:
    """A sink that never stops; event ``n`` is of the day ``n % 3``."""

    def __init__(self, store):
        layout.prepare(store, [EVENT])
        self.ends = dict.fromkeys(PARTITIONS, 0)
        self._windows = {partition: Window() for partition in PARTITIONS}
        limits = Limits(1 << 30, 1e9, 1 << 30)
        self._chains = Chains(store, [EVENT], limits, lambda topics: dict.fromkeys(topics, "life"))
        self._chains.assign([(TOPIC, partition) for partition in PARTITIONS])

    def write(self, number):
        """A segment of so many events for each partition."""
        for partition, start in self.ends.items():
            at = range(start, start + number)
            records = [Record(TOPIC, partition, n, 86_400_000 * (n % 3), b"key", PAYLOAD, ()) for n in at]
            end = self.ends[partition] = start + number
            self._chains.step([Fetch(self._windows[partition], TOPIC, partition, records, start, end, 1000)])
        self._chains.flush()

    @property
    def truth(self):
        return {(partition, offset) for partition, end in self.ends.items() for offset in range(end)}


def places(store, keys):
    """What the files hold.  Fails if a row is there twice."""
    found = set()
    for key in keys:
        with store.open(key) as file:
            table = pq.ParquetFile(file).read(["_partition", "_offset"])
        rows = {tuple(row.values()) for row in table.to_pylist()}
        assert len(rows) == table.num_rows
        assert not rows & found
        found |= rows
    return found


def fresh(store):
    """As readers are told to; None if a segment was removed meanwhile, which here is after a second."""
    commit = compaction.newest(store, TOPIC)
    main = [key for key in store.keys(f"main/{TOPIC}") if int(Path(key).name[:12]) <= commit.seq]
    hot = [
        key
        for key in store.keys(f"hot/{TOPIC}")
        if (parsed := segments.parse(key)) and parsed[1] >= commit.watermarks.get(("life", parsed[0].partition), 0)
    ]
    try:
        found = places(store, [*main, *hot])
    except FileNotFoundError:
        return None
    return found if compaction.newest(store, TOPIC) == commit else None


def test_compactors_that_are_killed_at_any_moment_lose_nothing_and_repeat_nothing(tmp_path):
    store, draw = LocalStorage(tmp_path), random.Random(11)
    writer = Writer(store)
    command = [sys.executable, "-c", COMPACTOR, str(tmp_path)]
    running, kills, looks = [], 0, 0
    until = time.monotonic() + 10
    try:
        while time.monotonic() < until or kills < 4 or not looks:
            while len(running) < 2:
                running.append(subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT))
            assert running[0].stdout.readline() == b"ready\n"
            for _ in range(draw.randrange(1, 4)):
                writer.write(draw.randrange(1, 20))
                seen = fresh(store)
                if seen is not None:
                    assert seen == writer.truth
                    looks += 1
            victim = running.pop(0)
            assert victim.poll() is None
            victim.kill()
            victim.communicate()
            kills += 1
    finally:
        for process in running:
            process.kill()
            process.communicate()

    [report] = compact.run(store, [TOPIC], EVERYTHING, everything=True)
    assert report.problems == []
    assert places(store, store.keys(f"main/{TOPIC}")) == writer.truth
    numbers = compaction.committed(store, TOPIC)
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 1


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    with ObjectStore(tmp_path_factory.mktemp("objects")) as running:
        yield running


def test_a_lake_on_s3_is_compacted_as_one_in_a_folder(objects):
    store = opened(objects.lake())
    writer = Writer(store)
    for _ in range(3):
        writer.write(5)
    [report] = compact.run(store, [TOPIC], EVERYTHING, everything=True)
    writer.write(5)

    assert (report.steps, report.segments, report.rows, report.files, report.problems) == (1, 9, 45, 3, [])
    assert len(places(store, store.keys(f"main/{TOPIC}"))) == 45
    assert fresh(store) == writer.truth
    later = datetime.now(UTC) + timedelta(days=2)
    [report] = compact.run(store, [TOPIC], EVERYTHING, everything=True, clock=lambda: later)
    assert (report.rows, report.removed) == (15, 9)
    assert places(store, store.keys(f"main/{TOPIC}")) == fresh(store) == writer.truth


def waybill(tmp_path, lake, *arguments):
    """The real command with settings of its own; its log is JSON lines."""
    config = tmp_path / "waybill.yaml"
    config.write_text(
        json.dumps(
            {
                "kafka": {"bootstrap-servers": "local"},
                "descriptors": str(ROOT / "proto" / "descriptors.binpb"),
                "consumers": [],
                "lake": lake,
            }
        )
    )
    command = [str(Path(sys.executable).with_name("waybill")), "lake", "compact", *arguments]
    environment = {**os.environ, "WAYBILL_CONFIG": str(config)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )


def logged(process, sentence):
    """Read the log until it says so."""
    lines = []
    for line in process.stderr:
        lines.append(line)
        if sentence in line:
            return
    pytest.fail(f"the log ended without {sentence!r}:\n{''.join(lines)}")


def test_one_that_goes_on_for_ever_outlives_a_storage_that_is_away_and_ends_when_it_is_asked_to(tmp_path, objects):
    away = threading.Event()
    with Detour(objects, lambda message, forward: None if away.is_set() else forward(message)) as detour:
        lake = objects.lake(s3=detour.settings)
        store = opened({**lake, "s3": objects.settings})
        writer = Writer(store)
        writer.write(3)
        process = waybill(tmp_path, lake, "--all", "--every", "1")
        try:
            logged(process, "A step of compaction is done.")
            away.set()
            logged(process, "The lake is not compacted.")
            away.clear()
            writer.write(4)
            logged(process, "A step of compaction is done.")
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
            assert process.returncode == 0
        finally:
            process.kill()
            process.communicate()
        [report] = compact.run(store, [TOPIC], EVERYTHING, everything=True)
        assert report.problems == []
        assert places(store, store.keys(f"main/{TOPIC}")) == writer.truth
