"""The storage's promises, with real processes."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from connectors.problems import BadInput
from lake import storage
from lake.storage.local import LocalStorage

ROOT = Path(__file__).parents[2]

RACER = """
import sys
from pathlib import Path
from lake.storage import create_bytes
from lake.storage.local import LocalStorage
store = LocalStorage(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
won = [i for i in range(200) if create_bytes(store, f"hot/t/e/{i}", sys.argv[2].encode() * 10_000)]
print(*won, flush=True)
"""

HOLDER = """
import sys
from pathlib import Path
from lake.storage.local import LocalStorage
store = LocalStorage(Path(sys.argv[1]))
print(store.scratch, flush=True)
sys.stdin.readline()
"""


def python(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def test_of_processes_that_create_one_name_exactly_one_wins_and_its_content_stays(tmp_path):
    racers = {name: python(RACER, tmp_path, name) for name in "abcd"}
    for racer in racers.values():
        assert racer.stdout.readline() == "ready\n"
    for racer in racers.values():
        racer.stdin.write("go\n")
        racer.stdin.flush()
    wins = {name: set(map(int, racer.communicate(timeout=60)[0].split())) for name, racer in racers.items()}
    assert sum(map(len, wins.values())) == 200
    for name, won in wins.items():
        assert all((tmp_path / f"hot/t/e/{i}").read_text() == name * 10_000 for i in won)


def test_of_threads_that_create_one_name_exactly_one_wins(tmp_path):
    stores = [LocalStorage(tmp_path) for _ in range(8)]
    barrier, wins = threading.Barrier(len(stores)), []

    def race(store):
        for i in range(25):
            barrier.wait()
            if storage.create_bytes(store, f"a/{i}", b"x"):
                wins.append(i)

    threads = [threading.Thread(target=race, args=[store]) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wins) == list(range(25))


def test_what_is_being_written_has_no_name_that_a_reader_would_take(tmp_path):
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


def test_a_local_folder_passes_the_probe_again_and_again(tmp_path):
    for _ in range(3):
        storage.probe(LocalStorage(tmp_path))


def test_a_file_in_the_place_of_the_lake_is_refused(tmp_path):
    (tmp_path / "lake").write_text("")
    with pytest.raises(BadInput, match="cannot hold a lake: Not a directory"):
        LocalStorage(tmp_path / "lake").scratch  # noqa: B018 - claimed when it is asked for


def test_replacing_is_seen_whole(tmp_path):
    store = LocalStorage(tmp_path)
    storage.replace_bytes(store, "views.sql", b"one")
    storage.replace_bytes(store, "views.sql", b"two")
    assert (tmp_path / "views.sql").read_bytes() == b"two"
    assert store.keys("") == ["views.sql"]


def test_the_scratch_folder_of_a_killed_process_is_swept_and_that_of_a_living_one_is_not(tmp_path):
    killed, living = python(HOLDER, tmp_path), python(HOLDER, tmp_path)
    folders = [Path(process.stdout.readline().strip()) for process in (killed, living)]
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    mine = LocalStorage(tmp_path)
    assert mine.scratch.exists()
    assert not folders[0].exists()
    assert folders[1].exists()
    living.communicate("\n", timeout=30)
