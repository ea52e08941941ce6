"""``waybill dlq`` and ``waybill replay`` on real topics."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from click.testing import Result
from confluent_kafka import Producer
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from typer.testing import CliRunner

from connectors.access import Access
from connectors.kafka import reader
from connectors.local.state import Stack
from connectors.problems import BadInput, Problem
from pipelines import cli, handover, names, replay_client
from pipelines.handover import HandOver

ROOT = Path(__file__).parents[2]
TYPE = "logistics.v1.PackageDeliveredEvent"
ENDPOINT = "logistics.v1.EventsAPI/PackageDelivered"


class Service:
    """A consumer with dead letters, and the command line of its team."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.kafka, self.folder = bootstrap, folder
        tag = uuid.uuid4().hex[:8]
        self.name, self.dlq, self.retry = f"service-{tag}", f"dlq_{tag}", f"retry_{tag}"
        consumer = {
            "grpc-server-hostname": "127.0.0.1",
            "grpc-server-port": 50051,
            "retry-topic": self.retry,
            "dlq-topic": self.dlq,
            "distribution": [{"topic": "package_delivered", "services": ["PackageDelivered"]}],
        }
        told = {
            "kafka": {"bootstrap-servers": bootstrap},
            "descriptors": str(ROOT / "proto/descriptors.binpb"),
            "consumers": ["consumers.yaml"],
            "lake": {"root": "lake"},
        }
        (folder / "consumers.yaml").write_text(json.dumps({"consumers": {self.name: consumer}}))
        (folder / "waybill.yaml").write_text(json.dumps(told))

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli.app, arguments, env={"WAYBILL_CONFIG": str(self.folder / "waybill.yaml")})

    def ok(self, *arguments: str) -> Result:
        result = self.run(*arguments)
        if result.exception:
            raise result.exception
        return result

    def bury(self, event: str, status: str, error: str, value: bytes) -> None:
        delivery = HandOver(self.name, ENDPOINT, "package_delivered", 4, 17, 0, 16, status, error, "t1", "t2")
        original = [("ce_id", event.encode()), ("ce_type", TYPE.encode())]
        producer = Producer({"bootstrap.servers": self.kafka})
        producer.produce(self.dlq, value, b"k", 3, headers=handover.headers(original, event, delivery))
        assert producer.flush(20) == 0

    def plans(self) -> list:
        return [plan for plan in replay_client.submitted(Access(self.kafka)) if plan.consumer == self.name]

    def retries(self) -> int:
        return sum(high - low for low, high in reader.ends(Access(self.kafka), self.retry).values())


def payload() -> bytes:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString((ROOT / "proto/descriptors.binpb").read_bytes()).file:
        pool.Add(file)
    event = GetMessageClass(pool.FindMessageTypeByName(TYPE))()
    event.package.id = "p-1"
    return event.SerializeToString()


