"""Brokers that give rights: each part works with those that docs/security.md names, and says which one it lacks."""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import pages
import pytest
from certificates import Authority
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
from guarded_broker import PASSWORD, guarded_broker
from harness import World, wait_until

from pipelines import names

TABLE = next(table for table in pages.tables("security.md") if table.header[1:2] == ["Read of topics"])
KINDS = [
    (AclOperation.READ, ResourceType.TOPIC),
    (AclOperation.WRITE, ResourceType.TOPIC),
    (AclOperation.READ, ResourceType.GROUP),
    (AclOperation.WRITE, ResourceType.TRANSACTIONAL_ID),
]
TOPIC = "package_delivered"
#: More topics of events; only the lake reads them.
OTHERS = ["package_created", "package_delayed", "route_assigned"]

pytestmark = pytest.mark.timeout(300)  # the broker starts within the first test

Right = tuple[AclOperation, ResourceType, str]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def broker(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    with guarded_broker(tmp_path_factory.mktemp("broker"), authority, authority.issue("broker")) as running:
        yield running


class Guarded(World):
    """Every process of it has a user of its own."""

    user = "courier"

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

    @cached_property
    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.stack.kafka})

    @property
    def env(self) -> dict[str, str]:
        name = "waybill" if self.user == "courier" else self.user
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
    (tmp_path / "password").write_text(PASSWORD + "\n")
    world = Guarded(broker, tmp_path, tag="")
    world.settings["kafka"] = {
        "bootstrap-servers": broker.scram,
        "tls": {"ca-file": str(authority.certificate)},
        "sasl": {"username": "courier", "password": "${file:password}"},
    }
    yield world
    world.close()


def test_each_part_works_with_the_rights_that_the_page_names(world: Guarded) -> None:
    service = world.consumer("a", {"package_delivered": ["PackageDelivered"]})
    world.apply()
    operations = (AclOperation.CREATE, AclOperation.ALTER, AclOperation.ALTER_CONFIGS, AclOperation.DESCRIBE_CONFIGS)
    world.login("platform", [(operation, ResourceType.TOPIC, "*") for operation in operations])
    world.admin.delete_topics(["a_dlq"])["a_dlq"].result(20)
    assert "a_dlq" in world.waybill("topics", "apply", "--local").stdout
    world.login("worker", rights("the worker of a consumer"))
    worker = world.worker("a")
    others = [(AclOperation.READ, ResourceType.TOPIC, topic) for topic in OTHERS]
    world.login("lake", rights("the worker of the lake") + others)
    world.faust("lake.apps:sink", "lake.log")
    world.login("replay", rights("the worker of replays"))
    world.faust("pipelines.apps:replay", "replay.log")
    service.tell(default="UNKNOWN")
    (retried,) = world.produce("package_delivered")
    wait_until(lambda: world.retries("a"), 90, "the first event waits for its next attempt")
    service.tell(default="INVALID_ARGUMENT")
    (rejected,) = world.produce("package_delivered")
    wait_until(lambda: rejected in dict(world.dead_letters("a")), 60, "the second event is a dead letter")
    service.tell(default="OK")
    world.login("reader", rights("`waybill dlq ls`, `waybill dlq show`"))
    assert rejected in world.waybill("dlq", "ls", "a").stdout
    assert rejected in world.waybill("dlq", "show", "a", rejected).stdout
    world.login("replayer", rights("`waybill dlq replay`, `waybill replay status`"))
    world.waybill("dlq", "replay", "a", "--yes")
    assert "a" in world.waybill("replay", "status").stdout
    wait_until(lambda: set(service.accepted()) == {retried, rejected}, 60, "both are accepted")
    wait_until(lambda: list((world.folder / "lake").rglob("*.parquet")), 60, "the lake has a segment")
    settings = [(AclOperation.DESCRIBE_CONFIGS, ResourceType.TOPIC, topic) for topic in (TOPIC, *OTHERS)]
    world.login("auditor", rights("the worker of the lake") + others + settings)
    assert TOPIC in world.waybill("lake", "verify").stdout
    world.login("operator", rights("`waybill consumer ls`, `waybill consumer dedicate`, `waybill consumer skip`"))
    assert str(worker.popen.pid) in world.waybill("consumer", "ls").stdout
    assert worker.terminate() == 0
    world.waybill("consumer", "dedicate", "a", "package_delivered")
    world.consumers["a"]["distribution"][0]["dedicated"] = True
    (world.folder / "consumers.yaml").write_text(json.dumps({"consumers": world.consumers}))
    world.login("dedicated", rights("the worker of a dedicated topic"))
    worker = world.faust("pipelines.apps:a__package_delivered", "dedicated.log")
    (third,) = world.produce("package_delivered")
    wait_until(lambda: third in service.accepted(), 60, "the worker of the dedicated topic delivers")
    assert service.accepted() == {retried: 1, rejected: 1, third: 1}
    assert worker.terminate() == 0
    deleting = [(AclOperation.DELETE, ResourceType.GROUP, group) for group in ("waybill-a", "waybill-a-*")]
    world.login("retirer", rights("`waybill consumer retire`") + deleting)
    world.waybill("consumer", "retire", "a")


def test_a_worker_that_lacks_a_right_does_not_start_and_says_which(world: Guarded) -> None:
    world.consumer("b", {"package_delivered": ["PackageDelivered"]})
    world.apply()
    needed = rights("the worker of a consumer", "b")
    # Who cannot note in the state topic that the group has begun comes last: the others would find it begun.
    last = (AclOperation.WRITE, ResourceType.TOPIC, names.STATE)
    for several in ([right for right in needed if right != last], [last]):
        workers = []
        for missing in several:
            user = f"b{needed.index(missing)}"
            world.login(user, [right for right in needed if right != missing])
            workers.append((missing, world.faust("pipelines.apps:b", f"{user}.log")))
        for (operation, kind, name), worker in workers:
            assert worker.popen.wait(90) == 1
            (line,) = (line for line in worker.log.read_text().splitlines() if "the worker cannot start" in line)
            told = json.loads(line)["error"]
            right = f"{operation.name.capitalize()} of {kind.name.lower()} {name}"
            assert right in told or "does not let us in" in told
            assert name.rstrip("*") in told


def test_a_worker_whose_right_is_taken_away_ends(world: Guarded) -> None:
    service = world.consumer("c", {"package_delivered": ["PackageDelivered"]})
    world.apply()
    world.login("c", rights("the worker of a consumer", "c"))
    worker = world.worker("c")
    (first,) = world.produce("package_delivered")
    wait_until(lambda: first in service.accepted(), 90, "the worker delivers")

    world.take_away("c", (AclOperation.READ, ResourceType.TOPIC, "c_retry"))

    service.tell(default="UNKNOWN")
    world.produce("package_delivered")
    assert worker.popen.wait(60) == 1
