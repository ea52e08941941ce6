"""What a sink needs of a machine is bounded, however many partitions it has and however much waits in them."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from descriptors import compiled
from google.protobuf.message_factory import GetMessageClass

from connectors import schemas
from connectors.local.state import Stack

ROOT = Path(__file__).parents[2]
#: `make soak` takes 16 and 500 partitions, and 410,000 records.
PARTITIONS = int(os.environ.get("WAYBILL_LAKE_PARTITIONS", "500"))
BACKLOG = int(os.environ.get("WAYBILL_LAKE_BACKLOG", "60000"))
#: Partitions that have nearly all of it; the others have ``FEW`` records each.
BUSY, FEW = 10, 20
#: Bytes of resident memory that a sink may need.
LIMIT = 256_000_000
PATIENCE = 60 + BACKLOG / 2000

PROTO = """
syntax = "proto3";
package lake_test.v1;
import "google/protobuf/timestamp.proto";
import "waybill/v1/options.proto";
message ParcelWeighed {{
  option (waybill.v1.event) = {{topic: "{topic}"}};
  uint64 number = 1;
  google.protobuf.Timestamp at = 2;
  repeated Part parts = 3;
  map<string, string> labels = 4;
  message Part {{
    string name = 1;
    bytes picture = 2;
    double grams = 3;
  }}
}}
"""


@pytest.fixture
def topic(admin: AdminClient) -> Iterator[str]:
    name = f"parcel_weighed_{uuid.uuid4().hex[:8]}"
    admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(60)
    yield name
    admin.delete_topics([name])[name].result(60)


def configure(folder: Path, kafka: str, topic: str) -> Path:
    """All of the lake's settings are the defaults, but for when segments are closed."""
    protos = folder / "protos"
    (protos / "waybill/v1").mkdir(parents=True)
    (protos / "waybill/v1/options.proto").write_bytes((ROOT / "proto/waybill/v1/options.proto").read_bytes())
    (protos / "parcels.proto").write_text(PROTO.format(topic=topic))
    (folder / "descriptors.binpb").write_bytes(compiled(protos))
    path = folder / "waybill.yaml"
    path.write_text(
        f"""
kafka: {{bootstrap-servers: "{kafka}", session-timeout: 30}}
descriptors: descriptors.binpb
consumers: [consumers/*.yaml]
lake: {{root: lake, segment-age: 10}}
"""
    )
    return path


def fill(folder: Path, kafka: str, topic: str) -> None:
    """Events of about 1 KB that compress badly."""
    event = schemas.load(folder / "descriptors.binpb").event(topic)
    assert event
    message, rng = GetMessageClass(event.descriptor), random.Random(1)
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 20, "queue.buffering.max.messages": BACKLOG})
    for number in range(BACKLOG):
        parts = [{"name": f"part {part}", "picture": rng.randbytes(200), "grams": part / 3} for part in range(4)]
        content = message(number=number, parts=parts, labels={"fragile": "yes"})
        headers = [("ce_id", f"{number:036}"), ("ce_type", event.name), ("ce_source", "scales")]
        at = number % (PARTITIONS if number < PARTITIONS * FEW else min(BUSY, PARTITIONS))
        producer.produce(topic, content.SerializeToString(), f"{number}", at, headers=headers)
    assert producer.flush(60) == 0


def published(port: int) -> float:
    """Rows, as the sink's metrics say."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            lines = page.read().decode().splitlines()
    except OSError:  # it does not listen yet
        return 0
    return sum(float(line.split()[-1]) for line in lines if line.startswith("waybill_lake_rows_total{"))


def most_resident(process: "subprocess.Popen[bytes]") -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


@pytest.mark.timeout(3 * PATIENCE)
def test_a_backlog_over_many_partitions_takes_no_more_memory_than_the_settings_say(
    stack: Stack, topic: str, tmp_path: Path
) -> None:
    config = configure(tmp_path, stack.kafka, topic)
    fill(tmp_path, stack.kafka, topic)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**os.environ, "WAYBILL_CONFIG": str(config), "WAYBILL_METRICS_PORT": str(port), "GROUP": topic}
    command = [sys.executable, "-m", "faust", "-A", "lean_lake_app:app", "worker", "-l", "info"]
    with (tmp_path / "log").open("wb") as log:
        sink = subprocess.Popen(command, cwd=Path(__file__).parent, stdout=log, stderr=log, env=env)
    try:
        end = time.monotonic() + PATIENCE
        while published(port) < BACKLOG:
            assert time.monotonic() < end, (tmp_path / "log").read_text()[-5000:]
            time.sleep(0.2)
        most = most_resident(sink)
        sink.send_signal(signal.SIGTERM)
        assert sink.wait(60) == 0
    finally:
        sink.kill()
        sink.wait()
    assert most < LIMIT, most
