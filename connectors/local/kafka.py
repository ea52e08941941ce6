"""Kafka: one node that is broker and controller (KRaft), or three of them."""

import signal
import socket
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from connectors.local import java
from connectors.local.part import Part
from connectors.problems import Problem

HEAP_MB = 512
# An event of 4 MiB plus 64 KiB of headers, with room for the batch around it; topics set their own, lower limits.
MAX_BATCH_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Node:
    """One node; ``number`` counts from 1, both ports are on 127.0.0.1."""

    number: int
    port: int
    controller_port: int

    @property
    def name(self) -> str:
        return names(self.number)[-1]


def names(brokers: int) -> tuple[str, ...]:
    """The nodes' names: ``kafka``, ``kafka-2``, ..."""
    return ("kafka", *(f"kafka-{number}" for number in range(2, brokers + 1)))


def settings(data: Path, port: int, controller_port: int) -> dict[str, str]:
    """Those of a single node."""
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


def differing(nodes: Sequence[Node], node: Node) -> dict[str, str]:
    """What differs when there are several: every topic on all of them, written while most are there."""
    if len(nodes) == 1:
        return {}
    replicas, in_sync = str(len(nodes)), str(len(nodes) // 2 + 1)
    return {
        "node.id": str(node.number),
        "controller.quorum.voters": ",".join(f"{each.number}@127.0.0.1:{each.controller_port}" for each in nodes),
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
    }


def address(*ports: int) -> str:
    return ",".join(f"127.0.0.1:{port}" for port in ports)


def part(folder: Path, jars: Path, node: Node) -> Part:
    argv = java.command(folder, jars, HEAP_MB, "kafka.Kafka", str(folder / f"{node.name}.properties"))

    def ready() -> bool:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", node.port)):
                return False
        # It listens a moment before it lets itself take part: metadata without it.
        client = AdminClient({"bootstrap.servers": address(node.port), "log_level": 0})
        try:
            return node.number in client.list_topics(timeout=1).brokers
        except KafkaException:
            return False

    return Part(node.name, argv, folder / "logs" / f"{node.name}.log", ready, stop=signal.SIGTERM)


def prepare(folder: Path, jars: Path, nodes: Sequence[Node]) -> None:
    """Write the nodes' settings and format their data folders once."""
    identity = folder / "cluster-id"
    if not identity.exists():
        identity.write_text(uuid.uuid4().hex[:22])
    for node in nodes:
        _prepare(folder, jars, node, nodes, identity.read_text())


def _prepare(folder: Path, jars: Path, node: Node, nodes: Sequence[Node], cluster_id: str) -> None:
    data, path = folder / node.name, folder / f"{node.name}.properties"
    path.write_text(java.properties(settings(data, node.port, node.controller_port) | differing(nodes, node)))
    if (data / "meta.properties").exists():
        return
    tool = ("format", "--cluster-id", cluster_id, "--config", str(path), "--ignore-formatted")
    formatted = subprocess.run(
        java.command(folder, jars, 128, "kafka.tools.StorageTool", *tool), capture_output=True, text=True, check=False
    )
    if formatted.returncode:
        raise Problem(f"Kafka could not format its data folder {data}: {formatted.stderr.strip()[-1000:]}")
