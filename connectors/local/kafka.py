"""Kafka: one node that is broker and controller (KRaft)."""

import signal
import socket
import subprocess
import uuid
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from connectors.local import java
from connectors.local.part import Part
from connectors.problems import Problem

HEAP_MB = 512
# An event of 4 MiB plus 64 KiB of headers, with room for the batch around it; topics set their own, lower limits.
MAX_BATCH_BYTES = 8 * 1024 * 1024


def settings(data: Path, port: int, controller_port: int) -> dict[str, str]:
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        # Static voters: a dynamic quorum would store the controller's port for ever.
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "message.max.bytes": str(MAX_BATCH_BYTES),
        "replica.fetch.max.bytes": str(MAX_BATCH_BYTES),
        # A broker killed and started again is refused until its former session ends; it asks after 0.1, 0.3, 0.7, 1.5,
        # 3.1, 6.3, 12.7 s. Too short a session, and a busy machine loses its only broker for a moment.
        "broker.session.timeout.ms": "6000",
        "broker.heartbeat.interval.ms": "1000",
        "num.partitions": "1",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "4",
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
    }


def address(port: int) -> str:
    return f"127.0.0.1:{port}"


def part(folder: Path, jars: Path, port: int) -> Part:
    argv = java.command(folder, jars, HEAP_MB, "kafka.Kafka", str(folder / "kafka.properties"))

    def ready() -> bool:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return False
        # It listens a moment before it lets itself take part: metadata without brokers.
        client = AdminClient({"bootstrap.servers": address(port), "log_level": 0})
        try:
            return bool(client.list_topics(timeout=1).brokers)
        except KafkaException:
            return False

    return Part("kafka", argv, folder / "logs" / "kafka.log", ready, stop=signal.SIGTERM)


def prepare(folder: Path, jars: Path, port: int, controller_port: int) -> None:
    """Write the settings and format the data folder once."""
    data = folder / "kafka"
    path = folder / "kafka.properties"
    path.write_text(java.properties(settings(data, port, controller_port)))
    if (data / "meta.properties").exists():
        return
    tool = ("format", "--cluster-id", uuid.uuid4().hex[:22], "--config", str(path), "--ignore-formatted")
    formatted = subprocess.run(
        java.command(folder, jars, 128, "kafka.tools.StorageTool", *tool), capture_output=True, text=True, check=False
    )
    if formatted.returncode:
        raise Problem(f"Kafka could not format its data folder {data}: {formatted.stderr.strip()[-1000:]}")
