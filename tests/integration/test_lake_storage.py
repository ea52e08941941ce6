"""The storage's promises, kept by a folder and by S3, with real processes."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from object_store import ObjectStore

from connectors import yaml_source
from connectors.problems import BadInput, Problem
from connectors.settings import Lake
from lake import storage
from lake.storage.local import LocalStorage

ROOT = Path(__file__).parents[2]
WRITERS, KEYS = 16, 60

PRELUDE = """
import sys
from pathlib import Path
from threading import Barrier, Thread
from connectors import yaml_source
from connectors.settings import Lake
from lake import storage
store = storage.of(Lake.read(yaml_source.parse(sys.argv[1], "lake.yaml"))[0])
"""

RACER = (
    PRELUDE
    + """
won = []
def race(name):
    store = storage.of(Lake.read(yaml_source.parse(sys.argv[1], "lake.yaml"))[0])
    store.keys("")
    barrier.wait()
    if name == sys.argv[2]:
        print("ready", flush=True)
        sys.stdin.readline()
    barrier.wait()
    for i in range(int(sys.argv[3])):
        if storage.create_bytes(store, f"hot/t/e/{i}", name.encode() * 10_000):
            won.append(f"{name}{i}")
barrier = Barrier(len(sys.argv[2:3] + list(sys.argv[4])))
threads = [Thread(target=race, args=[name]) for name in sys.argv[2] + sys.argv[4]]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(*won, flush=True)
"""
)

WRITER = (
    PRELUDE
    + """
for line in sys.stdin:
    storage.replace_bytes(store, *eval(line))
    print("done", flush=True)
"""
)

HOLDER = (
    PRELUDE
    + """
