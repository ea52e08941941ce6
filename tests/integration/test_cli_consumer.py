"""`waybill consumer` and what a worker does before it joins its group, on the real Kafka."""

import json
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from typer.testing import CliRunner
from waybill.v1 import options_pb2

from connectors import schemas, settings
from connectors.access import Access
from connectors.kafka import admin as kafka_admin
from connectors.kafka import topics
from connectors.kafka.offsets import Commit, Groups
from connectors.local.state import Stack
from connectors.problems import Problem
from pipelines import cli, config, handover, metrics, presence, topology, worker_state
from pipelines.handover import HandOver
from pipelines.starts import Start

ROOT = Path(__file__).parents[2]
ENDPOINT = "logistics.v1.EventsAPI/PackageDelivered"


class Team:
    """A consumer of a topic of its own, and the command line of its team."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.access, self.folder, self.groups = Access(stack.kafka), folder, Groups(Access(stack.kafka))
        self.tag = uuid.uuid4().hex[:8]
        self.name, self.topic, self.dlq = f"c-{self.tag}", f"delivered_{self.tag}", f"dlq_{self.tag}"
        self.main, self.dedicated = f"waybill-{self.name}", f"waybill-{self.name}-{self.topic}"
        files = FileDescriptorSet.FromString((ROOT / "proto/descriptors.binpb").read_bytes())
        for message in (message for file in files.file for message in file.message_type):
            message.options.ClearExtension(options_pb2.event)
            if message.name == "PackageDeliveredEvent":
                message.options.Extensions[options_pb2.event].topic = self.topic
        (folder / "descriptors.binpb").write_bytes(files.SerializeToString())
        told = {
            "kafka": {"bootstrap-servers": stack.kafka},
            "descriptors": "descriptors.binpb",
            "consumers": ["team.yaml"],
            "lake": {"root": "lake"},
        }
        (folder / "waybill.yaml").write_text(json.dumps(told))
        self.write()
        wanted = topology.wanted([self.consumer], self.catalog, 4 << 20)
        cluster = kafka_admin.Topics(self.access)
        steps = topics.plan(wanted, cluster.existing(topic.name for topic in wanted), replicas=1)
        assert cluster.carry_out(steps) == {}

    def write(self, *, dedicated: bool = False, retry: str = "retry", **keys: str) -> None:
        consumer = {
            "grpc-server-hostname": "127.0.0.1",
            "grpc-server-port": 1,
            "retry-topic": f"{retry}_{self.tag}",
            "dlq-topic": self.dlq,
            "distribution": [{"topic": self.topic, "services": ["PackageDelivered"], "dedicated": dedicated}],
            **keys,
        }
        (self.folder / "team.yaml").write_text(json.dumps({"consumers": {self.name: consumer}}))

    @property
    def catalog(self) -> schemas.Catalog:
        return schemas.load(self.folder / "descriptors.binpb")

    @property
    def consumer(self) -> config.Consumer:
        return config.load_consumer(self.name, settings.load(self.folder / "waybill.yaml"), self.catalog)

    def run(self, *arguments: str) -> Result:
        result = CliRunner().invoke(cli.app, arguments, env={"WAYBILL_CONFIG": str(self.folder / "waybill.yaml")})
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def start(self, topic: str | None = None) -> None:
        Start(self.access, self.consumer, topic)()

    def produce(self, *partitions: int, topic: str | None = None, **options: object) -> None:
        producer = Producer({"bootstrap.servers": self.access.servers})
        for partition in partitions:
            producer.produce(topic or self.topic, b"", partition=partition, **options)
        assert producer.flush(20) == 0

    def committed(self, group: str) -> dict[int, int]:
        return {p: commit.offset for p, commit in self.groups.committed(group, self.topic).items() if commit.offset}

    def commit(self, group: str, topic: str, **offsets: int) -> None:
        """As a worker does: ``p0=3``."""
        member = Consumer({"bootstrap.servers": self.access.servers, "group.id": group})
        commits = [TopicPartition(topic, int(name[1:]), offset) for name, offset in offsets.items()]
        member.commit(offsets=commits, asynchronous=False)
        member.close()


@pytest.fixture
def team(stack: Stack, admin: AdminClient, tmp_path: Path) -> Iterator[Team]:
    team = Team(stack, tmp_path)
    yield team
    made = [name for name in admin.list_topics(timeout=10).topics if team.tag in name]
    for deleted in admin.delete_topics(made).values():
        deleted.result()


def test_a_consumer_that_starts_from_latest_begins_where_it_first_started(team: Team) -> None:
    team.write(**{"start-from": "latest"})
    team.produce(0, 0, 1)

    team.start()
    team.produce(0, 1, 2)
    team.start()

    assert team.committed(team.main) == {0: 2, 1: 1}
    assert len(team.groups.committed(team.main, team.topic)) == 12, "partitions that were empty, too"


def test_a_consumer_that_starts_from_a_time_begins_with_the_first_event_of_then(team: Team) -> None:
    team.write(**{"start-from": "1970-01-01T00:33:20Z"})
    for timestamp in (1_000_000, 2_000_000, 3_000_000):
        team.produce(0, timestamp=timestamp)

    team.start()

    assert team.committed(team.main) == {0: 1}


def test_a_consumer_that_starts_from_earliest_has_its_beginning_written_down(team: Team) -> None:
    team.start()

    assert team.groups.committed(team.main, team.topic) == dict.fromkeys(range(12), Commit(0))


def test_a_topic_whose_group_changed_is_not_begun_with_anew(team: Team) -> None:
    team.produce(0, 0, 1)
    team.start()
    team.commit(team.main, team.topic, p0=2, p1=1)
    team.write(dedicated=True)
    with pytest.raises(Problem, match=rf"stop all workers of {team.name} and run `waybill consumer dedicate \S+ \S+`"):
        team.start(team.topic)

    assert team.run("consumer", "dedicate", team.name, team.topic, "--dry-run").exit_code == 0
    assert team.committed(team.dedicated) == {}
    shown = team.run("consumer", "dedicate", team.name, team.topic).stdout
    assert shown.splitlines()[:3] == ["PARTITION  OFFSET", "0          2", "1          1"]
    team.start(team.topic)
    team.commit(team.dedicated, team.topic, p1=9)
    assert team.run("consumer", "dedicate", team.name, team.topic).exit_code == 0
    assert team.committed(team.dedicated) == {0: 2, 1: 9}, "again is no harm"

    team.write()
    with pytest.raises(Problem, match="--undo`"):
        team.start()
    assert team.run("consumer", "dedicate", team.name, team.topic, "--undo").exit_code == 0
    assert team.committed(team.main) == {0: 2, 1: 9}
    team.start()
    team.write(dedicated=True)
    with pytest.raises(Problem, match="it would begin anew"):
        team.start(team.topic)


def test_who_is_held_because_retention_passed_is_moved_on_when_told_so(team: Team, admin: AdminClient) -> None:
    team.produce(0, 0, 0, 1)
    team.start()
    [deleted] = admin.delete_records([TopicPartition(team.topic, 0, 2)]).values()
    deleted.result()
    team.groups.commit(team.main, team.topic, {2: Commit(7)})

    shown = team.run("consumer", "skip", team.name, team.topic)
    assert [line.split() for line in shown.stdout.splitlines()[1:]] == [
        ["0", "0", "2", "3", "2"],
        ["2", "7", "0", "0", "0"],
    ]
    assert f"{team.name} does not get 2 offsets of {team.topic}; the lake has what was there" in shown.stderr
    assert team.committed(team.main) == {2: 7}

    assert team.run("consumer", "skip", team.name, team.topic, "--yes").exit_code == 0
    assert team.committed(team.main) == {0: 2}
    assert "no partition of" in team.run("consumer", "skip", team.name, team.topic, "--yes").stderr


def test_who_lost_its_offsets_does_not_begin_as_if_it_were_new(team: Team, admin: AdminClient) -> None:
    team.write(**{"start-from": "latest"})
    with pytest.raises(Problem, match="has not begun with"):
        team.run("consumer", "skip", team.name, team.topic)
    team.start()
    team.produce(0, 0)
    admin.delete_consumer_groups([team.main])[team.main].result()  # as Kafka does with one that was stopped for long

    with pytest.raises(Problem, match=rf"`waybill consumer skip {team.name} {team.topic}` lets it go on at the oldest"):
        team.start()
    shown = team.run("consumer", "skip", team.name, team.topic, "--yes").stdout
    assert shown.splitlines()[1].split() == ["0", "-", "0", "2", "0"]
    team.start()

    assert team.groups.committed(team.main, team.topic) == dict.fromkeys(range(12), Commit(0))


def test_a_consumer_is_retired_when_it_has_all_that_was_saved_before(team: Team) -> None:
    retry, name = f"retry_{team.tag}", team.name

    def missing(*options: str) -> list[str]:
        done = team.run("consumer", "retire", name, *options)
        assert done.exit_code == 4
        return done.stdout.splitlines()

    team.start()
    team.produce(0, 0, 1)
    assert missing("--dry-run") == missing()
    team.produce(0, 0)
    team.produce(3, topic=retry)
    assert missing() == [f"3 offsets of {team.topic} are still to be delivered; let its workers run"]

    team.commit(team.main, team.topic, p0=2, p1=1)
    assert missing() == [f"1 offsets of {retry} are still to be retried; let its workers run"]
    delivery = HandOver(name, ENDPOINT, team.topic, 0, 0, 0, 16, "UNKNOWN", "no", "t1", "t2")
    team.produce(0, topic=team.dlq, headers=handover.headers([], "event", delivery))
    team.commit(f"waybill-{name}-retry", retry, p3=1)
    assert missing() == ["1 dead letters are open; replay them, or give --discard-dead-letters"]

    member = Consumer({"bootstrap.servers": team.access.servers, "group.id": team.main})
    member.subscribe([team.topic])
    while not member.assignment():
        member.poll(0.05)
    assert missing("--discard-dead-letters") == [f"workers of {team.main} still run: rdkafka at 127.0.0.1; stop them"]
    member.close()

    deployed = team.folder / "deployed.yaml"
    deployed.write_text((team.folder / "waybill.yaml").read_text().replace("team.yaml", "old.yaml"))
    (team.folder / "old.yaml").write_text((team.folder / "team.yaml").read_text())
    team.write(retry="other")
    check = ("check", str(team.folder / "waybill.yaml"), "--against", str(deployed))
    assert f"run `waybill consumer retire {name}` first" in team.run(*check).stdout
    team.write()
    done = team.run("consumer", "retire", name, "--discard-dead-letters")
    assert (done.exit_code, done.stdout.split()[:2]) == (0, [retry, team.dlq])
    assert team.run("consumer", "retire", name).stdout == done.stdout, "again is no harm"
    assert team.committed(team.main) == {}
    team.write(retry="other")
    assert team.run(*check).exit_code == 0

    with pytest.raises(Problem, match=rf"{name} was retired, .* run `waybill consumer retire {name} --undo` first"):
        team.start()
    assert team.run("consumer", "retire", name, "--undo").exit_code == 0
    team.start()


def test_workers_that_go_by_different_configurations_are_seen(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "BEAT", 0.1)

    def rows() -> list[list[str]]:
        lines = team.run("consumer", "ls").stdout.splitlines()
        return [line.split() for line in lines if team.name in line]

    def wait(condition: object) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            threading.Event().wait(0.05)

    assert rows() == [[team.name, "-", "no", "worker", *["-"] * 5]]
    one, two = (
        presence.Presence(team.access, presence.this_process(team.name, topic, hash_))
        for topic, hash_ in ((None, "old"), (team.topic, "new"))
    )
    one.start()
    wait(lambda: [row[1:3] for row in rows()] == [["-", "old"]])
    two.start()
    mixed = metrics.CONFIG_MIXED.labels(team.name)
    wait(lambda: mixed._value.get() == 1)
    done = team.run("consumer", "ls", "--json")
    found = [
        (row["dedicated"], row["config"])
        for row in json.loads(done.stdout.splitlines()[-1])
        if row["consumer"] == team.name
    ]
    assert found == [(None, "old"), (team.topic, "new")]
    assert done.exit_code == 1
    assert f"workers of {team.name} go by different configurations" in done.stderr
    two.stop()
    wait(lambda: mixed._value.get() == 0)
    one.stop()
    assert rows() == [[team.name, "-", "no", "worker", *["-"] * 5]]
    assert worker_state.BEAT * 2 < worker_state.FRESH
