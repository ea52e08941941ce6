"""What a neighbour in trouble costs a consumer: time from produced to accepted, beside a well one and a hanging one.

Both consumers have a service and a worker of their own; events come slowly, so that waiting is measured and not the
lack of a core.  ``isolation.py ADDRESS MOOD LEDGER`` is such a service: hangs while the file MOOD says so, and ledgers
the seconds each event took.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import consumers
from confluent_kafka import Producer
from rich.table import Table

SECONDS = float(os.environ.get("SECONDS", "10"))
PER_SECOND = 200
TOPIC = "package_created"
CONSUMERS = ("steady", "neighbour")
MOODS = ("well", "hanging")
PATIENCE = 120.0


class Service:
    """One consumer's service, in a process of its own."""

    def __init__(self, folder: Path, name: str, address: str) -> None:
        self.mood, self.ledger, self.address = folder / f"{name}.mood", folder / f"{name}.ledger", address
        self.mood.write_text("well")
        self.ledger.write_text("")
        self.command = [sys.executable, __file__, address, str(self.mood), str(self.ledger)]

    def seconds(self) -> list[float]:
        """How long each event took that was accepted, in order."""
        return [float(line) for line in self.ledger.read_text().splitlines()]


def measure(home: Path, bootstrap: str, free_port: Callable[[], int], rounds: int) -> dict[str, list[list[float]]]:
    """Seconds of each event of the steady consumer, by the mood of its neighbour and round."""
    services = [Service(home, name, f"127.0.0.1:{free_port()}") for name in CONSUMERS]
    waybill = str(Path(sys.executable).parent / "waybill")
    named = {name: consumer(service, name) for name, service in zip(CONSUMERS, services, strict=True)}
    config = consumers.configure(home / "isolation", bootstrap, named)
    env = {**os.environ, "WAYBILL_CONFIG": str(config)}
    subprocess.run([waybill, "topics", "apply", "--local"], check=True, stdout=subprocess.DEVNULL, env=env)
    steady, neighbour = services
    found: dict[str, list[list[float]]] = {mood: [] for mood in MOODS}
    with ExitStack() as running:
        for service in services:
            running.enter_context(process(service.command, env))
        for name in CONSUMERS:
            metrics = {"WAYBILL_METRICS_PORT": str(free_port())}
            running.enter_context(process([waybill, "worker", name], {**env, **metrics}))
        producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
        total = produce(producer, 1.0)  # not measured: connections are made
        for _ in range(rounds):
            for mood in MOODS:
                wait_until(lambda: min(len(service.seconds()) for service in services) >= total)  # noqa: B023 - called at once
                before = len(steady.seconds())
                neighbour.mood.write_text(mood)
                total += produce(producer, SECONDS)
                wait_until(lambda: len(steady.seconds()) >= total)  # noqa: B023 - called at once
                found[mood].append(steady.seconds()[before:])
                neighbour.mood.write_text("well")
    return found


def produce(producer: Producer, seconds: float) -> int:
    """Produce steadily; how many events."""
    count, began = int(seconds * PER_SECOND), time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number / PER_SECOND - time.monotonic()))
        headers = [("ce_id", str(time.time_ns()).encode()), ("ce_type", b"logistics.v1.PackageCreatedEvent")]
        producer.produce(TOPIC, b"x" * 300, headers=headers)
        producer.poll(0)
    producer.flush()
    return count


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"events did not arrive within {PATIENCE:.0f} s: see the logs of both workers")
        time.sleep(0.1)


def table(found: dict[str, list[list[float]]]) -> Table:
    """Medians over the rounds of each round's percentiles."""
    rows = Table(title=f"a consumer and its neighbour, a worker each; {PER_SECOND} events/s")
    for column in ("time from produced to accepted", "p50", "p99", "p99, to a well one's"):
        rows.add_column(column, justify="right" if column.startswith("p") else "left")
    calm = percentile(found["well"], 99)
    for mood in MOODS:
        half, most = percentile(found[mood], 50), percentile(found[mood], 99)
        rows.add_row(f"beside a neighbour {mood}", f"{half * 1e3:.1f} ms", f"{most * 1e3:.1f} ms", f"{most / calm:.2f}")
    return rows


def percentile(rounds: list[list[float]], of_hundred: int) -> float:
    return statistics.median(statistics.quantiles(seconds, n=100)[of_hundred - 1] for seconds in rounds)


def consumer(service: Service, name: str) -> dict[str, Any]:
    return {
        "grpc-server-hostname": "127.0.0.1",
        "grpc-server-port": int(service.address.rpartition(":")[2]),
        "timeout": 1,
        "breaker": {"probe-interval": 1},
        "retry-topic": f"{name}_retry",
        "dlq-topic": f"{name}_dlq",
        "distribution": [{"topic": TOPIC, "services": ["PackageCreated"]}],
    }


@contextmanager
def process(command: list[str], env: dict[str, str]) -> Iterator[None]:
    running = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        running.kill()
        running.wait()


async def serve(address: str, mood: Path, ledger: Path) -> None:
    with ledger.open("a", buffering=1) as lines:

        async def answer(_: bytes, context: Any) -> bytes:
            sent = next(int(value) for key, value in context.invocation_metadata() if key == "ce-id")
            if mood.read_text() == "hanging":  # noqa: ASYNC240 - a few bytes, from memory
                await asyncio.sleep(3600)
            lines.write(f"{(time.time_ns() - sent) / 1e9}\n")
            return b""

        await consumers.serve(address, answer)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
