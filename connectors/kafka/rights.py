"""What a worker needs of Kafka, looked at before it begins: topics that are there, and rights on them and its group.

Brokers say what a user may do with a topic when they are asked to describe it.  Those that give no rights allow
everything.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient

from connectors.access import Access
from connectors.kafka.offsets import Groups
from connectors.problems import Problem, Refused, Unreachable

_EVERYTHING = frozenset(AclOperation)
_NOTHING: frozenset[AclOperation] = frozenset()
#: What it means that a topic cannot be described.
_MEANS = {KafkaError.TOPIC_AUTHORIZATION_FAILED: _NOTHING, KafkaError.UNKNOWN_TOPIC_OR_PART: None}

#: What may be done with each topic; None if there is no such topic.
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
    topics = _allowed(access, [*needs.topics, *wants], timeout)
    if missing := [name for name in needs.topics if topics[name] is None]:
        raise Problem(
            f"Kafka at {access} lacks topics this worker needs: {', '.join(missing)}; "
            "create them with `waybill topics apply`"
        )
    if lacking := [*_lacking(needs, wants, topics)]:
        user = f"the user {access.username}" if access.username else "this worker's user"
        raise Refused(
            f"Kafka at {access} does not give {user} the rights it needs: {', '.join(lacking)}; give them as ACLs"
        )
    if there := [name for name, allowed in topics.items() if allowed is not None]:
        Groups(access, timeout).refuse_strangers(group, there[0])


def _lacking(needs: Needs, wants: Collection[str], topics: Allowed) -> Iterator[str]:
    """The rights that are missing, as Kafka calls them."""
    for name in dict.fromkeys((*needs.reads, *wants)):
        if not _may(AclOperation.READ, topics[name]):
            yield f"Read of topic {name}"
    for name in needs.writes:
        if not _may(AclOperation.WRITE, topics[name]):
            yield f"Write of topic {name}"


def _may(operation: AclOperation, allowed: Collection[AclOperation] | None) -> bool:
    return allowed is None or operation in allowed


def _allowed(access: Access, topics: list[str], timeout: float) -> Allowed:
    if not topics:
        return {}
    connection, found = access.open(AdminClient), dict[str, Collection[AclOperation] | None]()
    answers = connection.client.describe_topics(
        TopicCollection(topics), include_authorized_operations=True, request_timeout=timeout
    )
    for name, answer in answers.items():
        try:
            told = answer.result(timeout + 1.0).authorized_operations
        except TimeoutError as error:
            raise Unreachable(f"Kafka at {access} does not say what may be done with its topics") from error
        except KafkaException as error:
            if error.args[0].code() not in _MEANS:
                raise connection.problem(error) from error
            found[name] = _MEANS[error.args[0].code()]
        else:
            found[name] = _EVERYTHING if told is None else told
    return found
