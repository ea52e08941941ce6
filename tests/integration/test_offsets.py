"""Offsets of groups on the real Kafka: seen and moved from outside, and the first commit when workers race for it."""

import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.access import Access
from connectors.kafka.offsets import Commit, Groups
from connectors.local.state import Stack
from connectors.problems import Problem, Unreachable

PARTITIONS = 3


@pytest.fixture
def groups(stack: Stack) -> Groups:
    return Groups(Access(stack.kafka))


@pytest.fixture
def group() -> str:
    return f"group-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def topic(admin: AdminClient, group: str) -> Iterator[str]:
    name = group.replace("-", "_")
    admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result()
    while name not in admin.list_topics(timeout=10).topics:
        threading.Event().wait(0.02)
    yield name
    admin.delete_topics([name])[name].result()


def produce(stack: Stack, topic: str, *partitions: int, **options: object) -> None:
    producer = Producer({"bootstrap.servers": stack.kafka})
    for partition in partitions:
        producer.produce(topic, b"x", partition=partition, **options)
    assert producer.flush(20) == 0


class Joined:
    """A member of a group, for as long as the block runs."""

    def __init__(self, stack: Stack, group: str, topic: str) -> None:
        self.consumer = Consumer({"bootstrap.servers": stack.kafka, "group.id": group, "client.id": "someone"})
        self.consumer.subscribe([topic])
        while not self.consumer.assignment():
            self.consumer.poll(0.05)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.consumer.close()


def test_a_logs_ends_and_the_place_of_a_time_are_found(stack: Stack, groups: Groups, topic: str) -> None:
    produce(stack, topic, 0, 0, 1, timestamp=1_000_000)
    produce(stack, topic, 0, timestamp=2_000_000)

    assert groups.starts(topic) == {0: 0, 1: 0, 2: 0}
    assert groups.ends(topic) == groups.ends(topic, committed=True) == {0: 3, 1: 1, 2: 0}
    assert groups.at(topic, datetime.fromtimestamp(1500, UTC)) == {0: 2, 1: 1, 2: 0}
    assert groups.at(topic, datetime.min.replace(tzinfo=UTC)) == {0: 0, 1: 0, 2: 0}
    assert groups.at(topic, datetime.max.replace(tzinfo=UTC)) == {0: 3, 1: 1, 2: 0}


def test_an_open_transaction_is_not_before_the_end(stack: Stack, groups: Groups, topic: str) -> None:
    producer = Producer({"bootstrap.servers": stack.kafka, "transactional.id": topic})
    producer.init_transactions(20)
    produce(stack, topic, 0)
    producer.begin_transaction()
    producer.produce(topic, b"open", partition=0)
    producer.flush(20)

    assert (groups.ends(topic, committed=True)[0], groups.ends(topic)[0]) == (1, 2)
    producer.abort_transaction(20)


def test_offsets_of_a_stopped_group_can_be_moved_and_the_group_forgotten(
    groups: Groups, group: str, topic: str
) -> None:
    assert groups.members(group) == ()
    assert groups.committed(group, topic) == {}

    groups.commit(group, topic, {0: Commit(5), 2: Commit(7, "why")})
    assert groups.committed(group, topic) == {0: Commit(5), 2: Commit(7, "why")}

    groups.delete(group)
    groups.delete(group)
    assert groups.committed(group, topic) == {}


def test_offsets_of_a_group_with_members_stay(stack: Stack, groups: Groups, group: str, topic: str) -> None:
    groups.commit(group, topic, {0: Commit(0)})

    with Joined(stack, group, topic):
        assert groups.members(group) == ("someone at 127.0.0.1",)
        for change in (lambda: groups.commit(group, topic, {0: Commit(1)}), lambda: groups.delete(group)):
            with pytest.raises(Problem, match=rf"workers of the group {group} still run: someone at 127\.0\.0\.1; "):
                change()
        # Somebody who joins after the look is refused by the broker itself.
        groups.refuse_members = lambda _: None
        with pytest.raises(Problem, match="Unknown member"):
            groups.commit(group, topic, {0: Commit(1)})

    assert groups.committed(group, topic) == {0: Commit(0)}


def test_of_workers_that_start_together_one_commits_the_start_and_all_see_it(
    stack: Stack, groups: Groups, group: str, topic: str
) -> None:
    seen: list[object] = []

    def start(offset: int) -> None:
        own = Groups(Access(stack.kafka))
        own.commit_first(group, topic, lambda: {0: offset, 1: offset})
        seen.append(own.committed(group, topic))

    workers = [threading.Thread(target=start, args=(offset,)) for offset in (3, 4, 5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    assert len(seen) == 3
    assert seen[0] == seen[1] == seen[2]
    groups.commit_first(group, topic, lambda: pytest.fail("the group has started"))


def test_a_worker_that_wakes_up_late_does_not_move_a_group_that_has_started(
    stack: Stack, groups: Groups, group: str, topic: str
) -> None:
    def meanwhile() -> dict[int, int]:
        """Another worker starts and gets on while this one, which has looked already, sleeps."""
        if not groups.committed(group, topic):
            Groups(Access(stack.kafka)).commit_first(group, topic, lambda: {0: 1})
            reader = Consumer({"bootstrap.servers": stack.kafka, "group.id": group})
            reader.commit(offsets=[TopicPartition(topic, 0, 9)], asynchronous=False)
            reader.close()
        return {0: 20}

    groups.commit_first(group, topic, meanwhile)

    assert groups.committed(group, topic) == {0: Commit(9)}


def test_a_worker_that_crashed_while_it_wrote_the_start_leaves_none_of_it(
    stack: Stack, groups: Groups, group: str, topic: str
) -> None:
    crashed = Producer({"bootstrap.servers": stack.kafka, "transactional.id": f"{group}-start", "log_level": 0})
    crashed.init_transactions(20)
    crashed.begin_transaction()
    namer = Consumer({"bootstrap.servers": stack.kafka, "group.id": group})
    crashed.send_offsets_to_transaction([TopicPartition(topic, 0, 3)], namer.consumer_group_metadata(), 20)
    namer.close()

    groups.commit_first(group, topic, lambda: {0: 5, 1: 5})

    assert groups.committed(group, topic) == {0: Commit(5), 1: Commit(5)}


def test_a_kafka_that_does_not_answer_is_unreachable_for_groups_too() -> None:
    with pytest.raises(Unreachable, match=r"Kafka at 127\.0\.0\.1:1 .*does not answer"):
        Groups(Access("127.0.0.1:1"), timeout=0.5).members("g")


def test_a_topic_that_is_missing_is_named(groups: Groups) -> None:
    with pytest.raises(Problem, match=r"topic nowhere does not exist on .*; run `waybill topics apply`"):
        groups.committed("g", "nowhere")