@pytest.fixture(scope="module")
def service(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """Three dead letters: two of one error, the newest with control characters in its text."""
    service = Service(stack.kafka, tmp_path_factory.mktemp("cli"))
    service.ok("topics", "apply", "--local")
    service.bury("e1", "INTERNAL", "no driver", payload())
    service.bury("e2", "NOT_FOUND", "no such package", b"\xff\xff no protobuf")
    service.bury("e3", "INTERNAL", "first\nsecond \x1b[2J", payload())
    return service


def test_ls_lists_open_dead_letters_newest_first_and_says_how_many_there_are(service: Service) -> None:
    listed = service.ok("dlq", "ls", service.name, "--limit", "2")
    head, newest, second = listed.stdout.splitlines()
    assert head.split()[:3] == ["WHERE", "EVENT", "TYPE"]
    assert newest.split()[:7] == ["3/2", "e3", "PackageDeliveredEvent", "PackageDelivered", "16", "t2", "INTERNAL"]
    assert newest.endswith("first second \ufffd[2J")
    assert second.split()[0] == "3/1"
    assert "3 open dead letters" in listed.stderr
    assert "INTERNAL 2, NOT_FOUND 1; the newest 2 are listed" in listed.stderr


def test_ls_prints_the_filtered_ones_as_json(service: Service) -> None:
    found = json.loads(service.ok("dlq", "ls", service.name, "--error", "such", "--json").stdout)
    assert [(d["event_id"], d["delivery"]["offset"], d["replayed_by"]) for d in found] == [("e2", 17, None)]
    assert service.ok("dlq", "ls", service.name, "--type", "Other").stdout == ""


def test_show_tells_the_cause_the_headers_and_the_payload(service: Service) -> None:
    (shown,) = json.loads(service.ok("dlq", "show", service.name, "3/0", "--json").stdout)
    assert (shown["event_id"], shown["error"], shown["payload"]["package"]["id"]) == ("e1", "no driver", "p-1")
    assert ["waybill_attempts", "16"] in shown["headers"]
    text = service.ok("dlq", "show", service.name, "e1").stdout
    assert "no driver" in text
    assert '"id": "p-1"' in text


def test_show_says_that_a_payload_cannot_be_decoded_and_how_it_begins(service: Service) -> None:
    (shown,) = json.loads(service.ok("dlq", "show", service.name, "e2", "--json").stdout)
    assert shown["payload"]["first_bytes"].startswith("ff ff 20 6e")
    assert "not a logistics.v1.PackageDeliveredEvent" in shown["payload"]["undecodable"]
    assert shown["size"] == 14


def test_what_is_not_there_or_not_understood_is_said(service: Service) -> None:
    with pytest.raises(Problem, match="has no dead letter e9"):
        service.ok("dlq", "show", service.name, "e9")
    with pytest.raises(BadInput, match="--since: 'yesterday' is neither"):
        service.ok("dlq", "ls", service.name, "--since", "yesterday")
    with pytest.raises(BadInput, match="--rate: '0'"):
        service.ok("dlq", "replay", service.name, "--rate", "0")
    with pytest.raises(BadInput, match="no consumer is called"):
        service.ok("dlq", "ls", "nobody")


def test_replay_shows_the_plan_and_sends_nothing(service: Service) -> None:
    planned = service.ok("dlq", "replay", service.name, "--error", "internal", "--rate", "0.5/s")
    assert f"2 deliveries to {service.name} alone" in planned.stdout
    assert f"type      {TYPE} 2" in planned.stdout
    assert "estimate  4 s at 0.5/s" in planned.stdout
    assert "nothing was sent; run it again with --yes" in planned.stderr
    told = json.loads(service.ok("dlq", "replay", service.name, "--json").stdout)
    assert (told["deliveries"], told["by_error"], told["target"]) == (3, {"INTERNAL": 2, "NOT_FOUND": 1}, service.retry)
    assert told["ranges"]["3"] == [0, 3]
    assert service.plans() == []
    assert service.retries() == 0


def test_replay_with_yes_is_run_by_the_worker_and_followed_to_its_end(service: Service) -> None:
    env = {"BOOTSTRAP": service.kafka, "COMMANDS": names.COMMANDS, "GROUP": names.REPLAY_GROUP, "PARTITIONS": "12"}
    queued = json.loads(
        service.ok("dlq", "replay", service.name, "--error", "such", "--yes", "--no-wait", "--json").stdout
    )
    assert [plan.id for plan in service.plans()] == [queued["plan"]]
    with (service.folder / "log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "faust", "-A", "replay_worker:app", "worker", "-l", "info"],
            cwd=Path(__file__).parent,
            stdout=log,
            stderr=log,
            env={**os.environ, **env, "DATA": str(service.folder / "data")},
        )
    try:
        done = service.ok("dlq", "replay", service.name, "--error", "internal", "--yes")
        assert f"moved 2 dead letters to {service.retry}, skipped 0 malformed" in done.stdout
        assert service.retries() == 3
        assert service.ok("dlq", "ls", service.name).stdout == ""
        replayed = service.ok("dlq", "ls", service.name, "--all").stdout
        assert queued["plan"] in replayed
        assert "there is nothing to replay" in service.ok("dlq", "replay", service.name, "--yes").stderr
        plans = json.loads(service.ok("replay", "status", "--json").stdout)
        assert [(p["state"], p["moved"]) for p in plans if p["consumer"] == service.name] == [
            ("ended", 1),
            ("ended", 2),
        ]
    finally:
        worker.kill()
        worker.wait()
