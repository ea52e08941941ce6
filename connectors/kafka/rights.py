"""What a worker needs of Kafka, looked at before it begins: topics that are there, and rights on them and its group.

Brokers say what a user may do when they are asked to describe something.  Those that give no rights allow everything.
"""

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient

from connectors.access import Access, Connection
from connectors.problems import Problem, Refused

_EVERYTHING = frozenset(AclOperation)
_NOTHING: frozenset[AclOperation] = frozenset()
#: What it means that something cannot be described; of what is not there nobody needs a right.
_MEANS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: _NOTHING,
    KafkaError.GROUP_AUTHORIZATION_FAILED: _NOTHING,
    KafkaError.UNKNOWN_TOPIC_OR_PART: None,
    KafkaError.GROUP_ID_NOT_FOUND: _EVERYTHING,
}

#: What may be done with each thing; None if there is no such thing.
Allowed = Mapping[str, Collection[AclOperation] | None]


@dataclass(frozen=True, slots=True)
class Needs:
    """The topics that a worker reads and those that it writes; it does not start without them."""

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()

    @property
    def topics(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.reads, *self.writes)))


NO_NEEDS = Needs()


def check(access: Access, group: str, needs: Needs, wants: Collection[str], timeout: float) -> None:
    """Raises Problem for a topic that is not there, Refused for a right that is missing, Unreachable.

    ``wants``: topics that the worker reads where it finds them.
    """
    connection = access.open(AdminClient)
    ask = {"include_authorized_operations": True, "request_timeout": timeout}
    names = TopicCollection([*needs.topics, *wants])
    topics = _allowed(connection, connection.client.describe_topics(names, **ask) if names.topic_names else {})
    if missing := [name for name in needs.topics if topics[name] is None]:
        raise Problem(
            f"Kafka at {access} lacks topics this worker needs: {', '.join(missing)}; "
            "create them with `waybill topics apply`"
        )
    groups = _allowed(connection, connection.client.describe_consumer_groups([group], **ask))
    if lacking := [*_lacks(group, needs, wants, topics, groups)]:
        user = f"the user {access.username}" if access.username else "this worker's user"
        raise Refused(
            f"Kafka at {access} does not give {user} the rights it needs: {', '.join(lacking)}; give them as ACLs"
        )


def _lacks(group: str, needs: Needs, wants: Collection[str], topics: Allowed, groups: Allowed) -> Iterator[str]:
    """The rights that are missing, as Kafka calls them."""
    for name in dict.fromkeys((*needs.reads, *wants)):
        if not _may(AclOperation.READ, topics[name]):
            yield f"Read of topic {name}"
    for name in needs.writes:
        if not _may(AclOperation.WRITE, topics[name]):
            yield f"Write of topic {name}"
    if not _may(AclOperation.READ, groups[group]):
        yield f"Read of group {group}"


def _may(operation: AclOperation, allowed: Collection[AclOperation] | None) -> bool:
    return allowed is None or operation in allowed


def _allowed(connection: Connection[AdminClient], answers: Mapping[str, Future[Any]]) -> Allowed:
    found: dict[str, Collection[AclOperation] | None] = {}
    for name, answer in answers.items():
        try:
            told = answer.result().authorized_operations
        except KafkaException as error:
            if error.args[0].code() not in _MEANS:
                raise connection.problem(error) from error
            found[name] = _MEANS[error.args[0].code()]
        else:
            found[name] = _EVERYTHING if told is None else told
    return found