print(store.scratch, flush=True)
sys.stdin.readline()
"""
)


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    with ObjectStore(tmp_path_factory.mktemp("objects")) as running:
        yield running


@pytest.fixture(params=["folder", "s3"])
def lake(request, tmp_path):
    """The mapping ``lake`` of the settings."""
    if request.param == "folder":
        return {"root": str(tmp_path / "lake")}
    return request.getfixturevalue("objects").lake(scratch=str(tmp_path / "scratch"))


def opened(lake):
    read, findings = Lake.read(yaml_source.parse(json.dumps(lake), "lake.yaml"))
    assert not findings
    return storage.of(read)


@pytest.fixture
def store(lake):
    return opened(lake)


def python(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def table(store, key, numbers):
    out = io.BytesIO()
    pq.write_table(pa.table({"number": list(numbers)}, metadata={"waybill.next": "7"}), out)
    assert storage.create_bytes(store, key, out.getvalue())


def test_what_is_created_is_read_back_and_stays_what_it_is(store):
    assert storage.create_bytes(store, "a/one", b"first")
    assert not storage.create_bytes(store, "a/one", b"second")
    assert storage.read_bytes(store, "a/one") == b"first"


def test_creating_leaves_the_source_where_it_is(store):
    source = store.scratch / "source"
    source.write_bytes(b"x")
    assert store.create(source, "a")
    assert source.read_bytes() == b"x"


def test_replacing_is_seen_whole(store):
    storage.replace_bytes(store, "views.sql", b"one")
    storage.replace_bytes(store, "views.sql", b"twice as long")
    assert storage.read_bytes(store, "views.sql") == b"twice as long"
    assert store.keys("") == ["views.sql"]


def test_what_is_deleted_is_gone_and_may_be_created_again(store):
    storage.create_bytes(store, "a/one", b"x")
    store.delete("a/one")
    store.delete("a/one")
    assert store.keys("a") == []
    assert storage.create_bytes(store, "a/one", b"y")


def test_keys_and_sizes_are_of_a_folder_and_below_and_of_no_other_that_begins_alike(store):
    keys = ["hot/t/e/1", "hot/t/e/2", "hot/t/f/1", "hot/tt/e/1", "hot/t=1", "x"]
    for size, key in enumerate(keys):
        storage.create_bytes(store, key, b"x" * size)
    assert sorted(store.keys("hot/t")) == keys[:3]
    assert store.sizes("hot/t/e") == {"hot/t/e/1": 0, "hot/t/e/2": 1}
    assert sorted(store.keys("")) == sorted(keys)
    assert store.keys("hot/t/e/1/") == store.keys("none") == []


@pytest.mark.parametrize("key", ["a", "a/b/c", "b"])
def test_opening_what_is_not_there_says_so_even_where_it_is_a_folder(store, key):
    storage.create_bytes(store, "a/b/c/d", b"x")
    with pytest.raises(FileNotFoundError if key == "b" or not isinstance(store, LocalStorage) else IsADirectoryError):
        store.open(key)


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_an_object_can_be_read_anywhere_in_it(store, size):
    content = os.urandom(size)
    storage.create_bytes(store, "a", content)
    with store.open("a") as file:
        assert file.read() == content
        assert file.seek(-min(5, size), os.SEEK_END) == size - min(5, size)
        assert file.read(3) == content[-min(5, size) :][:3]
        assert file.seek(size // 2) == file.tell() == size // 2
        assert file.read(size // 4) == content[size // 2 : size // 2 + size // 4]
        assert file.seek(size + 7) == size + 7
        assert file.read(1) == b""


def test_the_footer_of_a_parquet_object_is_read(store):
    table(store, "t.parquet", range(3))
    assert storage.footer(store, "t.parquet") == {"waybill.next": "7"}


def test_what_is_no_parquet_is_told_with_its_name(store):
    storage.create_bytes(store, "t.parquet", b"nonsense")
    with pytest.raises(Problem, match=r"t\.parquet cannot be read as Parquet"):
        storage.footer(store, "t.parquet")


def test_duckdb_reads_patterns_and_partitions_of_it(store):
    for day in (1, 2, 3):
        table(store, f"main/t/dt=2026-01-0{day}/{day}.parquet", range(day * 1000))
    table(store, "main/other/dt=2026-01-01/1.parquet", range(9))
    with duckdb.connect() as connection:
        store.attach(connection)
        rows = connection.execute(
            f"SELECT dt, count(*), sum(number) FROM read_parquet('{store.uri('main/t/*/*.parquet')}', "
            "hive_partitioning = true) WHERE dt > DATE '2026-01-01' GROUP BY dt ORDER BY dt"
        ).fetchall()
        one = connection.execute(f"SELECT count(*) FROM '{store.uri('main/t/dt=2026-01-03/3.parquet')}'").fetchone()
    assert [row[1:] for row in rows] == [(2000, 1999000), (3000, 4498500)]
    assert one == (3000,)


def test_duckdb_finds_no_file_where_there_is_none(store):
    with duckdb.connect() as connection:
        store.attach(connection)
        with pytest.raises(duckdb.IOException, match="No files found"):
            connection.execute(f"FROM read_parquet('{store.uri('none/*.parquet')}')")


def test_of_processes_that_create_one_name_exactly_one_wins_and_its_content_stays(lake, store):
    names = "abcdefghijklmnop"
    assert len(names) == WRITERS
    racers = [python(RACER, json.dumps(lake), group[0], KEYS, group[1:]) for group in (names[:8], names[8:])]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    wins = [won for racer in racers for won in racer.communicate(timeout=90)[0].split()]
    assert sorted(int(won[1:]) for won in wins) == list(range(KEYS))
    for won in wins:
        assert storage.read_bytes(store, f"hot/t/e/{won[1:]}").decode() == won[0] * 10_000


def test_what_another_process_does_is_seen_at_once(lake, store):
    writer = python(WRITER, json.dumps(lake))

    def write(key, content):
        writer.stdin.write(f"{(key, content)!r}\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == "done\n"

    assert store.keys("a") == []
    with pytest.raises(FileNotFoundError):
        store.open("a/1")
    write("a/1", b"one")
    assert store.sizes("a") == {"a/1": 3}
    assert storage.read_bytes(store, "a/1") == b"one"
    write("a/1", b"another")
    write("a/2", b"")
    assert store.sizes("a") == {"a/1": 7, "a/2": 0}
    assert storage.read_bytes(store, "a/1") == b"another"
    writer.communicate()


def test_an_error_while_a_file_is_made_publishes_nothing(store):
    path = store.scratch / "half.parquet"

    def make():
        with pq.ParquetWriter(path, pa.schema([("number", pa.int64())])) as writer:
            writer.write_table(pa.table({"number": [1]}))
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        make()
    assert store.keys("hot") == []


def test_a_source_that_is_missing_is_an_error_and_creates_nothing(store):
    with pytest.raises(FileNotFoundError):
        store.create(store.scratch / "nothing", "a/1")
    assert store.keys("a") == []


def test_it_passes_the_probe_again_and_again(store):
    for _ in range(3):
        storage.probe(store)


def test_the_scratch_folder_of_a_killed_process_is_swept_and_that_of_a_living_one_is_not(lake, store):
    killed, living = python(HOLDER, json.dumps(lake)), python(HOLDER, json.dumps(lake))
    folders = [Path(process.stdout.readline().strip()) for process in (killed, living)]
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert store.scratch.exists()
    assert not folders[0].exists()
    assert folders[1].exists()
    living.communicate("\n", timeout=30)


def test_of_threads_that_create_one_name_exactly_one_wins(lake):
    stores = [opened(lake) for _ in range(8)]
    barrier, wins = threading.Barrier(len(stores)), []

    def race(store):
        for i in range(10):
            barrier.wait()
            if storage.create_bytes(store, f"a/{i}", b"x"):
                wins.append(i)

    threads = [threading.Thread(target=race, args=[store]) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wins) == list(range(10))


def test_what_is_being_written_in_a_folder_has_no_name_that_a_reader_would_take(tmp_path):
    seen = []

    class Watched(LocalStorage):
        def create(self, source, key):
            seen.extend(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
            return super().create(source, key)

    storage.create_bytes(Watched(tmp_path), "hot/t/e/1.parquet", b"x")
    assert all(Path(name).name.startswith(".") for name in seen)
    assert any(name.endswith(".tmp") for name in seen)


def test_a_storage_that_lets_a_name_be_created_twice_is_refused(tmp_path):
    class Careless(LocalStorage):
        def create(self, source, key):
            self.replace(source, key)
            return True

    with pytest.raises(BadInput, match="let `_lake/probe` be created twice"):
        storage.probe(Careless(tmp_path))


def test_a_file_in_the_place_of_the_lake_is_refused(tmp_path):
    (tmp_path / "lake").write_text("")
    with pytest.raises(BadInput, match="cannot hold a lake: Not a directory"):
        LocalStorage(tmp_path / "lake").scratch  # noqa: B018 - claimed when it is asked for


def test_a_file_in_the_place_of_the_scratch_folder_is_refused(objects, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"file.* cannot hold a lake: .*; lake\.scratch needs"):
        opened(objects.lake(scratch=str(tmp_path / "file"))).scratch  # noqa: B018 - as above
