"""All that runs in a run: the stack, a producer, Debezium, three consumers of different temper, workers and sinks."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from harness import ConsumerService, Process, World, wait_until
from waybill_outbox import ddl

from chaos.fleet import Fleet, Journal, Member
from chaos.schedule import Cast
from connectors.local.state import Stack

HERE = Path(__file__).parent
OUTBOX, NOTES = "chaos", "producer.notes"
#: Who subscribed to what.
CONSUMERS = {
    "fast": {"package_delivered": ["PackageDelivered", "AuditPackageDelivered"], "package_created": ["PackageCreated"]},
    "slow": {"package_delivered": ["PackageDelivered"], "package_delayed": ["PackageDelayed"]},
    "moody": {"package_created": ["PackageCreated"], "route_assigned": ["RouteAssigned", "AuditRouteAssigned"]},
}
TOPICS = ("package_created", "package_delivered", "package_delayed", "route_assigned")
STATUSES = ("UNAVAILABLE", "UNKNOWN", "INTERNAL", "ABORTED", "RESOURCE_EXHAUSTED", "NOT_FOUND", "INVALID_ARGUMENT")
#: How each behaves when nothing is done to it; nothing ever is to reliable ones.
RELIABLE = frozenset({"fast"})
CALM = {"default": "OK", "delay": [0, 0], "random": [0, []], "resets": 0}
TEMPERS = {"fast": CALM, "slow": CALM | {"delay": [0, 0.05], "random": [0.02, STATUSES]}, "moody": CALM}
QUICK = {
    "timeout": 2,
    "max-retry-attempts": 8,
    "in-memory-retry": {"attempts": 1, "initial": 0.02, "max": 0.05},
    "retry-backoff": {"initial": 0.2, "max": 2},
    "breaker": {"probe-interval": 1},
}
WORKERS, SINKS = 2, 2
STARTING = 240.0


@dataclass(frozen=True)
class Rig:
    stack: Stack
    world: World
    services: dict[str, ConsumerService]
    fleet: Fleet
    journal: Journal
    producer: Process

    @property
    def notes(self) -> Path:
        return self.world.folder / NOTES

    @property
    def cast(self) -> Cast:
        tempered = tuple(name for name in CONSUMERS if name not in RELIABLE)
        return Cast(tuple(CONSUMERS), tempered, len(self.stack.kafka.split(",")))

    def join(self, consumer: str) -> Member:
        return self.fleet.join(consumer, f"pipelines.apps:{consumer}")


@contextmanager
def build(stack: Stack, folder: Path, seed: int, per_second: float, say: Callable[[str], None]) -> Iterator[Rig]:
    """Everything started, and events under way to every endpoint.  Ended in good order."""
    with psycopg.connect(stack.postgres) as database:
        database.execute(ddl())
    world = World(stack, folder, tag="")
    world.settings = {"outboxes": {OUTBOX: {"database": stack.postgres}}}
    services = {name: world.consumer(name, distribution, **QUICK) for name, distribution in CONSUMERS.items()}
    for name, service in services.items():
        service.tell(**TEMPERS[name])
    logs = folder / "logs"
    logs.mkdir()
    journal = Journal(folder / "journal.jsonl", say)
    fleet = Fleet(logs, world.env, journal)
    try:
        world.apply()
        world.waybill("connector", "apply")
        producer = Process(
            [
                sys.executable,
                str(HERE / "producer.py"),
                stack.postgres,
                str(folder / NOTES),
                str(per_second),
                str(seed),
            ],
            folder / "producer.log",
        )
        world.processes.append(producer)
        rig = Rig(stack, world, services, fleet, journal, producer)
        for name in CONSUMERS:
            for _ in range(WORKERS):
                rig.join(name)
        for _ in range(SINKS):
            fleet.join("lake", "lake.apps:sink")
        fleet.join("replay", "pipelines.apps:replay")
        wait_until(lambda: all(service.accepted() for service in services.values()), STARTING, "events arrive")
        yield rig
    finally:
        fleet.close()
        world.close()
