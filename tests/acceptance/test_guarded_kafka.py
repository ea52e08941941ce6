"""Everything that opens a Kafka client, against a broker that lets in only who shows a name or a certificate.

Whoever is not its courier may do there only what docs/security.md says that he needs.
"""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import pages
import pytest
from certificates import Authority, Certificate
from confluent_kafka import OFFSET_END, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from guarded_broker import PASSWORD, USER, guarded_broker
from harness import Process, World, wait_until

from connectors.access import Access
from connectors.kafka.admin import Topics
from connectors.problems import Refused, Unreachable
from connectors.tls import Tls
from pipelines import names

WRONG = "a-password-nobody-has"
TOPIC = "package_delivered"

#: An operation, on what, and its name; with ``*`` at the end all names that begin so.
Right = tuple[AclOperation, ResourceType, str]
#: Who needs which rights, and what the columns after the first are.
TABLE = next(table for table in pages.tables("security.md") if table.header[1:2] == ["Read of topics"])
KINDS = [
    (AclOperation.READ, ResourceType.TOPIC),
    (AclOperation.WRITE, ResourceType.TOPIC),
    (AclOperation.READ, ResourceType.GROUP),
    (AclOperation.WRITE, ResourceType.TRANSACTIONAL_ID),
]
#: What `waybill topics apply` does with topics.
APPLYING = (AclOperation.CREATE, AclOperation.ALTER, AclOperation.ALTER_CONFIGS, AclOperation.DESCRIBE_CONFIGS)

pytestmark = pytest.mark.timeout(300)  # the broker starts within the first test


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def courier(authority: Authority) -> Certificate:
    return authority.issue(USER)


@pytest.fixture(scope="module")
def broker(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    with guarded_broker(tmp_path_factory.mktemp("broker"), authority, authority.issue("broker")) as running:
        yield running


class Guarded(World):
    """Every process of it has a user of its own."""

    user = USER

    def login(self, user: str, rights: list[Right]) -> None:
        """From now on as ``user``, who has these rights and no others."""
        secret = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        told = [UserScramCredentialUpsertion(user, secret, PASSWORD.encode())]
        self.admin.alter_user_scram_credentials(told)[user].result(20)
        for granted in self.admin.create_acls([binding(user, right) for right in rights]).values():
            granted.result(20)
        settings = json.loads((self.folder / "waybill.yaml").read_text())
        settings["kafka"]["sasl"]["username"] = user
        (self.folder / f"{user}.yaml").write_text(json.dumps(settings))
        self.user = user

    def take_away(self, user: str, right: Right) -> None:
        gone = binding(user, right)
        told = [getattr(gone, name) for name in ("restype", "name", "resource_pattern_type", "principal", "host")]
        for deleted in self.admin.delete_acls([AclBindingFilter(*told, gone.operation, gone.permission_type)]).values():
            assert len(deleted.result(20)) == 1

    def remove(self, topic: str) -> None:
        """All its records, as retention does."""
        described = self.admin.describe_topics(TopicCollection([topic]))[topic].result(20)
        ends = [TopicPartition(topic, partition.id, OFFSET_END) for partition in described.partitions]
        for removed in self.admin.delete_records(ends).values():
            removed.result(20)

    @cached_property
    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.stack.kafka})

    @property
    def env(self) -> dict[str, str]:
        name = "waybill" if self.user == USER else self.user
        return {"WAYBILL_CONFIG": str(self.folder / f"{name}.yaml")}


def binding(user: str, right: Right) -> AclBinding:
    operation, kind, name = right
    several = name.endswith("*") and name != "*"  # which is a name of Kafka's own, for all
    pattern = ResourcePatternType.PREFIXED if several else ResourcePatternType.LITERAL
    told = kind, name.rstrip("*") if several else name, pattern
    return AclBinding(*told, f"User:{user}", "*", operation, AclPermissionType.ALLOW)


def rights(who: str, consumer: str = "a") -> list[Right]:
    """Those of a row of the page."""
    means = {"TOPIC": TOPIC, "retry-topic": f"{consumer}_retry", "dlq-topic": f"{consumer}_dlq"}
    _, *cells = next(row for row in TABLE.rows if row[0] == who)
    return [
        (operation, kind, means.get(name, name.replace("NAME", consumer).replace("TOPIC", TOPIC)))
        for (operation, kind), cell in zip(KINDS, cells, strict=True)
        for name in pages.names(cell)
    ]


@pytest.fixture
def world(broker: SimpleNamespace, authority: Authority, tmp_path: Path) -> Iterator[Guarded]:
    """Written for the listener with TLS and SCRAM; the password is in a file."""
    (tmp_path / "password").write_text(PASSWORD + "\n")
    world = Guarded(broker, tmp_path, tag="")
    world.settings["kafka"] = {
        "bootstrap-servers": broker.scram,
        "tls": {"ca-file": str(authority.certificate)},
        "sasl": {"username": USER, "password": "${file:password}"},
    }
    yield world
    world.close()


