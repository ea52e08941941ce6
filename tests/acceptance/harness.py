"""Real processes around a test: consumer services, workers, records in Kafka, and the ledger that compares them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from google.protobuf import descriptor_pb2
from waybill.v1 import options_pb2

from connectors.access import Access
from connectors.kafka import reader
from connectors.local.state import Stack
from pipelines import handover
from pipelines.handover import HandOver

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


def wait_until(condition: Callable[[], object], timeout: float, what: str) -> None:
    """Poll ``condition`` until it is true; fail with ``what`` after ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"after {timeout:.0f} s still not: {what}")
        threading.Event().wait(0.1)


class Process:
    """A child with its output in a file; ended with the test."""

    port = 0  # of a worker's metrics and health

    def __init__(self, command: list[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                command, stdout=output, stderr=output, cwd=ROOT, env={**os.environ, **(env or {})}
            )

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def terminate(self, timeout: float = 60) -> int:
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(timeout)


class ConsumerService:
    """The service behind a consumer's endpoints, restarted when it dies, until it is stopped."""

    def __init__(self, folder: Path, name: str, port: int) -> None:
        self.ledger_file, self.behaviour_file = folder / f"{name}.ledger", folder / f"{name}.json"
        self.ledger_file.touch()
        self.told: dict = {}
        self.tell()
        self.folder, self.name, self.port = folder, name, port
        self.process: Process | None = None
        self.wanted, self.closed = threading.Event(), False
        self.keeper = threading.Thread(target=self._keep, daemon=True)
        self.start()
        self.keeper.start()

    def tell(self, **behaviour: object) -> None:
        """Change how it answers from the next call on."""
        self.told.update(behaviour)
        draft = self.behaviour_file.with_suffix(".new")
        draft.write_text(json.dumps(self.told))
        draft.replace(self.behaviour_file)

    def start(self) -> None:
        self.wanted.set()

    def stop(self) -> None:
        """Down, with kill -9, until started again."""
        self.wanted.clear()
        if self.process:
            self.process.kill()

    def close(self) -> None:
        self.closed = True
        self.stop()
        self.wanted.set()
        self.keeper.join()

    def _keep(self) -> None:
        while not self.closed:
            self.wanted.wait()
            if not self.closed and (self.process is None or not self.process.alive):
                arguments = [f"127.0.0.1:{self.port}", str(self.ledger_file), str(self.behaviour_file)]
                command = [sys.executable, str(HERE / "service.py"), *arguments]
                self.process = Process(command, self.folder / f"{self.name}.log")
            threading.Event().wait(0.05)

    def calls(self) -> list[list[str]]:
        """[status, ce-id, method, attempt, size, time, process, left] of each call, in order."""
        whole, _, _being_written = self.ledger_file.read_text().rpartition("\n")
        return [line.split() for line in whole.splitlines()]

    def accepted(self, method: str | None = None) -> Counter:
        """How often each event was accepted."""
        return Counter(c[1] for c in self.calls() if c[0] == "OK" and method in (None, c[2]))


@dataclass
class World:
    """One test's own topics, schemas, configuration and processes on the shared stack.

    With an empty ``tag`` names stay as they are and topics stay: for a stack of one's own.
    """

    stack: Stack
    folder: Path
    tag: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    processes: list[Process] = field(default_factory=list)
    services: list[ConsumerService] = field(default_factory=list)
    consumers: dict[str, dict] = field(default_factory=dict)
    settings: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.access = Access(self.stack.kafka)
        self.types: dict[str, str] = {}
        self._write_descriptors()
        self.producer = Producer(
            {
                "bootstrap.servers": self.stack.kafka,
                "enable.idempotence": True,
                "linger.ms": 5,
                "message.max.bytes": 8 << 20,
                "log_level": 0,
            }
        )
        self.saved: dict[str, set[str]] = {}

    def topic(self, base: str) -> str:
        return f"{base}_{self.tag}" if self.tag else base

    def name(self, base: str) -> str:
        return f"{base}-{self.tag}" if self.tag else base

    def _write_descriptors(self) -> None:
        """The example domain with topics of our own and a second service that takes the same events."""
        files = descriptor_pb2.FileDescriptorSet.FromString((ROOT / "proto/descriptors.binpb").read_bytes())
        audit = next(f for f in files.file if any(s.name == "EventsAPI" for s in f.service)).service.add(
            name="AuditAPI"
        )
        for file in files.file:
            for message in file.message_type:
                if not message.options.HasExtension(options_pb2.event):
                    continue
                full = f"{file.package}.{message.name}"
                base = "".join(f"_{c.lower()}" if c.isupper() else c for c in message.name.removesuffix("Event")).strip(
                    "_"
                )
                message.options.Extensions[options_pb2.event].topic = self.topic(base)
                self.types[self.topic(base)] = full
                method = f"Audit{message.name.removesuffix('Event')}"
                audit.method.add(name=method, input_type=f".{full}", output_type=".google.protobuf.Empty")
        (self.folder / "descriptors.binpb").write_bytes(files.SerializeToString())

    def consumer(self, base: str, distribution: dict[str, list[str]], **keys: object) -> ConsumerService:
        """Declare a consumer and start its service."""
        name = self.name(base)
        port = free_port()
        self.consumers[name] = {
            "grpc-server-hostname": "127.0.0.1",
            "grpc-server-port": port,
            "retry-topic": self.topic(f"{base}_retry"),
            "dlq-topic": self.topic(f"{base}_dlq"),
            **keys,
            "distribution": [{"topic": self.topic(t), "services": list(s)} for t, s in distribution.items()],
        }
        service = ConsumerService(self.folder, base, port)
        self.services.append(service)
        return service

    def apply(self) -> None:
        """Write the configuration and create the topics, as a team would."""
        settings = {
            "kafka": {"bootstrap-servers": self.stack.kafka},
            "connect": {"url": self.stack.connect},
            "descriptors": "descriptors.binpb",
            "consumers": ["consumers.yaml"],
            "lake": {"root": "lake", "segment-age": 1},
            **self.settings,
        }
        settings["kafka"]["session-timeout"] = 6
        (self.folder / "waybill.yaml").write_text(json.dumps(settings))
        (self.folder / "consumers.yaml").write_text(json.dumps({"consumers": self.consumers}))
        self.waybill("topics", "apply", *([] if "," in self.stack.kafka else ["--local"]))

    @property
    def env(self) -> dict[str, str]:
        return {"WAYBILL_CONFIG": str(self.folder / "waybill.yaml")}

    def waybill(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [str(Path(sys.executable).parent / "waybill"), *arguments],
            cwd=ROOT,
            env={**os.environ, **self.env},
            check=False,
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert not check or done.returncode == 0, f"waybill {' '.join(arguments)}: {done.stdout}\n{done.stderr}"
        return done

    def worker(self, base: str) -> Process:
        """A worker of a consumer, started as the README says: the stock ``faust worker``."""
        return self.faust(f"pipelines.apps:{self.name(base).replace('-', '_')}", f"{base}-worker.log")

    def faust(self, app: str, log: str) -> Process:
        command = [str(Path(sys.executable).parent / "faust"), "-A", app, "worker", "-l", "info"]
        port = free_port()
        process = Process(command, self.folder / log, {**self.env, "WAYBILL_METRICS_PORT": str(port)})
        process.port = port
        self.processes.append(process)
        return process

    def produce(self, base: str, count: int = 1, **shape: object) -> list[str]:
        """``count`` events, acknowledged by the broker; their ids."""
        ids = [self.put(base, **shape) for _ in range(count)]
        assert self.producer.flush(60) == 0
        return ids

    def put(
        self, base: str, *, value: bytes | None = b"\x0a\x00", key: bytes = b"k", headers: list | None = None
    ) -> str:
        """Queue one event.  ``headers`` replaces all of the usual ones."""
        topic, event = self.topic(base), str(uuid.uuid4())
        usual = [("ce_specversion", "1.0"), ("ce_id", event), ("ce_type", self.types[topic]), ("ce_source", "test")]
        saved = self.saved.setdefault(topic, set())

        def acknowledged(error: object, _: object) -> None:
            assert error is None, error
            saved.add(event)

        while True:
            try:
                self.producer.produce(
                    topic, value, key, headers=usual if headers is None else headers, on_delivery=acknowledged
                )
            except BufferError:
                self.producer.poll(0.1)
            else:
                self.producer.poll(0)
                return event

    def lag(self, group: str, *topics: str) -> int:
        """Records of ``topics`` that ``group`` has not committed."""
        consumer = Consumer({"bootstrap.servers": self.stack.kafka, "group.id": group})
        try:
            lag = 0
            for topic in topics:
                ends = reader.ends(self.access, topic)
                committed = consumer.committed([TopicPartition(topic, p) for p in ends], timeout=20)
                lag += sum(
                    ends[c.partition][1] - (c.offset if c.offset >= 0 else ends[c.partition][0]) for c in committed
                )
            return lag
        finally:
            consumer.close()

    def settled(self, base: str) -> bool:
        """Nothing of a consumer is on its way any more: events and retries are all committed."""
        assert any(process.alive for process in self.processes), f"no worker is left, see {self.folder}"
        name, told = self.name(base), self.consumers[self.name(base)]
        topics = [d["topic"] for d in told["distribution"]]
        return self.lag(f"waybill-{name}", *topics) == 0 and self.lag(f"waybill-{name}-retry", told["retry-topic"]) == 0

    def records(self, topic: str) -> Iterable:
        return list(reader.scan(self.access, topic, reader.ends(self.access, topic)))

    def dead_letters(self, base: str) -> list[tuple[str, HandOver]]:
        """(event id, hand-over) of every record in a consumer's DLQ."""
        return [_identified(r) for r in self.records(self.topic(f"{base}_dlq"))]

    def retries(self, base: str) -> list[tuple[str, HandOver]]:
        return [_identified(r) for r in self.records(self.topic(f"{base}_retry"))]

    def close(self) -> None:
        for process in self.processes:
            if process.alive:
                process.kill()
        for service in self.services:
            service.close()
        if not self.tag:
            return
        # A broker that keeps the topics of all tests is slow to start again.
        admin = AdminClient({"bootstrap.servers": self.stack.kafka})
        ours = [topic for topic in admin.list_topics(timeout=20).topics if self.tag in topic]
        for deleted in admin.delete_topics(ours).values():
            deleted.result(20)


@contextmanager
def load(world: World, base: str, per_second: int) -> Iterator[list[str]]:
    """A steady stream of events while the block runs."""
    ids: list[str] = []
    ended = threading.Event()

    def produce() -> None:
        while not ended.wait(1 / per_second):
            ids.append(world.put(base, key=b"%d" % len(ids)))  # into every partition

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield ids
    finally:
        ended.set()
        thread.join()
        assert world.producer.flush(60) == 0


def _identified(record: object) -> tuple[str, HandOver]:
    return dict(record.headers)["ce_id"].decode(), handover.parse(record.headers)


def free_port() -> int:
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
