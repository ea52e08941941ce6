"""Databases with an outbox, and connectors that carry it, each under a name of its own and gone afterwards."""

import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from waybill_outbox import ddl

from connectors import debezium, kafka_connect
from connectors.kafka_connect import Rest
from connectors.local.state import Stack

DEADLINE = 60


@dataclass(frozen=True)
class Outbox:
    """`name` is a database, the outbox in it and a suffix for topics."""

    stack: Stack
    name: str
    url: str

    def apply(self, **changes: str) -> kafka_connect.Status:
        config = debezium.render(self.name, self.url) | changes
        return kafka_connect.apply(Rest(self.stack.connect), debezium.connector_name(self.name), config)

    def status(self) -> kafka_connect.Status:
        return kafka_connect.status(Rest(self.stack.connect), debezium.connector_name(self.name))


@contextmanager
def database(stack: Stack, *, with_ddl: bool = True) -> Iterator[Outbox]:
    name = f"t{uuid.uuid4().hex[:10]}"
    with psycopg.connect(stack.postgres, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
    outbox = Outbox(stack, name, f"{stack.postgres.rpartition('/')[0]}/{name}")
    try:
        if with_ddl:
            with psycopg.connect(outbox.url) as connection:
                connection.execute(ddl())
        yield outbox
    finally:
        _delete(outbox)


def _delete(outbox: Outbox) -> None:
    if outbox.status().state != "MISSING":
        url = f"{outbox.stack.connect}/connectors/{debezium.connector_name(outbox.name)}"
        urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=30).close()
    slots = "SELECT active_pid FROM pg_replication_slots WHERE database = %s"
    with psycopg.connect(outbox.stack.postgres, autocommit=True) as server:
        end = time.monotonic() + DEADLINE
        while any(pid for (pid,) in server.execute(slots, [outbox.name])) and time.monotonic() < end:
            time.sleep(0.05)
        server.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s", [outbox.name]
        )
        server.execute(f"DROP DATABASE {outbox.name} WITH (FORCE)")


def records(stack: Stack, topic: str, count: int, key: str | None = None) -> list[Message]:
    """The committed records of a topic, of this key if given, once there are so many; fails after a minute."""
    end = time.monotonic() + DEADLINE
    admin = AdminClient({"bootstrap.servers": stack.kafka})
    while not (partitions := admin.list_topics(timeout=10).topics.get(topic)):
        assert time.monotonic() < end, f"no topic {topic}"
        time.sleep(0.05)
    settings = {"bootstrap.servers": stack.kafka, "group.id": "reader", "isolation.level": "read_committed"}
    consumer = Consumer(settings | {"fetch.message.max.bytes": 9_000_000, "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions.partitions])
        found: list[Message] = []
        while len(found) < count:
            assert time.monotonic() < end, f"{len(found)} of {count} records in {topic}"
            read = [message for message in consumer.consume(1000, 0.2) if not message.error()]
            found += [message for message in read if key in {None, message.key().decode()}]
        return found
    finally:
        consumer.close()


def headers(message: Message) -> dict[str, str | None]:
    return {name: value if value is None else value.decode() for name, value in message.headers()}