def said(world: World) -> str:
    """All that processes of the world have logged."""
    return "".join(log.read_text() for log in world.folder.glob("*.log"))


def test_each_part_works_with_the_rights_that_the_page_names(world: Guarded) -> None:
    service = world.consumer("a", {TOPIC: ["PackageDelivered"]})
    world.apply()
    world.login("platform", [(operation, ResourceType.TOPIC, "*") for operation in APPLYING])
    world.admin.delete_topics(["a_dlq"])["a_dlq"].result(20)
    assert "a_dlq" in world.waybill("topics", "apply", "--local").stdout
    world.login("worker", rights("the worker of a consumer"))
    worker = world.worker("a")
    world.login("lake", rights("the worker of the lake"))  # it may not even see the other topics
    lake = world.faust("lake.apps:sink", "lake.log")
    world.login("replay", rights("the worker of replays"))
    world.faust("pipelines.apps:replay", "replay.log")
    service.tell(default="UNKNOWN")
    (retried,) = world.produce(TOPIC)
    wait_until(lambda: world.retries("a"), 90, "the first event waits for its next attempt")
    service.tell(default="INVALID_ARGUMENT")
    (rejected,) = world.produce(TOPIC)
    wait_until(lambda: rejected in dict(world.dead_letters("a")), 60, "the second event is a dead letter")
    service.tell(default="OK")
    world.login("reader", rights("`waybill dlq ls`, `waybill dlq show`"))
    assert rejected in world.waybill("dlq", "ls", "a").stdout
    assert rejected in world.waybill("dlq", "show", "a", rejected).stdout
    world.login("replayer", rights("`waybill dlq replay`, `waybill replay status`"))
    world.waybill("dlq", "replay", "a", "--yes")
    assert [plan["consumer"] for plan in json.loads(world.waybill("replay", "status", "--json").stdout)] == ["a"]
    wait_until(lambda: set(service.accepted()) == {retried, rejected}, 60, "both are accepted")
    wait_until(lambda: list((world.folder / "lake").rglob("*.parquet")), 60, "the lake has a segment")
    assert "topics are missing" in lake.log.read_text()
    reading = (AclOperation.READ, AclOperation.DESCRIBE_CONFIGS)
    world.login("auditor", [(operation, ResourceType.TOPIC, TOPIC) for operation in reading])
    assert TOPIC in world.waybill("lake", "verify", TOPIC).stdout
    world.login("operator", rights("`waybill consumer ls`, `waybill consumer dedicate`, `waybill consumer skip`"))
    assert str(worker.popen.pid) in world.waybill("consumer", "ls").stdout
    assert worker.terminate() == 0
    world.waybill("consumer", "dedicate", "a", TOPIC)
    world.consumers["a"]["distribution"][0]["dedicated"] = True
    (world.folder / "consumers.yaml").write_text(json.dumps({"consumers": world.consumers}))
    world.login("dedicated", rights("the worker of a dedicated topic"))
    worker = world.faust("pipelines.apps:a__package_delivered", "dedicated.log")
    (third,) = world.produce(TOPIC)
    wait_until(lambda: third in service.accepted(), 60, "the worker of the dedicated topic delivers")
    assert service.accepted() == {retried: 1, rejected: 1, third: 1}
    assert worker.terminate() == 0
    world.produce(TOPIC)
    world.remove(TOPIC)
    world.user = "operator"
    assert "does not get 1 offsets" in world.waybill("consumer", "skip", "a", TOPIC, "--yes").stderr
    deleting = [(AclOperation.DELETE, ResourceType.GROUP, group) for group in ("waybill-a", "waybill-a-*")]
    world.login("retirer", rights("`waybill consumer retire`") + deleting)
    world.waybill("consumer", "retire", "a")
    assert PASSWORD not in said(world)


def test_a_worker_that_lacks_a_right_does_not_start_and_says_which(world: Guarded) -> None:
    world.consumer("b", {TOPIC: ["PackageDelivered"]})
    world.apply()
    needed = rights("the worker of a consumer", "b")
    lacked = [right for right in needed if right[2] != names.STATE]
    workers = []
    for number, missing in enumerate(lacked):
        world.login(f"b{number}", [right for right in needed if right != missing])
        workers.append(world.faust("pipelines.apps:b", f"b{number}.log"))
    for (operation, kind, name), worker in zip(lacked, workers, strict=True):
        assert worker.popen.wait(90) == 1
        told = why_not(worker)
        assert f"{operation.name.capitalize()} of {kind.name.lower()} {name}" in told or "does not let us in" in told
        assert name.rstrip("*") in told


