"""One lake under fire: its sinks and compactors, processes that somebody starts again whenever they end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from confluent_kafka import Consumer, KafkaException, TopicPartition
from harness import wait_until

from lake_chaos.schedule import Fault

INTEGRATION = Path(__file__).parents[2] / "integration"
SESSION = 6
#: Longer than the session, so that others take over and the sink wakes up as a zombie.
FROZEN = 9.0


@dataclass(frozen=True)
class Topic:
    bootstrap: str
    name: str
    partitions: int
    descriptors: Path


class Lake:
    """``settings`` are those of ``lake`` in waybill.yaml, ``name`` tells lakes of one run apart."""

    def __init__(self, name: str, topic: Topic, folder: Path, settings: Mapping[str, object], seed: int) -> None:
        self.name, self.topic, self.folder = name, topic, folder
        self.group = f"lake-chaos-{topic.name}-{name}"
        self.random = Random(f"{seed}/{name}/targets")
        self.met: Counter[Fault] = Counter()
        self.ended: list[str] = []
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, tuple[list[str], Mapping[str, str]]] = {}
        self._lock, self._closing = threading.RLock(), threading.Event()
        folder.mkdir()
        self.config = folder / "waybill.yaml"
        told = {
            "kafka": {"bootstrap-servers": topic.bootstrap, "session-timeout": SESSION},
            "descriptors": str(topic.descriptors),
            "consumers": [],
            "lake": {"segment-age": 1, "segment-bytes": 100_000, **settings},
        }
        self.config.write_text(json.dumps(told))
        for sink in ("sink-1", "sink-2"):
            self._commands[sink] = self._sink(self.group)
        for compactor in ("compactor-1", "compactor-2"):
            self._commands[compactor] = [_waybill(), "lake", "compact", "--all", "--every", "1"], {}
        self._supervisor = threading.Thread(target=self._supervise, name=f"supervisor of {name}")

    # -- processes

    def start(self) -> None:
        self._supervisor.start()

    def close(self) -> None:
        self._closing.set()
        if self._supervisor.ident:
            self._supervisor.join()
        for process in self._processes.values():
            process.kill()
            process.wait()

    def waybill(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """``waybill lake``, to its end."""
        return subprocess.run(
            [_waybill(), "lake", *arguments],
            env=self._environment({}),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def _supervise(self) -> None:
        while not self._closing.wait(0.1):
            with self._lock:
                for name in self._commands:
                    process = self._processes.get(name)
                    if process is not None and (status := process.poll()) is not None:
                        if status > 0:
                            self.ended.append(f"{self.name}: {name} ended by itself, status {status}")
                        del self._processes[name]
                    if name not in self._processes:
                        self._begin(name)

    def _begin(self, name: str) -> None:
        command, environment = self._commands[name]
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, cwd=INTEGRATION, stdout=log, stderr=log, env=self._environment(environment)
            )

    def _sink(self, group: str) -> tuple[list[str], Mapping[str, str]]:
        return [sys.executable, "-m", "faust", "-A", "lake_app:app", "worker", "-l", "info"], {"GROUP": group}

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        return {**os.environ, "WAYBILL_CONFIG": str(self.config), "WAYBILL_METRICS_PORT": str(_free_port()), **more}

    def stop(self) -> None:
        """All at once, as a supervisor does: SIGTERM."""
        with self._lock:
            self._commands.clear()
        for name, process in self._processes.items():
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                self.ended.append(f"{self.name}: {name} did not end within a minute of SIGTERM")
                process.kill()
                process.wait()
        self._processes.clear()

    # -- faults

    def inflict(self, fault: Fault) -> None:
        self.met[fault] += 1
        number = self.random.choice((1, 2))
        match fault:
            case Fault.SINK_KILL:
                self._send(f"sink-{number}", signal.SIGKILL)
            case Fault.COMPACTOR_KILL:
                self._send(f"compactor-{number}", signal.SIGKILL)
            case Fault.SINK_STOP:
                self._send(f"sink-{number}", signal.SIGTERM)
            case Fault.SINK_FREEZE:
                self._send(f"sink-{number}", signal.SIGSTOP)
                self._closing.wait(FROZEN)
                self._send(f"sink-{number}", signal.SIGCONT)
            case Fault.OFFSETS:
                self._move_offsets()
            case Fault.ROGUE:
                with self._lock:
                    self._commands["rogue"] = self._sink(f"{self.group}-rogue-{self.random.random()}")
                self._closing.wait(self.random.uniform(4, 8))
                self._end("rogue")

    def _send(self, name: str, number: signal.Signals) -> None:
        with self._lock:
            if process := self._processes.get(name):
                process.send_signal(number)

    def _end(self, name: str) -> None:
        """For good."""
        with self._lock:
            del self._commands[name]
            if process := self._processes.pop(name, None):
                process.kill()
                process.wait()

    def _move_offsets(self) -> None:
        """Back, to the start, ahead of lake and log: Kafka lets nobody do it while the group has members."""
        with self._lock:
            sinks = {name: self._commands[name] for name in ("sink-1", "sink-2")}
            for name in sinks:
                self._end(name)
        moved = [self.random.choice((0, self.random.randrange(2000), 1_000_000)) for _ in range(self.topic.partitions)]
        try:
            wait_until(lambda: self._moved(moved), 60, "the group has no members")
        finally:
            with self._lock:
                self._commands.update(sinks)

    def _moved(self, offsets: list[int]) -> bool:
        consumer = Consumer({"bootstrap.servers": self.topic.bootstrap, "group.id": self.group})
        places = [TopicPartition(self.topic.name, partition, offset) for partition, offset in enumerate(offsets)]
        try:
            consumer.commit(offsets=places, asynchronous=False)
        except KafkaException:
            return False
        finally:
            consumer.close()
        return True


def _waybill() -> str:
    return str(Path(sys.executable).with_name("waybill"))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
