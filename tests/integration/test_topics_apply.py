"""`waybill topics apply` on the real Kafka."""

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from waybill.v1 import options_pb2

from connectors.access import Access
from connectors.kafka import topics
from connectors.kafka.admin import Topics
from connectors.kafka.topics import Configure, Create, Grow, Keep, Topic
from connectors.local.state import Stack
from connectors.problems import Unreachable
from pipelines import cli

ROOT = Path(__file__).parents[2]
LIMIT = 4 << 20


@pytest.fixture
def cluster(stack: Stack) -> Topics:
    return Topics(Access(stack.kafka))


@pytest.fixture
def own(admin: AdminClient) -> Iterator[Callable[[str], str]]:
    """Names no other test has; topics with such a name in theirs are removed in the end."""
    mark = uuid.uuid4().hex[:8]
    yield lambda prefix: f"{prefix}_{mark}"
    made = [name for name in admin.list_topics(timeout=10).topics if mark in name]
    for deleted in admin.delete_topics(made).values() if made else []:
        deleted.result()


@pytest.fixture
def make(cluster: Topics, admin: AdminClient) -> Callable[..., None]:
    """Create a topic otherwise than Waybill would, and wait until the broker shows it."""

    def created(name: str, partitions: int, **settings: str) -> None:
        config = {key.replace("_", "."): value for key, value in settings.items()}
        admin.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result()
        eventually(lambda: not cluster.missing([name]))

    return created


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def descriptors_with(topic: str) -> bytes:
    """The example domain, with only PackageDelayedEvent an event type, on a topic of its own."""
    files = FileDescriptorSet.FromString((ROOT / "proto" / "descriptors.binpb").read_bytes())
    for file in files.file:
        for message in file.message_type:
            message.options.ClearExtension(options_pb2.event)
            if message.name == "PackageDelayedEvent":
                message.options.Extensions[options_pb2.event].topic = topic
    return files.SerializeToString()


def applied(cluster: Topics, *wanted: Topic, grow: bool = False) -> dict[str, type]:
    steps = topics.plan(wanted, cluster.existing(topic.name for topic in wanted), replicas=1, grow=grow)
    assert cluster.carry_out(steps) == {}
    return {step.topic.name: type(step) for step in steps}


def test_missing_topics_are_created_and_then_kept(cluster: Topics, own: Callable[[str], str]) -> None:
    source, retry = topics.source(own("source"), LIMIT), topics.hand_over(own("retry"), LIMIT)
    wanted = (source, retry, topics.compacted(own("state")), topics.changelog(own("log"), of=retry.name))
    names = [topic.name for topic in wanted]
    assert cluster.missing(names) == names

    assert set(applied(cluster, *wanted).values()) == {Create}
    assert cluster.missing(names) == []
    assert set(applied(cluster, *wanted).values()) == {Keep}
    existing = cluster.existing(names)
    assert {topic.partitions for topic in existing.values()} == {12}
    assert [topic.settings["cleanup.policy"] for topic in existing.values()] == [
        "delete",
        "delete",
        "compact",
        "compact",
    ]


def test_what_differs_is_set_and_the_rest_stays(
    cluster: Topics, make: Callable[..., None], own: Callable[[str], str]
) -> None:
    wanted = topics.hand_over(own("dlq"), LIMIT)
    make(wanted.name, 12, retention_ms="1000", max_message_bytes="9000000", segment_bytes="2000000")

    assert applied(cluster, wanted) == {wanted.name: Configure}

    eventually(lambda: cluster.existing([wanted.name])[wanted.name].settings["retention.ms"] == "-1")
    settings = cluster.existing([wanted.name])[wanted.name].settings
    assert (settings["max.message.bytes"], settings["segment.bytes"]) == ("9000000", "2000000")


def test_partitions_are_added_to_a_source_topic_when_asked(
    cluster: Topics, make: Callable[..., None], own: Callable[[str], str]
) -> None:
    source, retry = topics.source(own("source"), LIMIT), topics.hand_over(own("retry"), LIMIT)
    log = topics.changelog(own("log"), of=retry.name)
    make(source.name, 3)
    make(retry.name, 3)

    applied(cluster, source, retry, log)
    assert [topic.partitions for topic in cluster.existing([source.name, retry.name, log.name]).values()] == [3, 3, 3]

    assert applied(cluster, source, retry, grow=True)[source.name] is Grow
    assert cluster.existing([source.name])[source.name].partitions == 12
    assert cluster.existing([retry.name])[retry.name].partitions == 3


def test_a_retry_topic_takes_what_a_source_topic_took_and_64_kib_more(
    cluster: Topics, stack: Stack, own: Callable[[str], str]
) -> None:
    source, retry = topics.source(own("source"), LIMIT), topics.hand_over(own("retry"), LIMIT)
    applied(cluster, source, retry)
    producer = Producer({"bootstrap.servers": stack.kafka, "message.max.bytes": 8 << 20})
    outcomes: dict[tuple[str, int], str] = {}

    def produce(name: str, size: int) -> None:
        producer.produce(name, bytes(size), on_delivery=lambda error, _: outcomes.update({(name, size): str(error)}))

    largest = LIMIT + topics.RECORD_OVERHEAD - 200
    produce(source.name, largest)
    produce(source.name, largest + 400)
    produce(retry.name, largest + topics.HAND_OVER_OVERHEAD)
    assert producer.flush(30) == 0

    refused = outcomes.pop((source.name, largest + 400))
    assert "MSG_SIZE_TOO_LARGE" in refused
    assert set(outcomes.values()) == {"None"}


def test_a_kafka_that_does_not_answer_is_unreachable() -> None:
    with pytest.raises(Unreachable, match=r"Kafka at 127\.0\.0\.1:1 .* does not answer"):
        Topics(Access("127.0.0.1:1"), timeout=1).missing(["a"])


def test_the_command_does_it_for_the_whole_configuration(
    stack: Stack,
    own: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    retry, dlq = own("retry"), own("dlq")
    consumer = own("c")
    log = f"waybill-{consumer}-retry-retry-state-changelog"
    source = own("package_delayed")
    (tmp_path / "descriptors.binpb").write_bytes(descriptors_with(source))
    (tmp_path / "waybill.yaml").write_text(
        f"kafka: {{bootstrap-servers: '{stack.kafka}'}}\ndescriptors: descriptors.binpb\n"
        "consumers: [team.yaml]\nlake: {root: l}\n"
    )
    (tmp_path / "team.yaml").write_text(
        f"consumers: {{{consumer}: {{grpc-server-hostname: h, grpc-server-port: 1, retry-topic: {retry}, "
        f"dlq-topic: {dlq}, distribution: [{{topic: {source}, services: [PackageDelayed]}}]}}}}\n"
    )
    monkeypatch.setenv("WAYBILL_CONFIG", str(tmp_path / "waybill.yaml"))

    def apply(*options: str) -> tuple[int, dict[str, str]]:
        monkeypatch.setattr("sys.argv", ["waybill", "topics", "apply", *options])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        lines = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
        return int(ended.value.code or 0), {name: " ".join([what, *rest]) for what, name, *rest in lines}

    code, would = apply("--local", "--dry-run")
    assert code == 0
    assert {would[name] for name in (source, retry, dlq, log)} == {"create 12 partitions, 1 replica"}

    code, failed = apply()
    assert code == 4
    assert failed[retry].startswith("failed ")
    assert failed[retry].endswith("`--local` makes do with one broker")

    assert apply("--local") == (0, would)
    code, then = apply("--local")
    assert code == 0
    assert {then[name] for name in (source, retry, dlq, log)} == {"keep"}
