"""``make bench``: what Waybill costs beside what it is built on, all in one run on one machine.

Rates per CPU-second are the figure to trust: the wall clock belongs to everybody on the machine.
"""

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import uuid
from pathlib import Path

import archive
import compaction
import consumers
import isolation
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from rich.console import Console
from rich.table import Table

from connectors.local import control

ROOT = Path(__file__).parents[1]
HOME = ROOT / ".waybill" / "bench"
ROUNDS = int(os.environ.get("ROUNDS", "3"))
EVENTS = int(os.environ.get("EVENTS", "300000"))
#: Stock Faust and calls are slower by an order of magnitude.
FEW = EVENTS // 10
PARTITIONS = 16
TOPIC = "package_delivered"

#: (group, contestant, baseline of the group, events)
LINES = (
    ("consume", "aiokafka", "aiokafka", EVENTS),
    ("consume", "waybill", "aiokafka", EVENTS),
    ("consume", "stock-faust", "aiokafka", FEW),
    ("deliver", "grpc.aio", "grpc.aio", FEW),
    ("deliver", "delivery", "grpc.aio", FEW),
    ("archive", "bare-archive", "bare-archive", EVENTS),
    ("archive", "archive", "bare-archive", EVENTS),
)
NAMES = {
    "aiokafka": "bare aiokafka",
    "waybill": "a Faust agent on Waybill's engine",
    "stock-faust": "a Faust agent, stock",
    "grpc.aio": "bare grpc.aio client, no Kafka",
    "delivery": "a Waybill worker, Kafka to consumer",
    "bare-archive": "a bare loop to Parquet, no promise",
    "archive": "the lake's sink",
}


def main() -> None:
    out = Console()
    out.print("starting Kafka, filling a topic")
    stack = control.up(HOME, lambda *_: None, lambda *_: None)
    service: subprocess.Popen[str] | None = None
    try:
        service, address = start_server()
        config = configure(stack.kafka, address)
        subprocess.run(
            [str(Path(sys.executable).parent / "waybill"), "topics", "apply", "--local"],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "WAYBILL_CONFIG": str(config)},
        )
        topic, archived = (f"bench_{uuid.uuid4().hex[:8]}" for _ in range(2))
        admin = AdminClient({"bootstrap.servers": stack.kafka})
        for created in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in (topic, archived)]).values():
            created.result()
        fill(stack.kafka, topic, EVENTS)
        lake = archive.configure(HOME / "archive", stack.kafka, archived)
        archive.fill(stack.kafka, lake, archived, EVENTS)
        results: dict[str, list[dict[str, float]]] = {name: [] for _, name, _, _ in LINES}
        for number in range(ROUNDS):
            out.print(f"round {number + 1} of {ROUNDS}")
            for group, name, _, count in LINES:
                if name == "delivery":
                    fill(stack.kafka, TOPIC, count)
                where = address if name == "grpc.aio" else stack.kafka
                shutil.rmtree(lake.parent / "lake", ignore_errors=True)
                told = (archived, lake) if group == "archive" else (topic, config)
                results[name].append(measure(name, count, where, *told))
        out.print(table(results))
        out.print("two consumers, one of them in trouble by turns")
        out.print(isolation.table(isolation.measure(HOME, stack.kafka, free_port, ROUNDS)))
        out.print(compaction.table(compaction.measure(HOME, EVENTS, ROUNDS)))
    finally:
        if service:
            service.kill()
        control.down(HOME)


def measure(name: str, count: int, where: str, topic: str, config: Path) -> dict[str, float]:
    env = {**os.environ, "WAYBILL_CONFIG": str(config), "WAYBILL_METRICS_PORT": str(free_port())}
    command = [sys.executable, str(ROOT / "benchmarks/contestants.py"), name, str(count), where, topic]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env, cwd=ROOT, timeout=300)
    found = re.search(r"\{.*\}", done.stdout)  # Faust's worker plays with the cursor before it
    if not found:
        raise SystemExit(f"{name} ended without a result:\n{done.stdout}{done.stderr}")
    result: dict[str, float] = json.loads(found[0])
    return result


def table(results: dict[str, list[dict[str, float]]]) -> Table:
    """Medians over the rounds, and the ratio of a line's rate per CPU-second to its baseline's."""

    def median(name: str, by: str) -> float:
        return statistics.median(r["events"] / r[by] for r in results[name])

    rows = Table(title=f"{ROUNDS} rounds, medians; 300 B and 3 or 4 headers an event; {os.cpu_count()} cores")
    for column in ("", "events/s", "events per CPU-s", "of the baseline", "MB at most"):
        rows.add_column(column, justify="left" if not column else "right")
    for group, name, baseline, _ in LINES:
        ratio = median(name, "cpu") / median(baseline, "cpu")
        rate, cpu = f"{median(name, 'wall'):,.0f}", f"{median(name, 'cpu'):,.0f}"
        most = max(result["rss"] for result in results[name]) / 1e6
        rows.add_row(f"{group}: {NAMES[name]}", rate, cpu, "1" if name == baseline else f"{ratio:.2f}", f"{most:.0f}")
    return rows


def fill(bootstrap: str, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "queue.buffering.max.messages": count + 1})
    headers = [("ce_type", b"logistics.v1.PackageDeliveredEvent"), ("ce_source", b"bench")]
    for number in range(count):
        producer.produce(topic, b"x" * 300, headers=[("ce_id", b"%036d" % number), *headers])
    if producer.flush(120):
        raise SystemExit("Kafka did not take all events within two minutes")


def configure(bootstrap: str, address: str) -> Path:
    host, port = address.split(":")
    consumer = {
        "grpc-server-hostname": host,
        "grpc-server-port": int(port),
        "max-in-flight": 128,
        "retry-topic": "bench_retry",
        "dlq-topic": "bench_dlq",
        "distribution": [{"topic": TOPIC, "services": ["PackageDelivered"]}],
    }
    return consumers.configure(HOME, bootstrap, {"bench": consumer})


def start_server() -> tuple[subprocess.Popen[str], str]:
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, str(ROOT / "benchmarks/contestants.py"), "server", "0", address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    if process.stdout is None or process.stdout.readline() != "up\n":
        raise SystemExit("the consumer service did not start")
    return process, address


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
