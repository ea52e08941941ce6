"""Offsets of consumer groups and ends of logs, seen and moved from outside the groups."""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from connectors.access import Access, Connection
from connectors.problems import Problem, Refused, Unreachable

_NO_ANSWER = {KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN}
_PAUSE, _LONGEST_PAUSE = 0.1, 3.0

T = TypeVar("T")
#: Offset by partition of one topic.
Offsets = Mapping[int, int]


class _Passing(Unreachable):
    """A transaction that ends, a coordinator or leader that moves, a new topic that some broker has not heard of."""

    codes = frozenset(
        {
            KafkaError.UNSTABLE_OFFSET_COMMIT,
            KafkaError.NOT_COORDINATOR,
            KafkaError.COORDINATOR_NOT_AVAILABLE,
            KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
            KafkaError.NOT_LEADER_FOR_PARTITION,
            KafkaError.LEADER_NOT_AVAILABLE,
            KafkaError.UNKNOWN_TOPIC_OR_PART,
        }
    )


class _ShutOut(Problem):
    """Another producer has taken the same transactional id."""

    codes = frozenset({KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED})


class _Unknown(Problem):
    """There is no such group."""

    codes = frozenset({KafkaError.GROUP_ID_NOT_FOUND})


@dataclass(frozen=True, slots=True)
class Commit:
    """What a group has committed for a partition.  ``note`` is the text beside it; Waybill's workers leave none."""

    offset: int
    note: str = ""


