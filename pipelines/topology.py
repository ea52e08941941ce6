"""The topics that Waybill needs, from what is configured."""

from collections.abc import Iterable

from connectors.kafka import topics
from connectors.kafka.topics import Topic
from connectors.schemas import Catalog
from pipelines import names
from pipelines.config import Consumer


def wanted(consumers: Iterable[Consumer], catalog: Catalog, max_message_bytes: int) -> tuple[Topic, ...]:
    """Every topic of the whole system; the largest event has ``max_message_bytes``."""
    return (
        *(topics.source(event.topic, max_message_bytes) for event in catalog.events),
        topics.compacted(names.COMMANDS),
        topics.changelog(names.changelog(names.REPLAY_GROUP, names.REPLAY_TABLE), of=names.COMMANDS),
        *(topic for consumer in consumers for topic in _of_consumer(consumer, max_message_bytes)),
    )


def _of_consumer(consumer: Consumer, max_message_bytes: int) -> Iterable[Topic]:
    yield topics.hand_over(consumer.retry_topic, max_message_bytes)
    yield topics.hand_over(consumer.dlq_topic, max_message_bytes)
    table = names.changelog(names.retry_group(consumer.name), names.RETRY_TABLE)
    yield topics.changelog(table, of=consumer.retry_topic)


def needed_by(consumer: Consumer) -> tuple[str, ...]:
    """The topics without which a consumer's worker cannot start."""
    subscribed = (subscription.topic for subscription in consumer.distribution)
    return (*subscribed, *(topic.name for topic in _of_consumer(consumer, 0)))
