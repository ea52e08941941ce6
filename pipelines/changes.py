"""What a changed configuration does to events that are on their way by the deployed one."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from connectors.schemas import Catalog
from pipelines import routing
from pipelines.format import Consumer


@dataclass(frozen=True, slots=True)
class Change:
    """``loses``: some event is not delivered, or is delivered again.  ``retires``: unless the consumer was retired."""

    consumer: str
    message: str
    loses: bool = False
    retires: bool = False


def changes(old: Iterable[Consumer], was: Catalog, new: Iterable[Consumer], now: Catalog) -> Iterator[Change]:
    """In the order of the old consumers, then of the new ones."""
    kept = {consumer.name: consumer for consumer in new}
    known = {consumer.name: consumer for consumer in old}
    for name, before in known.items():
        if name in kept:
            yield from _changed(before, _endpoints(before, was), kept[name], _endpoints(kept[name], now))
        else:
            yield _removed(before, [after for other, after in kept.items() if other not in known])
    for name, after in kept.items():
        if name not in known:
            yield Change(name, f"is new and begins at `start-from`, {after.start_from}")


def _endpoints(consumer: Consumer, catalog: Catalog) -> dict[str, set[str]]:
    return {route.topic: {each.name for each in route.endpoints} for route in routing.routes([consumer], catalog)}


def _removed(before: Consumer, added: Iterable[Consumer]) -> Change:
    topics = {before.retry_topic, before.dlq_topic}
    heir = next((after.name for after in added if topics & {after.retry_topic, after.dlq_topic}), None)
    renamed = f" (its groups have its name: to Kafka `{heir}` is another consumer, which begins anew)" if heir else ""
    return Change(
        before.name, f"is removed{renamed}: what has not reached it by then never will", loses=True, retires=True
    )


def _changed(
    before: Consumer, had: Mapping[str, set[str]], after: Consumer, has: Mapping[str, set[str]]
) -> Iterator[Change]:
    name = before.name
    if before.retry_topic != after.retry_topic:
        message = f"`retry-topic` was {before.retry_topic}: what waits there would not be retried"
        yield Change(name, message, loses=True, retires=True)
    if before.dlq_topic != after.dlq_topic:
        message = f"`dlq-topic` was {before.dlq_topic}: dead letters there could not be replayed"
        yield Change(name, message, loses=True, retires=True)
    for topic in sorted(had.keys() - has.keys()):
        yield Change(
            name,
            f"has {topic} no more: what its workers have not delivered by then, the lag of its group, never will be; "
            "where that is not meant, let them run until the lag is 0",
            loses=True,
        )
    for topic in sorted(has.keys() - had.keys()):
        yield Change(name, f"begins with {topic} at `start-from`, {after.start_from}")
    for topic in sorted(had.keys() & has.keys()):
        yield from _topic_changed(name, topic, had[topic], has[topic])
        if (topic in before.topics()) != (topic in after.topics()):
            undo = " --undo" if topic in after.topics() else ""
            yield Change(
                name,
                f"{topic} changes its group by `dedicated`: stop all its workers, run "
                f"`waybill consumer dedicate {name} {topic}{undo}`, and start them; before that they refuse to start",
            )
    yield from _limits(before, after)


def _topic_changed(name: str, topic: str, had: set[str], has: set[str]) -> Iterator[Change]:
    for endpoint in sorted(had - has):
        yield Change(name, f"{endpoint} is removed from {topic}: its waiting retries become dead letters (GONE)")
    for endpoint in sorted(has - had):
        yield Change(name, f"{endpoint} gets the events of {topic} that the group has not read by then")


def _limits(before: Consumer, after: Consumer) -> Iterator[Change]:
    name = before.name
    if before.start_from != after.start_from:
        yield Change(name, "`start-from` has no effect on topics the consumer has begun with")
    if before.max_retry_attempts > after.max_retry_attempts:
        yield Change(name, "`max-retry-attempts` is less: waiting retries that had as many become dead letters")
    if before.max_message_bytes > after.max_message_bytes:
        yield Change(name, "`max-message-bytes` is less: larger events, waiting ones too, become dead letters")
