"""Which topics must be there, and what is done so that they are."""

import pytest
from built_catalog import shop
from hypothesis import given
from hypothesis import strategies as st
from marked import document
from team_file import team_file

from connectors.kafka import Needs, topics
from connectors.kafka.topics import Configure, Create, Existing, Grow, Keep, Leave
from pipelines import config, topology

LIMIT = 4 << 20
SEVEN_DAYS = str(7 * 24 * 60 * 60 * 1000)


def consumer(name: str = "x") -> config.Consumer:
    [read], findings = config.inspect([document(team_file(name=name))], shop(), LIMIT)
    assert findings == ()
    return read


def as_wanted(topic: topics.Topic, replicas: int = 3, **changes: str) -> Existing:
    settings = Create(topic, 12, replicas).settings
    return Existing(12, replicas, {**settings, **{name.replace("_", "."): value for name, value in changes.items()}})


def test_every_topic_of_the_system_is_wanted_once() -> None:
    wanted = topology.wanted([consumer(), consumer("y")], shop(), LIMIT)

    assert [topic.name for topic in wanted] == [
        "order_paid",
        "order_placed",
        "waybill_commands",
        "waybill-replay-replay-state-changelog",
        "waybill_state",
        "x_retry",
        "x_dlq",
        "waybill-x-retry-retry-state-changelog",
        "y_retry",
        "y_dlq",
        "waybill-y-retry-retry-state-changelog",
    ]


def test_a_worker_needs_what_its_consumer_reads_and_writes() -> None:
    changelog = "waybill-x-retry-retry-state-changelog"

    assert topology.needed_by(consumer()) == Needs(
        reads=("order_paid", "x_retry", changelog), writes=("x_retry", "x_dlq", changelog)
    )


def test_a_dedicated_topics_worker_needs_that_topic_and_where_it_hands_over() -> None:
    dedicated = "distribution: [{topic: order_paid, services: [OrderPaid], dedicated: true}]"
    [read], _ = config.inspect([document(team_file(dedicated))], shop(), LIMIT)

    assert topology.needed_by(read, "order_paid") == Needs(("order_paid",), ("x_retry", "x_dlq"))
    assert "order_paid" not in topology.needed_by(read).topics


@pytest.mark.parametrize(
    ("topic", "cleanup", "settings"),
    [
        (topics.source("a", LIMIT), "delete", {"retention.ms": SEVEN_DAYS, "max.message.bytes": "4259840"}),
        (topics.hand_over("a", LIMIT), "delete", {"retention.ms": "-1", "max.message.bytes": "4325376"}),
        (topics.compacted("a"), "compact", {}),
        (topics.compacted("a", soon=True), "compact", {"segment.ms": "600000"}),
        (topics.changelog("a", of="b"), "compact", {"segment.ms": "600000"}),
    ],
)
def test_a_missing_topic_is_created_as_its_kind_must_be(
    topic: topics.Topic, cleanup: str, settings: dict[str, str]
) -> None:
    assert topics.plan([topic], {}) == (Create(topic, partitions=12, replicas=3),)
    assert Create(topic, 12, 3).settings == {"cleanup.policy": cleanup, **settings, "min.insync.replicas": "2"}
    assert Create(topic, 12, 1).settings == {"cleanup.policy": cleanup, **settings, "min.insync.replicas": "1"}


@pytest.mark.parametrize(
    "topic",
    [topics.source("a", LIMIT), topics.hand_over("a", LIMIT), topics.compacted("a"), topics.changelog("a", of="b")],
)
def test_a_topic_that_is_as_it_must_be_is_kept(topic: topics.Topic) -> None:
    assert topics.plan([topic], {"a": as_wanted(topic)}) == (Keep(topic),)


def test_what_differs_is_changed_and_nothing_else() -> None:
    topic = topics.hand_over("a", LIMIT)
    existing = as_wanted(topic, retention_ms=SEVEN_DAYS, cleanup_policy="compact", segment_ms="1")

    assert topics.plan([topic], {"a": existing}) == (
        Configure(topic, {"cleanup.policy": ("compact", "delete"), "retention.ms": (SEVEN_DAYS, "-1")}),
    )


@pytest.mark.parametrize("longer", ["-1", str(int(SEVEN_DAYS) + 1)])
def test_what_is_kept_longer_or_may_be_larger_stays(longer: str) -> None:
    topic = topics.source("a", LIMIT)

    assert topics.plan([topic], {"a": as_wanted(topic, retention_ms=longer, max_message_bytes="9999999")}) == (
        Keep(topic),
    )


def test_a_local_apply_does_not_weaken_a_replicated_topic() -> None:
    topic = topics.source("a", LIMIT)

    assert topics.plan([topic], {"a": as_wanted(topic)}, replicas=1) == (Keep(topic),)


def test_too_few_replicas_are_told_and_left() -> None:
    topic = topics.source("a", LIMIT)

    [step] = topics.plan([topic], {"a": as_wanted(topic, replicas=1)})

    assert step == Leave(topic, "has 1 of 3 replicas; reassign it with Kafka's own tools")


def test_a_source_topic_grows_only_on_demand() -> None:
    topic = topics.source("a", LIMIT)
    small = {"a": Existing(4, 3, as_wanted(topic).settings)}

    assert topics.plan([topic], small) == (Leave(topic, "has 4 of 12 partitions; `--grow` adds them"),)
    assert topics.plan([topic], small, grow=True) == (Grow(topic, 4, 12),)


@pytest.mark.parametrize("topic", [topics.hand_over("a", LIMIT), topics.compacted("a")])
def test_a_topic_whose_partitions_mean_something_never_grows(topic: topics.Topic) -> None:
    [step] = topics.plan([topic], {"a": Existing(4, 3, as_wanted(topic).settings)}, grow=True)

    assert isinstance(step, Leave)
    assert step.reason.startswith("has 4 of 12 partitions; more would part records that belong together")


def test_a_changelog_gets_the_partitions_of_the_topic_it_belongs_to() -> None:
    retry, changelog = topics.hand_over("retry", LIMIT), topics.changelog("log", of="retry")

    steps = topics.plan([retry, changelog], {"retry": Existing(5, 3, as_wanted(retry).settings)})

    assert steps[1] == Create(changelog, partitions=5, replicas=3)


def test_a_changelog_with_other_partitions_is_told() -> None:
    changelog = topics.changelog("log", of="retry")
    there = {
        "retry": Existing(5, 3, as_wanted(topics.hand_over("retry", LIMIT)).settings),
        "log": as_wanted(changelog),
    }

    [step] = topics.plan([changelog], there)

    assert step == Leave(changelog, "has 12 partitions, retry 5; a worker cannot start until both have the same")


@given(
    topic=st.sampled_from([topics.source("a", LIMIT), topics.hand_over("a", LIMIT), topics.compacted("a")]),
    partitions=st.integers(1, 24),
    retention=st.integers(-1, 10**10),
    limit=st.integers(1, 10**8),
    grow=st.booleans(),
)
def test_no_step_shortens_or_shrinks_anything(
    topic: topics.Topic, partitions: int, retention: int, limit: int, grow: bool
) -> None:
    settings = {"retention.ms": str(retention), "max.message.bytes": str(limit)}
    existing = Existing(partitions, 3, {**as_wanted(topic).settings, **settings})

    for step in topics.plan([topic], {"a": existing}, grow=grow):
        match step:
            case Configure(_, changes):
                for now, new in changes.values():
                    assert int(new) == -1 or (int(now) != -1 and int(now) < int(new))
            case Grow(_, now, more):
                assert grow
                assert now < more
            case Create():
                raise AssertionError
