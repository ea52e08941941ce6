import re
import time
import uuid

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.access import Access
from connectors.local.state import Stack
from connectors.problems import Problem, Unreachable
from lake import epochs
from lake.epochs import TopicIds


def make(admin: AdminClient, *names: str) -> None:
    for future in admin.create_topics([NewTopic(name, 1, 1) for name in names]).values():
        future.result(20)


def wait_until_gone(admin: AdminClient, name: str) -> None:
    deadline = time.monotonic() + 20
    while name in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline


def ids_of(identify: TopicIds, *names: str) -> dict[str, str]:
    """A topic just made is not known to every part of Kafka at once."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return identify(names)
        except Problem:
            assert time.monotonic() < deadline


def test_a_topics_id_is_a_name_a_folder_can_have_and_differs_in_each_of_its_lives(
    stack: Stack, admin: AdminClient
) -> None:
    names = [f"epochs_{uuid.uuid4().hex[:12]}" for _ in range(12)]
    make(admin, *names)
    identify = TopicIds(Access(stack.kafka))
    ids = ids_of(identify, *names)
    assert set(ids) == set(names)
    assert len(set(ids.values())) == len(names)
    # Half of all ids hold a `/` or a `+` in the alphabet of librdkafka.
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22}", found) for found in ids.values())
    assert identify(names) == ids
    admin.delete_topics(names[:1])[names[0]].result(20)
    wait_until_gone(admin, names[0])
    make(admin, names[0])
    assert ids_of(identify, names[0]) != {names[0]: ids[names[0]]}


def test_a_topic_that_does_not_exist_is_a_problem_with_its_remedy(stack: Stack) -> None:
    with pytest.raises(Problem, match=r"the topic no_such_topic does not exist .* `waybill topics apply`"):
        TopicIds(Access(stack.kafka))(["no_such_topic"])


def test_a_kafka_that_does_not_answer_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "TIMEOUT", 1.0)
    with pytest.raises(Unreachable, match=r"Kafka at 127\.0\.0\.1:9 .* does not answer"):
        TopicIds(Access("127.0.0.1:9"))(["any"])


def test_a_missing_topic_does_not_hide_the_lives_of_others(stack: Stack, admin: AdminClient) -> None:
    name = f"epochs_{uuid.uuid4().hex[:12]}"
    make(admin, name)
    identify = TopicIds(Access(stack.kafka))
    ids = ids_of(identify, name)
    lives = identify.lives(["no_such_topic", name])
    assert lives[name] == ids[name]
    assert "does not exist" in str(lives["no_such_topic"])
