"""Gather what a run left in the real places: outbox, Kafka, the consumers' ledgers, the DLQs, the lake's files."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
from confluent_kafka import Consumer, TopicPartition
from harness import ConsumerService

from chaos.ledger import Call, Cause, DeadLetter, Entry, Evidence, Position
from chaos.rig import CONSUMERS, RELIABLE, TOPICS, Rig
from examples.demo import evidence
from examples.demo.ledger import Delivery, Facts, Stored, Subscription
from pipelines import replay_client


def gather(rig: Rig) -> Evidence:
    committed, rolled_back = outcomes(rig.notes)
    kafka = {position: event for topic in TOPICS for position, event in in_kafka(rig.stack.kafka, topic).items()}
    lake, stored = in_lake(rig.world.folder / "lake")
    letters, still_open, replayed = _dead_letters(rig)
    calls = [call for name, service in rig.services.items() for call in calls_of(name, service)]
    facts = Facts(
        subscriptions=tuple(
            Subscription(topic, name, endpoint)
            for name, distribution in CONSUMERS.items()
            for topic, endpoints in distribution.items()
            for endpoint in endpoints
        ),
        saved=evidence.saved(rig.stack.postgres),
        rolled_back=rolled_back,
        arrivals=Counter(call.delivery for call in calls if call.accepted),
        open_dead_letters=still_open,
        replayed=replayed,
        lake=stored,
    )
    resets = [reset for name, service in rig.services.items() for reset in resets_of(name, service)]
    return Evidence(
        facts=facts,
        committed=committed,
        calls=calls,
        journal=[*rig.journal.entries, *resets],
        kafka=kafka,
        lake=lake,
        dead_letters=letters,
        reliable=RELIABLE,
    )


def outcomes(notes: Path) -> tuple[frozenset[str], dict[str, str]]:
    """Of the producer's notes: the events it knows to be saved, and those it knows not to be, with their topics."""
    found: dict[str, dict[str, str]] = {"committed": {}, "rolled-back": {}, "uncertain": {}}
    for line in notes.read_text().splitlines():
        outcome, _, *events = line.split()
        found[outcome] |= dict(event.split("@") for event in events)
    return frozenset(found["committed"]), found["rolled-back"]


def calls_of(consumer: str, service: ConsumerService) -> Iterator[Call]:
    for answer, event, endpoint, attempt, _, at, process, left in service.calls():
        if answer != "RESET":
            delivery = Delivery(event, consumer, endpoint)
            yield Call(float(at), delivery, answer, int(attempt), int(process), float(left))


def resets_of(consumer: str, service: ConsumerService) -> Iterator[Entry]:
    """With their duration in place of the time left: what was on its way already is called in vain meanwhile."""
    for what, *_, at, _, seconds in service.calls():
        if what == "RESET":
            end = float(at) + float(seconds)
            yield Entry(f"{consumer} reset connections", float(at), end, Cause.ANSWER_LOST, 0, consumer)


def in_kafka(bootstrap: str, topic: str) -> dict[Position, str]:
    """Event id of every committed record, by a plain client."""
    options = {"bootstrap.servers": bootstrap, "group.id": "chaos", "enable.auto.commit": False}
    consumer = Consumer(options | {"isolation.level": "read_committed", "enable.partition.eof": True})
    try:
        partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        found: dict[Position, str] = {}
        ended = 0
        while ended < len(partitions):
            for message in consumer.consume(1000, 1.0):
                if message.error():
                    ended += 1
                else:
                    found[topic, message.partition(), message.offset()] = dict(message.headers())["ce_id"].decode()
        return found
    finally:
        consumer.close()


def in_lake(root: Path) -> tuple[Counter[Position], Counter[Stored]]:
    """How often each offset and each event is there, read from the files alone."""
    positions: Counter[Position] = Counter()
    events: Counter[Stored] = Counter()
    columns = ["_topic", "_partition", "_offset", "_event_id", "_raw"]
    for path in root.glob("hot/*/*/*-*.parquet"):
        for row in pq.ParquetFile(path).read(columns).to_pylist():
            positions[row["_topic"], row["_partition"], row["_offset"]] += 1
            events[Stored(row["_event_id"], row["_topic"], hashlib.md5(row["_raw"]).hexdigest())] += 1
    for path in root.glob("quarantine/*/*/*.avro"):
        partition, offset = path.stem.split("-")
        positions[path.parts[-3], int(partition), int(offset)] += 1
    return positions, events


def _dead_letters(rig: Rig) -> tuple[list[DeadLetter], frozenset[Delivery], frozenset[Delivery]]:
    """All, the deliveries of those that are open, and of those that a replay moved."""
    state = replay_client.read_state(rig.world.access)
    letters: list[DeadLetter] = []
    found: dict[bool, set[Delivery]] = {True: set(), False: set()}
    for name in CONSUMERS:
        for letter in replay_client.dead_letters(rig.world.access, rig.world.topic(f"{name}_dlq")):
            delivery = Delivery(letter.event.id, name, evidence.rpc(letter.endpoint))
            letters.append(DeadLetter(delivery, letter.status, letter.error))
            found[state.moved_by(letter) is not None].add(delivery)
    return letters, frozenset(found[False]), frozenset(found[True])
