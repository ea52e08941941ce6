"""Everything that opens a Kafka client, against a broker that lets in only who shows a name or a certificate."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from certificates import Authority, Certificate
from guarded_broker import PASSWORD, USER, guarded_broker
from harness import World, wait_until

from connectors.access import Access
from connectors.kafka.admin import Topics
from connectors.problems import Refused, Unreachable
from connectors.tls import Tls

WRONG = "a-password-nobody-has"

pytestmark = pytest.mark.timeout(300)  # the broker starts within the first test


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def courier(authority: Authority) -> Certificate:
    return authority.issue("courier")


@pytest.fixture(scope="module")
def broker(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    with guarded_broker(tmp_path_factory.mktemp("broker"), authority, authority.issue("broker")) as running:
        yield running


@pytest.fixture
def world(broker: SimpleNamespace, authority: Authority, tmp_path: Path) -> Iterator[World]:
    """Written for the listener with TLS and SCRAM; the password is in a file."""
    (tmp_path / "password").write_text(PASSWORD + "\n")
    world = World(broker, tmp_path, tag="")
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


def test_topics_delivery_retry_dead_letters_replay_and_lake_all_pass_with_tls_and_a_password(
    world: World, courier: Certificate, broker: SimpleNamespace, authority: Authority
) -> None:
    service = world.consumer("a", {"package_delivered": ["PackageDelivered"]})
    world.apply()
    worker, replay = world.worker("a"), world.faust("pipelines.apps:replay", "replay.log")
    world.faust("lake.apps:sink", "lake.log")
    service.tell(default="UNKNOWN")
    (retried,) = world.produce("package_delivered")
    wait_until(lambda: world.retries("a"), 90, "the first event waits for its next attempt")
    service.tell(default="INVALID_ARGUMENT")
    (rejected,) = world.produce("package_delivered")
    wait_until(lambda: rejected in dict(world.dead_letters("a")), 60, "the second event is a dead letter")
    service.tell(default="OK")
    assert rejected in world.waybill("dlq", "ls", "a").stdout
    world.waybill("dlq", "replay", "a", "--yes")
    wait_until(lambda: set(service.accepted()) == {retried, rejected}, 60, "both are accepted")
    wait_until(lambda: list((world.folder / "lake").rglob("*.parquet")), 60, "the lake has a segment")
    assert replay.alive

    assert worker.terminate() == 0
    world.settings["kafka"] = {
        "bootstrap-servers": broker.mutual,
        "tls": {
            "ca-file": str(authority.certificate),
            "certificate-file": str(courier.certificate),
            "key-file": str(courier.key),
        },
    }
    world.apply()
    world.worker("a")
    (third,) = world.produce("package_delivered")
    wait_until(lambda: third in service.accepted(), 90, "a worker that shows a certificate delivers")
    assert PASSWORD not in said(world)


def test_a_worker_with_a_wrong_password_ends_and_says_what_to_look_at_without_showing_it(world: World) -> None:
    world.consumer("b", {"package_delivered": ["PackageDelivered"]})
    world.apply()
    (world.folder / "password").write_text(WRONG)

    worker = world.worker("b")
    listed = world.waybill("dlq", "ls", "b", check=False)

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
