"""Who delivers, and by which configuration: rows of the state topic that workers write of themselves.

They show a rollout that is half done.  Nothing is decided by them.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace

from pipelines import versions
from pipelines.format import Consumer
from pipelines.routing import Route
from pipelines.versions import NewerVersion, UnreadableRow

#: Seconds between two signs of life, and after how many without one a worker counts as gone.
BEAT, FRESH = 30.0, 90.0
#: Seconds after which its row is removed.
FORGOTTEN = 24 * 3600.0
_PREFIX = b"worker/"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Worker:
    """One process.  ``dedicated``: the topic it is for, if it is for one.  Times are seconds since the epoch."""

    consumer: str
    dedicated: str | None
    config: str
    host: str
    pid: int
    version: str
    started_at: float
    seen_at: float

    @property
    def key(self) -> bytes:
        return _PREFIX + "/".join([self.consumer, self.host, str(self.pid), str(self.started_at)]).encode()

    def at(self, now: float) -> bytes:
        """Its row, written ``now``."""
        return json.dumps({"format": FORMAT, **asdict(replace(self, seen_at=now))}).encode()


def config_hash(consumer: Consumer, routes: Iterable[Route]) -> str:
    """Names everything that a worker goes by: its configuration, and what it takes from the descriptors.

    But for paths of certificates, which may differ between hosts.
    """
    resolved = [
        [route.topic, route.event_type.name, *(endpoint.path for endpoint in route.endpoints)] for route in routes
    ]
    told = json.dumps([consumer.model_dump(mode="json", exclude={"tls"}), resolved], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def alive(rows: Mapping[bytes, bytes], now: float) -> tuple[Worker, ...]:
    """Workers that gave a sign of life lately, in order of consumer, topic and start."""
    found = (_read(value) for key, value in rows.items() if key.startswith(_PREFIX))
    fresh = [worker for worker in found if worker and now - worker.seen_at < FRESH]
    return tuple(sorted(fresh, key=lambda worker: (worker.consumer, worker.dedicated or "", worker.started_at)))


def long_gone(rows: Mapping[bytes, bytes], now: float) -> list[bytes]:
    """Rows that crashed workers left behind."""
    ours = {key: _read(value) for key, value in rows.items() if key.startswith(_PREFIX)}
    return [key for key, worker in ours.items() if worker and now - worker.seen_at > FORGOTTEN]


def _read(row: bytes) -> Worker | None:
    """None for a row that this version does not understand: nothing hangs on it."""
    try:
        return Worker(**versions.fields("a worker's row of the state topic", row, FORMAT))
    except (UnreadableRow, NewerVersion, TypeError):
        return None


def differing(workers: Iterable[Worker], consumer: str) -> Mapping[str, int]:
    """How many workers of a consumer go by each configuration; empty if they all go by the same."""
    counts: dict[str, int] = {}
    for worker in workers:
        if worker.consumer == consumer:
            counts[worker.config] = counts.get(worker.config, 0) + 1
    return counts if len(counts) > 1 else {}
