"""Workers that start or end while Kafka is away."""

import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Authority
from confluent_kafka.admin import AdminClient
from engine import Engine, free_port, health
from guarded_broker import guarded_broker

from connectors.local.state import Stack


@pytest.fixture
def engine(stack: Stack, admin: AdminClient, tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(stack.kafka, admin, tmp_path)
    yield engine
    engine.close()


class Forwarder:
    """Makes the broker answer at another port, from now on."""

    def __init__(self, port: int, broker: str) -> None:
        self.listener = socket.create_server(("127.0.0.1", port))
        host, to = broker.split(":")
        self.broker, self.open = (host, int(to)), [self.listener]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                one, _ = self.listener.accept()
            except OSError:
                return
            other = socket.create_connection(self.broker)
            self.open += [one, other]
            for source, target in ((one, other), (other, one)):
                threading.Thread(target=self.copy, args=(source, target), daemon=True).start()

    @staticmethod
    def copy(source: socket.socket, target: socket.socket) -> None:
        with source.makefile("rb", buffering=0) as data, target.makefile("wb", buffering=0) as out:
            try:
                shutil.copyfileobj(data, out)
                target.shutdown(socket.SHUT_WR)
            except OSError:
                return

    def close(self) -> None:
        for each in self.open:
            each.close()


def test_a_worker_started_while_kafka_is_away_lives_and_waits_ends_when_told_to_and_works_once_it_is_there(
    engine: Engine,
) -> None:
    away, ports = free_port(), (free_port(), free_port())
    engine.produce(40)
    broker = engine.bootstrap
    engine.bootstrap = f"127.0.0.1:{away}"
    waiting, told_to_end = (engine.worker(METRICS_PORT=str(port)) for port in ports)
    for port in ports:
        engine.wait(lambda port=port: health(port, "/livez")[0] == 200)
    engine.wait(lambda: engine.said().count("waiting for Kafka") >= 2)
    assert [health(port, path)[0] for port in ports for path in ("/livez", "/readyz")] == [200, 503, 200, 503]

    began = time.monotonic()
    assert engine.stop(told_to_end) == 0
    assert time.monotonic() - began < 8

    engine.bootstrap = broker
    kafka = Forwarder(away, broker)
    try:
        engine.wait(lambda: len(engine.seen()) == 40)
        engine.wait(lambda: health(ports[0], "/readyz")[0] == 200)
        assert engine.stop(waiting) == 0
    finally:
        kafka.close()


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[tuple[Engine, int]]:
    """An engine on a broker of its own, that may be broken, and the broker's process id."""
    authority = Authority(tmp_path)
    with guarded_broker(tmp_path / "broker", authority, authority.issue("broker")) as broker:
        engine = Engine(broker.kafka, AdminClient({"bootstrap.servers": broker.kafka}), tmp_path)
        yield engine, broker.pid
        for worker in engine.workers:
            worker.kill()
            worker.wait()
        engine.log.close()


@pytest.mark.parametrize("breaks", [signal.SIGSTOP, signal.SIGKILL], ids=["frozen", "gone"])
def test_a_worker_told_to_stop_while_kafka_is_away_ends_without_its_commit(
    lone: tuple[Engine, int], breaks: signal.Signals
) -> None:
    engine, broker = lone
    engine.produce(40)
    worker = engine.worker(COMMIT_TIMEOUT="2", REQUEST_TIMEOUT="60")
    engine.wait(lambda: len(engine.seen()) == 40)
    os.kill(broker, breaks)
    if breaks is signal.SIGKILL:
        engine.wait(lambda: "Failed fetch messages" in engine.said())
    assert engine.stop(worker) == 0
    assert "partitions were given up" in engine.said()
