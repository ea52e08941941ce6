"""A worker's sign of life in the state topic, and its look at those of the others.

Runs in a thread of its own, beside the deliveries: whatever fails here is logged and tried again.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from importlib import metadata

import structlog

from connectors.access import Access
from connectors.kafka import compacted
from connectors.problems import Problem
from pipelines import metrics, names, worker_state
from pipelines.worker_state import BEAT, Worker

log = structlog.get_logger()

#: Seconds that a stop waits for the farewell.
FAREWELL = 3.0


def this_process(consumer: str, dedicated: str | None, config: str) -> Worker:
    now = time.time()
    return Worker(
        consumer, dedicated, config, socket.gethostname(), os.getpid(), metadata.version("waybill-broker"), now, now
    )


class Presence(threading.Thread):
    """From ``start`` to ``stop`` the worker's row is there; after a crash it grows old."""

    def __init__(self, access: Access, worker: Worker) -> None:
        super().__init__(name="presence", daemon=True)
        self.worker, self.access = worker, access
        self.table = compacted.Table(access, names.STATE)
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.is_set():
            self._try(self._beat)
            self._stopping.wait(BEAT)
        self._try(lambda: compacted.write(self.access, names.STATE, {self.worker.key: None}, FAREWELL))

    def stop(self) -> None:
        self._stopping.set()
        if self.is_alive():  # a worker that could not start stops, too
            self.join(FAREWELL)

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Problem as problem:
            log.warning("the state topic cannot be used; deliveries go on", error=str(problem))

    def _beat(self) -> None:
        now = time.time()
        removed = dict.fromkeys(worker_state.long_gone(self.table.rows, now))
        compacted.write(self.access, names.STATE, {self.worker.key: self.worker.at(now), **removed})
        workers = worker_state.alive(self.table.refresh().rows, now)
        differing = worker_state.differing(workers, self.worker.consumer)
        metrics.CONFIG_MIXED.labels(self.worker.consumer).set(len(differing) > 1)
        if differing:
            log.warning(
                "workers of one consumer go by different configurations: a change takes effect when all are restarted",
                consumer=self.worker.consumer,
                own=self.worker.config,
                workers_by_config=dict(differing),
            )
