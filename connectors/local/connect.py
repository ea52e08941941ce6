"""Kafka Connect: one distributed worker with exactly-once sources and Debezium as its only plugin."""

import http.client
import signal
from contextlib import closing, suppress
from pathlib import Path

from connectors.local import java
from connectors.local.kafka import MAX_BATCH_BYTES
from connectors.local.part import Part

HEAP_MB = 384


def settings(jars: Path, port: int, kafka: str) -> dict[str, str]:
    replicas = str(kafka.count(",") + 1)
    return {
        "bootstrap.servers": kafka,
        "group.id": "waybill-connect",
        "listeners": f"http://127.0.0.1:{port}",
        "plugin.path": str(jars / "plugins"),
        "plugin.discovery": "service_load",
        "exactly.once.source.support": "enabled",
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
        "config.storage.topic": "waybill_connect_configs",
        "config.storage.replication.factor": replicas,
        "offset.storage.topic": "waybill_connect_offsets",
        "offset.storage.replication.factor": replicas,
        "offset.storage.partitions": "1",
        "status.storage.topic": "waybill_connect_status",
        "status.storage.replication.factor": replicas,
        "status.storage.partitions": "1",
        # A worker killed comes back within seconds: do not wait minutes for it before its tasks run again.
        "scheduled.rebalance.max.delay.ms": "0",
        "session.timeout.ms": "4000",
        "heartbeat.interval.ms": "1000",
        "producer.max.request.size": str(MAX_BATCH_BYTES),
        "consumer.max.partition.fetch.bytes": str(MAX_BATCH_BYTES),
    }


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def part(folder: Path, jars: Path, port: int, after: tuple[str, ...] = ("kafka",)) -> Part:
    main = "org.apache.kafka.connect.cli.ConnectDistributed"
    argv = java.command(folder, jars, HEAP_MB, main, str(folder / "connect.properties"))

    def ready() -> bool:
        worker = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        with closing(worker), suppress(OSError, http.client.HTTPException):
            worker.request("GET", "/health")
            return worker.getresponse().status == http.HTTPStatus.OK
        return False

    return Part("connect", argv, folder / "logs" / "connect.log", ready, stop=signal.SIGTERM, after=after)


def prepare(folder: Path, jars: Path, port: int, kafka: str) -> None:
    (folder / "connect.properties").write_text(java.properties(settings(jars, port, kafka)))