class Groups:
    """Consumer groups and logs of one Kafka cluster.

    Unreachable is raised when it does not answer for ``timeout`` seconds, Refused when it lets us not in, Problem when
    it does not do what it is asked for.
    """

    def __init__(self, access: Access, timeout: float = 10.0) -> None:
        self._access, self._timeout = access, timeout
        self._wait = timeout + 1.0  # for librdkafka, which loses an answer now and then while a coordinator moves
        self._connection = access.open(AdminClient)
        self._client = self._connection.client

    # -- logs

    def partitions(self, topic: str) -> list[int]:
        """Problem if there is no such topic."""
        found = self._ask(lambda: self._client.list_topics(timeout=self._timeout)).topics.get(topic)
        if found is None:
            raise Problem(
                f"topic {topic} does not exist on {self._access}, or the user may not see it; "
                "run `waybill topics apply`"
            )
        return sorted(found.partitions)

    def starts(self, topic: str) -> dict[int, int]:
        """Offset of the oldest record that each partition keeps."""
        return self._log_offsets(topic, OffsetSpec.earliest())  # type: ignore[no-untyped-call] # confluent's

    def ends(self, topic: str, *, committed: bool = False) -> dict[int, int]:
        """One past the newest record; ``committed``: before the first that is in an open transaction."""
        isolation = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        return self._log_offsets(topic, OffsetSpec.latest(), isolation)  # type: ignore[no-untyped-call] # confluent's

    def at(self, topic: str, since: datetime) -> dict[int, int]:
        """Where the first record lies that is not older than ``since``; the end of a partition without one."""
        ends = self.ends(topic, committed=True)  # asked first: what comes in between is not passed over
        found = self._log_offsets(topic, OffsetSpec.for_timestamp(max(0, int(since.timestamp() * 1000))))
        return {partition: end if found[partition] < 0 else found[partition] for partition, end in ends.items()}

    def _log_offsets(
        self, topic: str, spec: OffsetSpec, isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED
    ) -> dict[int, int]:
        asked = {TopicPartition(topic, partition): spec for partition in self.partitions(topic)}

        def ask() -> dict[int, int]:
            answers = self._client.list_offsets(asked, isolation_level=isolation, request_timeout=self._timeout)
            return {at.partition: answer.result(self._wait).offset for at, answer in answers.items()}

        return self._ask(ask, f"topic {topic}")

    # -- groups

    def members(self, group: str) -> tuple[str, ...]:
        """Who is in the group, as ``client id at host``; none: its workers are stopped."""

        def ask() -> tuple[str, ...]:
            answers = self._client.describe_consumer_groups([group], request_timeout=self._timeout)
            members = answers[group].result(self._wait).members
            return tuple(f"{member.client_id} at {member.host.lstrip('/')}" for member in members)

        return self._ask(ask, f"group {group}")

    def owners(self, group: str) -> dict[tuple[str, int], str]:
        """The member that has each assigned partition; nothing while the group rebalances."""

        def ask() -> dict[tuple[str, int], str]:
            answers = self._client.describe_consumer_groups([group], request_timeout=self._timeout)
            return {
                (at.topic, at.partition): member.member_id
                for member in answers[group].result(self._wait).members
                for at in (member.assignment.topic_partitions if member.assignment else ())
            }

        return self._ask(ask, f"group {group}")

    def refuse_members(self, group: str) -> None:
        """Problem, with their names, while the group has members."""
        if members := self.members(group):
            raise Problem(
                f"workers of the group {group} still run: {', '.join(members)}; stop them and try again (one that was "
                "killed counts until kafka.session-timeout has passed)"
            )

    def committed(self, group: str, topic: str) -> dict[int, Commit]:
        """What the group has committed for a topic; a partition without a commit is left out."""
        return self._committed(group, topic, self.partitions(topic))

    def refuse_strangers(self, group: str, topic: str) -> None:
        """Refused if the group is not open to us.  ``topic``: one that we may read."""
        self._committed(group, topic, [0])

    def _committed(self, group: str, topic: str, partitions: Iterable[int]) -> dict[int, Commit]:
        asked = [TopicPartition(topic, partition) for partition in partitions]

        def ask() -> dict[int, Commit]:
            # Not by the AdminClient, which ends the process while the coordinator moves (librdkafka issue 5040).
            opened = self._access.open(Consumer, {"group.id": group, "isolation.level": "read_committed"})
            try:
                with self._problems(opened, f"group {group}, topic {topic}"):
                    found = opened.client.committed(asked, self._timeout)
                    _raise_first(found)
            finally:
                opened.client.close()
            return {each.partition: Commit(each.offset, each.metadata or "") for each in found if each.offset >= 0}

        return self._ask(ask)

    def commit(self, group: str, topic: str, commits: Mapping[int, Commit]) -> None:
        """Set offsets of a stopped group.  Problem, and nothing is changed, while the group has members."""

        def ask() -> None:
            request = ConsumerGroupTopicPartitions(group, _positions(topic, commits))
            answers = self._client.alter_consumer_group_offsets([request], request_timeout=self._timeout)
            _raise_first(answers[group].result(self._wait).topic_partitions)

        self.refuse_members(group)
        if commits:
            self._ask(ask, f"group {group}, topic {topic}")

    def delete(self, group: str) -> None:
        """Forget a stopped group and its offsets.  Problem while it has members."""
        self.refuse_members(group)
        deleted = self._client.delete_consumer_groups([group], request_timeout=self._timeout)[group]
        with suppress(_Unknown):
            self._ask(lambda: deleted.result(self._wait), f"group {group}")

    def commit_first(self, group: str, topic: str, offsets: Callable[[], Offsets]) -> None:
        """Commit ``offsets`` of a topic for a group that has none for it; do nothing if it has some.

        Of several workers that start at once one does it, and none does it again, however late it wakes up: each
        takes the same transactional id, which shuts out those before it, and looks only then.
        """
        pause = _PAUSE
        while not self._commit_first(group, topic, offsets):
            time.sleep(pause * random.uniform(1, 3))  # noqa: S311 - so that who shut this one out can end
            pause = min(pause * 2, _LONGEST_PAUSE)
            if self.committed(group, topic):
                return
        self.committed(group, topic)  # returns when the transaction's offsets show to whoever joins the group

    def _commit_first(self, group: str, topic: str, offsets: Callable[[], Offsets]) -> bool:
        """False if another worker shut this one out."""
        namer = self._access.open(Consumer, {"group.id": group})  # the transaction wants the group's name from one
        patience = int(self._timeout * 1000)  # how long a worker that crashes in between keeps others waiting
        name = f"{group}-start"
        opened = self._access.open(Producer, {"transactional.id": name, "transaction.timeout.ms": patience})
        producer, about = opened.client, f"transactional id {name}"
        try:
            with self._problems(opened, about):
                producer.init_transactions(self._timeout)
            if not self.committed(group, topic):
                positions = _positions(topic, {partition: Commit(offset) for partition, offset in offsets().items()})
                with self._problems(opened, about):
                    producer.begin_transaction()
                    producer.send_offsets_to_transaction(
                        positions, namer.client.consumer_group_metadata(), self._timeout
                    )
                    producer.commit_transaction(self._timeout)
        except _ShutOut:
            return False
        finally:
            namer.client.close()
        return True

    # -- answers

    def _ask(self, ask: Callable[[], T], about: str = "") -> T:
        """The answer; asked again for a while if what hinders it will pass."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                with self._problems(self._connection, about):
                    return ask()
            except _Passing:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)

    @contextmanager
    def _problems(self, connection: Connection[Any], about: str) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise Unreachable(f"Kafka at {self._access} does not answer in time; try again") from error
        except KafkaException as error:
            code, refused = error.args[0].code(), f"Kafka at {self._access} does not do it: {error.args[0].str()}"
            for kind in (_Passing, _ShutOut, _Unknown):
                if code in kind.codes:
                    raise kind(refused) from error
            problem = connection.problem(error, about)
            known = isinstance(problem, Refused) or code in _NO_ANSWER
            raise problem if known else Problem(refused) from error


def _positions(topic: str, commits: Mapping[int, Commit]) -> list[TopicPartition]:
    return [TopicPartition(topic, partition, each.offset, each.note) for partition, each in commits.items()]


def _raise_first(answers: list[TopicPartition]) -> None:
    """Kafka answers by partition."""
    for answer in answers:
        if answer.error is not None:
            raise KafkaException(answer.error)
