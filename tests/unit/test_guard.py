"""What the guard of an app asks Kafka, and of what it says nothing."""

from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from connectors.kafka import watchdog
from connectors.kafka.guard import REPEAT, Guard
from connectors.kafka.holds import Holds
from connectors.kafka.watchdog import Sample
from connectors.problems import Problem

PATIENCE = 60.0


class Groups:
    """Of a Kafka with one record to go in the topic ``here``; of a missing one it says nothing at all."""

    def __init__(self):
        self.asked = []

    def starts(self, topic):
        self.asked.append(topic)
        if topic == "missing":
            raise Problem("topic missing does not exist")
        return {0: 0}

    def committed(self, group, topic):
        return {}

    def ends(self, topic, *, committed):
        return {0: 1}

    def owners(self, group):
        return {("here", 0): "somebody else"}


@pytest.fixture
def guard():
    app = SimpleNamespace(
        conf=SimpleNamespace(id="group of test_guard"),
        holds=Holds("group of test_guard", ""),
        member_id="me",
        assigned_positions={},
    )
    guard = Guard(app, PATIENCE)
    guard._groups, guard._missing = Groups(), ["missing"]
    guard._watch = watchdog.start(Sample(0.0, {"here": 0, "missing": 0}))
    return guard


def seen(guard, now):
    """Every second the event loop answers, and nothing moves."""
    guard._watch = watchdog.sampled(watchdog.looked(guard._watch, now), Sample(now, {"here": 0, "missing": 0}))
    guard._judge(now)


def test_a_topic_that_is_missing_does_not_keep_the_guard_from_judging_others_and_is_excused(guard):
    for now in range(1, 200):
        seen(guard, float(now))
    assert set(guard._groups.asked) == {"here"}
    assert guard._watch.quiet("missing") < PATIENCE


def test_missing_topics_are_told_of_again_and_again(guard):
    with capture_logs() as lines:
        for now in range(1, 200):
            guard._tell([], float(now))
    assert [line["topics"] for line in lines] == [["missing"]] * (200 // int(REPEAT) + 1)
