"""docker-compose.yml has the shape of the local stack, and the settings that hold its promises."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from connectors import schemas, settings
from connectors.local import connect, jars, kafka, postgres, state
from pipelines import config

ROOT = Path(__file__).parents[2]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]

#: Of Kafka's settings, those that say where it listens and keeps its data, and those that make it small.
KAFKA_OWN = {
    "advertised.listeners",
    "background.threads",
    "controller.quorum.voters",
    "listener.security.protocol.map",
    "listeners",
    "log.cleaner.dedupe.buffer.size",
    "log.dirs",
    "num.io.threads",
    "num.network.threads",
}
#: Of Connect's, the same, and where plugins are, which the image knows.
CONNECT_OWN = {"bootstrap.servers", "listeners", "plugin.discovery", "plugin.path"}
#: Of Postgres', those that make writing to its log possible for as many connectors.
POSTGRES_SHARED = {"wal_level", "max_replication_slots", "max_wal_senders", "max_connections"}


def properties(service: str, prefix: str) -> dict[str, str]:
    """The environment of a service as its image turns it into a properties file."""
    environment = SERVICES[service]["environment"]
    return {key.removeprefix(prefix).lower().replace("_", "."): str(value) for key, value in environment.items()}


def workers() -> dict[str, str]:
    """Which worker each service runs."""
    commands = {name: service.get("command", []) for name, service in SERVICES.items()}
    return {name: command[1] for name, command in commands.items() if command[:1] == ["worker"]}


def test_the_parts_of_the_local_stack_are_there_in_the_same_versions() -> None:
    [major] = re.findall(r"pginstall(\d+)", str(postgres.BIN))

    assert {part: SERVICES[part]["image"] for part in state.PARTS} == {
        "postgres": f"postgres:{major}",
        "kafka": f"apache/kafka:{jars.KAFKA_VERSION}",
        "connect": f"quay.io/debezium/connect:{jars.DEBEZIUM_VERSION}",
    }


def test_kafka_and_connect_have_the_settings_of_the_local_stack() -> None:
    local_kafka = kafka.settings(Path("data"), 9092, 9093)
    local_connect = connect.settings(Path("jars"), 8083, "kafka:9092")

    for name, local, own in (("kafka", local_kafka, KAFKA_OWN), ("connect", local_connect, CONNECT_OWN)):
        found = properties(name, f"{name.upper()}_")
        shared = {key: value for key, value in local.items() if key not in own}
        assert {key: found.get(key) for key in shared} == shared
        assert own <= set(local)


def test_postgres_writes_the_log_that_debezium_reads() -> None:
    told = dict(option.removeprefix("-c").split("=") for option in SERVICES["postgres"]["command"][1:])

    assert told == {name: postgres.SETTINGS[name] for name in POSTGRES_SHARED}


def test_every_example_consumer_has_a_worker_in_its_own_network_and_replay_and_the_lake_have_one() -> None:
    base = settings.load(ROOT / "config" / "compose.yaml")
    consumers = config.load(base.consumers, schemas.load(base.descriptors), base)

    assert sorted(workers().values()) == sorted([*(consumer.name for consumer in consumers), "replay", "lake"])
    for consumer in consumers:
        assert SERVICES[f"{consumer.name}-worker"]["network_mode"] == f"service:{consumer.name}"
        assert consumer.address in SERVICES[consumer.name]["entrypoint"]


def test_the_lake_is_compacted_where_its_worker_writes_it() -> None:
    command = SERVICES["compactor"]["command"]

    assert command[:2] == ["lake", "compact"]
    assert (
        1
        <= float(command[command.index("--every") + 1])
        < settings.load(ROOT / "config" / "compose.yaml").lake.hot_retention
    )
    assert SERVICES["compactor"]["volumes"] == SERVICES["lake"]["volumes"]


def test_ports_are_published_on_the_loopback_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert len(ports) == len({port.split(":")[1] for port in ports}) > 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_mounted_and_copied_paths_exist() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", []) if mount[0] == "."]
    copied = re.findall(r"^COPY (\S+) ", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    let_in = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)

    assert all((ROOT / mount.split(":")[0]).exists() for mount in mounts)
    assert sorted(copied) == sorted(let_in)
    assert all((ROOT / path).exists() for path in copied)


def test_the_client_accepts_it_where_there_is_one() -> None:
    client = shutil.which("docker")
    compose = [client, "compose", "--file", str(ROOT / "docker-compose.yml")] if client else []
    if compose and subprocess.run([*compose, "version"], capture_output=True, check=False).returncode == 0:
        checked = subprocess.run([*compose, "config", "--quiet"], capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_that_is_waited_for_exists_and_can_say_that_it_is_ready(service: str) -> None:
    for other, told in SERVICES[service].get("depends_on", {}).items():
        ready = {"service_healthy": "healthcheck", "service_completed_successfully": "command"}[told["condition"]]
        assert ready in SERVICES[other]
