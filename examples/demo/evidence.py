"""Gather the ledger's facts from the real places."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import psycopg

from connectors import schemas, settings
from connectors.access import Access
from examples.demo.ledger import Delivery, Facts, Stored, Subscription
from lake import storage
from lake.reading.query import query
from lake.storage import Storage
from pipelines import config, replay_client, routing
from pipelines.config import Consumer


def gather(told: settings.Settings, inboxes: Path, rolled_back: Path) -> Facts:
    """``inboxes`` holds the consumers' databases; ``rolled_back`` is the file in which the producer noted events."""
    catalog = schemas.load(told.descriptors)
    consumers = config.load(told.consumers, catalog, told)
    subscriptions = tuple(_subscriptions(routing.routes(consumers, catalog)))
    open_dead_letters, replayed = _dead_letters(told.kafka.access, consumers)
    return Facts(
        subscriptions=subscriptions,
        saved=saved(told.outboxes["logistics"].database),
        rolled_back=_rolled_back(rolled_back),
        arrivals=_arrivals(inboxes, consumers),
        open_dead_letters=open_dead_letters,
        replayed=replayed,
        lake=_lake(storage.of(told.lake), {subscription.topic for subscription in subscriptions}),
    )


def saved(database: str) -> frozenset[Stored]:
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT id::text, topic, md5(payload) FROM outbox_event")
        return frozenset(Stored(*row) for row in rows)


def _subscriptions(routes: Iterable[routing.Route]) -> Iterator[Subscription]:
    for route in routes:
        for endpoint in route.endpoints:
            yield Subscription(route.topic, route.consumer, rpc(endpoint.name))


def rpc(endpoint: str) -> str:
    """``PackageDelivered`` of ``logistics.v1.EventsAPI/PackageDelivered``."""
    return endpoint.rpartition("/")[2]


def _rolled_back(notes: Path) -> dict[str, str]:
    return dict(map(str.split, notes.read_text().splitlines()))


def _arrivals(inboxes: Path, consumers: Sequence[Consumer]) -> Counter[Delivery]:
    found: Counter[Delivery] = Counter()
    for consumer in consumers:
        with closing(sqlite3.connect(inboxes / f"{consumer.name}.sqlite")) as database:
            for event_id, endpoint in database.execute("SELECT event_id, rpc FROM arrivals"):
                found[Delivery(event_id, consumer.name, endpoint)] += 1
    return found


def _dead_letters(access: Access, consumers: Sequence[Consumer]) -> tuple[frozenset[Delivery], frozenset[Delivery]]:
    """Those that are open, and those that a replay moved."""
    state = replay_client.read_state(access)
    found: dict[bool, set[Delivery]] = {True: set(), False: set()}
    for consumer in consumers:
        for dead_letter in replay_client.dead_letters(access, consumer.dlq_topic):
            moved = state.moved_by(dead_letter) is not None
            found[moved].add(Delivery(dead_letter.event.id, consumer.name, rpc(dead_letter.endpoint)))
    return frozenset(found[False]), frozenset(found[True])


def _lake(lake: Storage, topics: set[str]) -> Counter[Stored]:
    selects = [f"SELECT _event_id, _topic, md5(_raw) FROM {topic}" for topic in sorted(topics)]
    return Counter(Stored(*row) for row in query(lake, " UNION ALL ".join(selects)).rows)
