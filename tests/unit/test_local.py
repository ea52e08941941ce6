"""The pure parts of the local stack: settings, lock file, sentences of errors."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.local import connect, control, jars, java, kafka, part, postgres, state, supervisor
from connectors.problems import BadInput, Problem, Unreachable

SHA = "ab" * 32


def test_every_locked_jar_has_a_wanted_group_and_all_wanted_coordinates_are_locked():
    locked = jars.read_lock()
    assert {jar.group for jar in locked} == set(jars.WANTED)
    coordinates = {(jar.group, jar.coordinate) for jar in locked}
    assert coordinates >= {(group, wanted) for group, all_wanted in jars.WANTED.items() for wanted in all_wanted}


def test_a_plugin_repeats_no_jar_of_the_worker():
    names = [jar.coordinate.rpartition(":")[0] for jar in jars.read_lock()]
    assert len(names) == len(set(names))


def test_the_lock_names_no_host():
    assert "//" not in jars.LOCK.read_text()


def test_a_rendered_lock_reads_back_as_it_was(tmp_path: Path):
    locked = (jars.Jar("kafka", "org.example:one:1.0", SHA), jars.Jar("plugins/x", "org.example:two:2.0", SHA))
    (tmp_path / "lock").write_text(jars.render_lock(locked))
    assert jars.read_lock(tmp_path / "lock") == locked
    assert locked[0].filename == "one-1.0.jar"


@pytest.mark.parametrize("line", ["kafka org.example:one:1.0", f"kafka org.example:one {SHA}", "kafka a:b:c abc"])
def test_a_broken_line_of_the_lock_is_named(tmp_path: Path, line: str):
    path = tmp_path / "lock"
    path.write_text(f"# comment\n{line}\n")
    with pytest.raises(BadInput, match=rf"{path}:2: expected .* make it anew with"):
        jars.read_lock(path)


def test_a_record_of_4_mib_and_64_kib_passes_broker_and_connect(tmp_path: Path):
    largest = 4 * 1024 * 1024 + 64 * 1024
    broker = kafka.settings(tmp_path, 1, 2)
    worker = connect.settings(tmp_path, 3, "127.0.0.1:1")
    limits = [
        broker["message.max.bytes"],
        broker["replica.fetch.max.bytes"],
        worker["producer.max.request.size"],
        worker["consumer.max.partition.fetch.bytes"],
    ]
    assert all(int(limit) > largest for limit in limits)


def test_everything_listens_on_the_loopback_only(tmp_path: Path):
    broker = kafka.settings(tmp_path, 1111, 2222)
    assert broker["listeners"] == "PLAINTEXT://127.0.0.1:1111,CONTROLLER://127.0.0.1:2222"
    assert connect.settings(tmp_path, 3333, "")["listeners"] == "http://127.0.0.1:3333"
    assert postgres.SETTINGS["listen_addresses"] == "127.0.0.1"
    assert postgres.SETTINGS["unix_socket_directories"] == ""
    assert "port=4444" in postgres.command(tmp_path, 4444)


def test_one_of_three_brokers_differs_from_a_single_one_in_its_number_and_in_replicas_alone(tmp_path: Path):
    nodes = [kafka.Node(number, 1000 + number, 2000 + number) for number in (1, 2, 3)]
    assert [node.name for node in nodes] == ["kafka", "kafka-2", "kafka-3"]
    assert kafka.differing(nodes[:1], nodes[0]) == {}
    second = kafka.settings(tmp_path, 1002, 2002) | kafka.differing(nodes, nodes[1])
    assert second["node.id"] == "2"
    assert second["controller.quorum.voters"] == "1@127.0.0.1:2001,2@127.0.0.1:2002,3@127.0.0.1:2003"
    assert {value for name, value in second.items() if name.endswith("replication.factor")} == {"3"}
    assert {value for name, value in second.items() if name.endswith((".min.isr", "insync.replicas"))} == {"2"}
    worker = connect.settings(tmp_path, 3, kafka.address(*(node.port for node in nodes)))
    assert {value for name, value in worker.items() if name.endswith("replication.factor")} == {"3"}


def test_properties_are_a_line_each():
    assert java.properties({"a": "1", "b.c": "x y"}) == "a=1\nb.c=x y\n"


@given(st.integers(min_value=1, max_value=10_000))
def test_pauses_between_restarts_grow_from_a_tenth_of_a_second_to_ten(deaths: int):
    assert supervisor.pause_after(1) == pytest.approx(0.1)
    assert supervisor.pause_after(deaths) <= supervisor.pause_after(deaths + 1) <= supervisor.LONGEST_PAUSE_SECONDS


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("java.io.IOException: No space left on device", "the disk is full, free some space"),
        ("java.net.BindException: Address already in use", "its port is busy"),
        ("could not bind IPv4 address: Address already in use", "its port is busy"),
        ("java.lang.OutOfMemoryError: Java heap space", "it ran out of memory"),
    ],
)
def test_a_cause_named_in_the_log_becomes_advice(line: str, sentence: str):
    assert sentence in supervisor.advice(f"kafka ended (exit code 1); ...:\n  {line}")


def test_a_death_of_unknown_cause_gets_no_advice():
    assert supervisor.advice("kafka ended (exit code 1)") == ""


def test_too_little_space_is_said_before_anything_starts(tmp_path: Path):
    control.check_space(tmp_path / "not" / "there" / "yet", 1)
    with pytest.raises(Problem, match=r"has only \d+ MB left .* free some space, or set WAYBILL_HOME"):
        control.check_space(tmp_path, 1 << 60)


def test_a_missing_user_for_postgres_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(Problem, match="there is no user waybill-nobody to run it; add one with `useradd"):
        part.unprivileged_user("waybill-nobody")


def test_an_ordinary_user_needs_no_other_user(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert part.unprivileged_user("waybill-nobody") is None


def test_a_missing_setpriv_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Problem, match="setpriv is missing; install the package util-linux"):
        part.bound_to_parent(("true",), supervisor.signal.SIGKILL)


def test_a_written_stack_reads_back_as_it_was(tmp_path: Path):
    parts = {name: state.PartState(pid=7, ready=True, restarts=2) for name in state.PARTS}
    stack = state.Stack(tmp_path, "k", "c", "p", pid=1, parts=parts, error="e", warnings=("w",))
    state.folder(tmp_path).mkdir()
    state.write(stack)
    assert state.recorded(tmp_path) == stack
    assert json.loads((tmp_path / "local" / "stack.json").read_text())["kafka"] == "k"
    assert stack.ready


def test_a_record_left_by_a_killed_supervisor_is_no_running_stack(tmp_path: Path):
    state.folder(tmp_path).mkdir()
    state.write(state.Stack(tmp_path, "k", "c", "p", pid=1, parts={}))
    (tmp_path / "local" / "lock").touch()
    with pytest.raises(Unreachable, match=r"No local stack is running in .* start it with `waybill local up`"):
        state.read(tmp_path)


def test_the_home_is_that_of_the_environment_else_beside_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WAYBILL_HOME", raising=False)
    assert state.default_home() == tmp_path / ".waybill"
    monkeypatch.setenv("WAYBILL_HOME", str(tmp_path / "elsewhere"))
    assert state.default_home() == tmp_path / "elsewhere"
