"""The topics that Waybill needs, from what is configured."""

from collections.abc import Iterable

from connectors.kafka import Needs, topics
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
        topics.compacted(names.STATE, soon=True),
        *(topic for consumer in consumers for topic in _of_consumer(consumer, max_message_bytes)),
    )


def _of_consumer(consumer: Consumer, max_message_bytes: int) -> Iterable[Topic]:
    yield topics.hand_over(consumer.retry_topic, max_message_bytes)
    yield topics.hand_over(consumer.dlq_topic, max_message_bytes + topics.HAND_OVER_OVERHEAD)  # retries end there too
    yield topics.changelog(names.retry_changelog(consumer.name), of=consumer.retry_topic)


def needed_by(consumer: Consumer, dedicated_topic: str | None = None) -> Needs:
    """The topics without which a consumer's worker, or that of a dedicated topic of it, cannot start."""
    sources, ends = tuple(consumer.topics(dedicated_topic)), (consumer.retry_topic, consumer.dlq_topic)
    if dedicated_topic:
        return Needs(sources, ends)
    rows = names.retry_changelog(consumer.name)
    return Needs((*sources, consumer.retry_topic, rows), (*ends, rows))
