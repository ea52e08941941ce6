"""The sink on a real broker and an object store."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from confluent_kafka.admin import AdminClient
from object_store import SECRET, Detour, Forward, Message, ObjectStore, refusal
from test_lake_sink import BAD, Lake
from test_lake_storage import opened

from connectors.local.state import Stack


class S3Lake(Lake):
    """Sinks whose lake is in a bucket, which they reach through ``tamper``."""

    def __init__(
        self, bootstrap: str, admin: AdminClient, folder: Path, objects: ObjectStore, tamper: Callable[..., object]
    ) -> None:
        self.detour = Detour(objects, tamper)
        self.detour.__enter__()
        self.settings = objects.lake(scratch=str(folder / "scratch"))
        self.storage = opened(self.settings)
        super().__init__(bootstrap, admin, folder, segment_age=1.0)

    def configure(self, *settings: Any) -> None:
        super().configure(*settings)
        path = self.folder / "waybill.yaml"
        written = yaml.safe_load(path.read_text())
        written["lake"] |= self.settings | {"s3": self.detour.settings}
        path.write_text(json.dumps(written))

    def rows(self) -> list[tuple[int, int, bytes, int]]:
        if not any("/0" in key for key in self.storage.keys(f"hot/{self.topic}")):
            return []
        with duckdb.connect() as connection:
            self.storage.attach(connection)
            segments = self.storage.uri(f"hot/{self.topic}/*/*.parquet")
            return connection.execute(
                f"SELECT _partition, _offset, _raw, number FROM read_parquet('{segments}') WHERE _offset IS NOT NULL"
            ).fetchall()

    def quarantined(self) -> list[tuple[int, int]]:
        names = [Path(key).stem for key in self.storage.keys(f"quarantine/{self.topic}")]
        return [(int(name[:5]), int(name[6:])) for name in names]

    def close(self) -> None:
        super().close()
        self.detour.__exit__(None, None, None)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with ObjectStore(tmp_path_factory.mktemp("objects")) as running:
        yield running


@pytest.fixture
def on_s3(
    stack: Stack, admin: AdminClient, tmp_path: Path, objects: ObjectStore
) -> Iterator[Callable[[Callable[..., object]], S3Lake]]:
    """Make a lake behind a detour."""
    made: list[S3Lake] = []

    def make(tamper: Callable[..., object]) -> S3Lake:
        made.append(S3Lake(stack.kafka, admin, tmp_path, objects, tamper))
        return made[0]

    yield make
    made[0].close()


def test_every_committed_record_is_in_the_bucket_once_through_kills_and_a_store_that_fails(
    on_s3: Callable[[Callable[..., object]], S3Lake],
) -> None:
    away, refused = threading.Event(), threading.Event()

    def moody(request: Message, forward: Forward) -> Message:
        if away.is_set():
            refused.set()
            return refusal(503, "SlowDown")
        return forward(request)

    lake = on_s3(moody)

    def value(number: int) -> bytes | None:
        return BAD if number in {100, 950} else lake.payload(number)

    lake.produce(range(800), transactions=True, value=value)
    first = lake.worker()
    lake.wait(lambda: len(lake.rows()) > 100)
    first.kill()
    first.wait()
    both = [lake.worker(), lake.worker()]
    lake.wait(lambda: lake.assigned() == [2, 2])
    lake.produce(range(800, 1600), transactions=True, value=value)
    both[0].kill()
    away.set()
    refused.wait(30)
    away.clear()
    lake.produce(range(1600, 2000), transactions=True)
    expected = lake.in_kafka()
    lake.wait(lambda: len(lake.rows()) + len(lake.quarantined()) >= len(expected))
    lake.stop(both[1])

    rows = lake.rows()
    assert sorted([*((partition, offset) for partition, offset, *_ in rows), *lake.quarantined()]) == sorted(expected)
    assert all(raw == expected[partition, offset] == lake.payload(number) for partition, offset, raw, number in rows)
    assert {expected[place] for place in lake.quarantined()} == {BAD}
    assert SECRET not in (lake.folder / "log").read_text()


def test_a_sink_refuses_to_start_on_a_store_that_ignores_the_condition(
    on_s3: Callable[[Callable[..., object]], S3Lake],
) -> None:
    def ignoring(request: Message, forward: Forward) -> Message:
        request.headers.pop("If-None-Match", None)
        return forward(request)

    lake = on_s3(ignoring)
    lake.produce(range(100))
    worker = lake.worker()
    assert worker.wait(60) != 0
    assert "cannot hold a lake: it let `_lake/probe` be created twice" in (lake.folder / "log").read_text()
    assert lake.rows() == []
