"""The whole local stack, broken on purpose: a stack of this module's own, so that no other test sees it break."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from typer.testing import CliRunner

from connectors.local import control, state
from connectors.local.state import Stack
from pipelines.cli import local

pytestmark = pytest.mark.timeout(300)  # Java starts ten times here

WAYBILL = Path(sys.executable).with_name("waybill")
LARGEST = 4 * 1024 * 1024 + 64 * 1024
CONNECTOR = {
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "database.hostname": "127.0.0.1",
    "database.user": "postgres",
    "database.password": "none",
    "database.dbname": "postgres",
    "topic.prefix": "kept",
    "plugin.name": "pgoutput",
}


def waybill(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(local.app, arguments, catch_exceptions=False)
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that two commands started at once, with one row, one record of the largest size and one connector."""
    home = tmp_path_factory.mktemp("own")
    up = (WAYBILL, "local", "up", "--home", str(home))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    try:
        commands = [subprocess.Popen(up, **pipes) for _ in range(2)]
        outputs = [command.communicate() for command in commands]
        assert [command.returncode for command in commands] == [0, 0], outputs
        assert outputs[0][0] == outputs[1][0]
        stack = state.read(home)
        write(stack)
        yield stack
    finally:
        control.down(home)


def write(stack: Stack) -> None:
    with psycopg.connect(stack.postgres) as connection:
        connection.execute("CREATE TABLE kept (value text)")
        connection.execute("INSERT INTO kept VALUES ('row')")
    limit = {"max.message.bytes": str(LARGEST + 1024)}
    admin = AdminClient({"bootstrap.servers": stack.kafka})
    admin.create_topics([NewTopic("kept", 1, 1, config=limit)])["kept"].result()
    failures = []
    producer = Producer({"bootstrap.servers": stack.kafka, "message.max.bytes": 2 * LARGEST})
    producer.produce("kept", b"x" * LARGEST, on_delivery=lambda failure, _: failures.append(failure))
    producer.flush(10)
    assert failures == [None]
    port = stack.postgres.rpartition(":")[2].partition("/")[0]
    body = {"name": "kept", "config": CONNECTOR | {"database.port": port}, "initial_state": "STOPPED"}
    request = urllib.request.Request(
        f"{stack.connect}/connectors", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 201


def assert_nothing_is_lost(stack: Stack) -> None:
    with psycopg.connect(stack.postgres) as connection:
        assert connection.execute("SELECT value FROM kept").fetchall() == [("row",)]
    settings = {"bootstrap.servers": stack.kafka, "group.id": "reader", "auto.offset.reset": "earliest"}
    consumer = Consumer(settings | {"enable.auto.commit": False, "fetch.message.max.bytes": 2 * LARGEST})
    consumer.subscribe(["kept"])
    record = consumer.poll(30)
    assert record is not None
    assert (record.error(), len(record.value())) == (None, LARGEST)
    consumer.close()
    with urllib.request.urlopen(f"{stack.connect}/connectors", timeout=30) as answer:
        assert json.load(answer) == ["kept"]


def part_pids(stack: Stack) -> dict[str, int]:
    return {name: part.pid for name, part in state.read(stack.home).parts.items()}


def wait_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 15
    while alive := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, f"still there: {alive}"
        time.sleep(0.02)


def test_up_of_a_running_stack_changes_nothing(own: Stack):
    before = part_pids(own)
    again = control.up(own.home, lambda *_: pytest.fail("downloaded"), lambda _: None)
    assert (again.pid, again.kafka, again.connect, again.postgres) == (own.pid, own.kafka, own.connect, own.postgres)
    assert part_pids(own) == before


def test_status_names_every_part_its_address_and_process(own: Stack):
    code, output = waybill("status", "--home", str(own.home), "--json")
    status = json.loads(output)
    assert code == 0
    assert status["ready"]
    assert {name: part["pid"] for name, part in status["parts"].items()} == part_pids(own)
    assert status["parts"]["kafka"]["address"] == own.kafka
    code, output = waybill("status", "--home", str(own.home))
    assert all(f"{name:<9} ready" in output for name in state.PARTS)


def test_the_whole_idle_stack_keeps_below_1200_mb(own: Stack):
    pages = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and str(own.home).encode() in (folder / "cmdline").read_bytes():
            pages += int((folder / "statm").read_text().split()[1])
    assert 100 < pages * os.sysconf("SC_PAGESIZE") >> 20 < 1200


def test_parts_killed_by_force_are_started_again_with_their_data(own: Stack):
    before = part_pids(own)
    for name in state.PARTS:
        own.kill(name)
    own.wait_ready()
    after = part_pids(own)
    assert all(after[name] not in (None, before[name]) for name in state.PARTS)
    assert after["kafka"] == own.pid_of("kafka")
    assert_nothing_is_lost(own)


def test_no_part_outlives_a_supervisor_killed_by_force_and_the_next_up_moves_a_port_that_was_taken(own: Stack):
    pids = list(part_pids(own).values())
    os.kill(own.pid, signal.SIGKILL)
    wait_gone(pids)
    assert state.supervisor_pid(own.home) is None
    host, _, port = own.kafka.partition(":")
    script = f"import socket; s = socket.create_server(({host!r}, {port})); print(flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as thief:
        thief.stdout.readline()
        code, output = waybill("up", "--home", str(own.home))
        thief.communicate(b"\n")
    assert code == 0
    assert f"Port {port} of kafka is busy: another program took it" in " ".join(output.split())
    moved = state.read(own.home)
    assert moved.kafka != own.kafka
    assert moved.postgres == own.postgres
    assert_nothing_is_lost(moved)


def test_down_ends_everything_and_says_so(own: Stack):
    pids = [state.read(own.home).pid, *part_pids(own).values()]
    code, output = waybill("down", "--home", str(own.home))
    assert (code, "its data stays in" in output) == (0, True)
    wait_gone(pids[1:])
    assert state.supervisor_pid(own.home) is None
    assert (own.home / "local" / "postgres" / "PG_VERSION").exists()
    assert waybill("down", "--home", str(own.home)) == (0, "No local stack is running.\n")


def test_logs_shows_the_last_lines_of_the_part_asked_for(own: Stack, capfd: pytest.CaptureFixture[str]):
    def logs(*arguments: str) -> str:
        assert waybill("logs", "--home", str(own.home), *arguments)[0] == 0
        return capfd.readouterr().out

    assert logs("supervisor", "-n", "1").endswith("INFO stopping\n")
    assert "Kafka Server started" in logs("kafka", "-n", "1000")
    assert all(f"{name}.log" in logs() for name in (*state.PARTS, "supervisor"))