def test_without_the_state_topic_nobody_begins_and_who_has_begun_goes_on_and_says_so(world: Guarded) -> None:
    service = world.consumer("f", {TOPIC: ["PackageDelivered"]})
    world.apply()
    needed = rights("the worker of a consumer", "f")
    others = [right for right in needed if right[2] != names.STATE]
    world.login("f", others)
    worker = world.worker("f")
    assert worker.popen.wait(90) == 1
    assert names.STATE in why_not(worker)

    world.login("f-begins", needed)
    worker = world.faust("pipelines.apps:f", "begins.log")
    (first,) = world.produce(TOPIC)
    wait_until(lambda: first in service.accepted(), 90, "it delivers")
    assert worker.terminate() == 0

    world.login("f-goes-on", others)
    worker = world.faust("pipelines.apps:f", "goes-on.log")
    (second,) = world.produce(TOPIC)
    wait_until(lambda: second in service.accepted(), 90, "it delivers without")
    wait_until(lambda: "the state topic cannot be used" in worker.log.read_text(), 30, "it says so")


def why_not(worker: Process) -> str:
    """The error of a worker that could not start."""
    (line,) = (line for line in worker.log.read_text().splitlines() if "the worker cannot start" in line)
    return json.loads(line)["error"]


def test_a_worker_whose_right_is_taken_away_ends(world: Guarded) -> None:
    service = world.consumer("c", {TOPIC: ["PackageDelivered"]})
    world.apply()
    world.login("c", rights("the worker of a consumer", "c"))
    worker = world.worker("c")
    (first,) = world.produce(TOPIC)
    wait_until(lambda: first in service.accepted(), 90, "the worker delivers")

    world.take_away("c", (AclOperation.READ, ResourceType.TOPIC, "c_retry"))

    service.tell(default="UNKNOWN")
    world.produce(TOPIC)
    assert worker.popen.wait(60) == 1


def test_a_worker_that_shows_a_certificate_delivers(
    world: Guarded, courier: Certificate, broker: SimpleNamespace, authority: Authority
) -> None:
    service = world.consumer("d", {TOPIC: ["PackageDelivered"]})
    world.settings["kafka"] = {
        "bootstrap-servers": broker.mutual,
        "tls": {
            "ca-file": str(authority.certificate),
            "certificate-file": str(courier.certificate),
            "key-file": str(courier.key),
        },
    }
    world.apply()
    world.worker("d")
    (event,) = world.produce(TOPIC)
    wait_until(lambda: event in service.accepted(), 90, "it delivers")


def test_a_worker_with_a_wrong_password_ends_and_says_what_to_look_at_without_showing_it(world: World) -> None:
    world.consumer("e", {TOPIC: ["PackageDelivered"]})
    world.apply()
    (world.folder / "password").write_text(WRONG)

    worker = world.worker("e")
    listed = world.waybill("dlq", "ls", "e", check=False)

    assert listed.returncode == 3
    assert "does not let us in" in listed.stderr
    assert "kafka.sasl" in listed.stderr
    assert worker.popen.wait(60) == 1
    log = worker.log.read_text()
    assert "does not let us in" in log
    assert len(log.splitlines()) < 40
    assert WRONG not in log + listed.stdout + listed.stderr


def refusal(error: type[Unreachable], *access: object) -> str:
    with pytest.raises(error) as raised:
        Topics(Access(*access), timeout=1.5).missing([])
    return str(raised.value)


def test_each_way_in_opens_with_what_it_wants_and_says_why_it_stays_shut(
    broker: SimpleNamespace, authority: Authority, courier: Certificate, tmp_path: Path
) -> None:
    trusting = Tls(ca_file=authority.certificate)
    known = Tls(ca_file=authority.certificate, certificate_file=courier.certificate, key_file=courier.key)
    other = Authority(tmp_path, "other")
    for access in (
        Access(broker.scram, trusting, "SCRAM-SHA-512", USER, PASSWORD),
        Access(broker.mutual, known),
        Access(broker.plain, None, "PLAIN", USER, PASSWORD),
    ):
        assert Topics(access).missing(["x"]) == ["x"]

    wrong = refusal(Refused, broker.plain, None, "PLAIN", USER, WRONG)
    assert "Invalid username or password" in wrong
    assert WRONG not in wrong
    assert "SCRAM-SHA-512" in refusal(Refused, broker.scram, trusting, "PLAIN", USER, PASSWORD)
    assert "certificate verify failed" in refusal(Refused, broker.mutual, Tls(ca_file=other.certificate))
    assert "certificate required" in refusal(Refused, broker.mutual, trusting)
    assert "SSL_HANDSHAKE" in refusal(Unreachable, broker.kafka, trusting)  # librdkafka words it in two ways
    assert "(PLAINTEXT) does not answer" in refusal(Unreachable, broker.scram)
