"""What a worker needs of Kafka, looked at before it begins: topics that are there, and rights on them and its group.

Brokers say what a user may do with a topic when they are asked to describe it.  Those that give no rights allow
everything.
"""

from collections.abc import Collection
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient

from connectors.access import Access
from connectors.kafka.offsets import Groups
from connectors.problems import Problem, Refused, Unreachable


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

    ``wants``: topics that the worker reads where it finds them.  One that it may not even see is not there.
    """
    allowed = _allowed(access, [*needs.topics, *wants], timeout)
    if missing := [name for name in needs.topics if name not in allowed]:
        raise Problem(
            f"Kafka at {access} lacks topics this worker needs: {', '.join(missing)}; "
            "create them with `waybill topics apply`"
        )
    reads = (*needs.reads, *(name for name in wants if allowed.get(name)))
    lacking = [f"Read of topic {name}" for name in reads if AclOperation.READ not in allowed[name]]
    lacking += [f"Write of topic {name}" for name in needs.writes if AclOperation.WRITE not in allowed[name]]
    if lacking:
        user = f"the user {access.username}" if access.username else "this worker's user"
        raise Refused(
            f"Kafka at {access} does not give {user} the rights it needs: {', '.join(lacking)}; give them as ACLs"
        )
    if reads:
        Groups(access, timeout).refuse_strangers(group, reads[0])


def _allowed(access: Access, topics: list[str], timeout: float) -> dict[str, Collection[AclOperation]]:
    """What may be done with each topic that is there."""
    if not topics:
        return {}
    connection, found = access.open(AdminClient), dict[str, Collection[AclOperation]]()
    answers = connection.client.describe_topics(
        TopicCollection(topics), include_authorized_operations=True, request_timeout=timeout
    )
    for name, answer in answers.items():
        try:
            told = answer.result(timeout + 1.0).authorized_operations
        except TimeoutError as error:
            raise Unreachable(f"Kafka at {access} does not say what may be done with its topics") from error
        except KafkaException as error:
            match error.args[0].code():
                case KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    found[name] = []
                case KafkaError.UNKNOWN_TOPIC_OR_PART:
                    pass
                case _:
                    raise connection.problem(error) from error
        else:
            found[name] = list(AclOperation) if told is None else told  # None: from a broker that does not say
    return found
