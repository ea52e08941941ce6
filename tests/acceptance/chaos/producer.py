"""A producing service: saves events in transactions, some in vain, until SIGTERM, whatever happens to its database.

producer.py DATABASE NOTES PER_SECOND SEED

Notes: one line a transaction, ``<outcome> <time> <event id>@<topic> ...``.  Outcomes: committed, rolled-back (on
purpose or because the database was away before the commit), uncertain (it went away during the commit).
"""

import random
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import psycopg
from example_stubs import events_pb2, package_pb2
from waybill_outbox import Event, build_event, save_many

#: Events of one transaction at most, the share of transactions rolled back, and that of events with a large payload.
MOST, IN_VAIN, LARGE = 4, 0.1, 0.05


def event(chance: random.Random) -> Event:
    label = chance.randbytes(20_000 if chance.random() < LARGE else 20).hex()
    package = package_pb2.Package(id=f"package-{chance.randrange(500)}", labels={"label": label})
    message = chance.choice(
        (
            events_pb2.PackageCreatedEvent(package=package, sender_id="sender"),
            events_pb2.PackageDeliveredEvent(package=package, pin_code=1234),
            events_pb2.PackageDelayedEvent(package_id=package.id, note=label),
            events_pb2.RouteAssignedEvent(route_id=chance.randrange(1, 500), driver_id="driver"),
        )
    )
    return build_event(message, source="chaos")


def transact(connection: psycopg.Connection, events: Sequence[Event], *, in_vain: bool) -> str:
    with suppress(psycopg.OperationalError):
        save_many(events, connection)
        if in_vain:
            connection.rollback()
            return "rolled-back"
        try:
            connection.commit()
        except psycopg.OperationalError:
            return "uncertain"
        return "committed"
    return "rolled-back"


def main(database: str, notes: Path, per_second: float, seed: int) -> None:
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    chance = random.Random(seed)
    connection: psycopg.Connection | None = None
    with notes.open("a", buffering=1) as out:
        while not ended.wait(chance.expovariate(2 * per_second / (1 + MOST))):
            if connection is None or connection.closed:
                try:
                    connection = psycopg.connect(database, connect_timeout=2)
                except psycopg.OperationalError:
                    continue
            events = [event(chance) for _ in range(chance.randint(1, MOST))]
            outcome = transact(connection, events, in_vain=chance.random() < IN_VAIN)
            out.write(f"{outcome} {time.time():.3f} {' '.join(f'{each.id}@{each.topic}' for each in events)}\n")
    if connection:
        connection.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
