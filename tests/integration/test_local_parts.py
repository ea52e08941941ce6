"""The supervisor's steps with small real processes, real ports and a real repository of jars."""

import gc
import hashlib
import http.server
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from connectors.local import jars, ports, supervisor
from connectors.local.part import Part, bound_to_parent
from connectors.problems import Problem, Unreachable


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def shell(tmp_path: Path, script: str, name: str = "part", **more: object) -> supervisor.Child:
    settings = {"ready": lambda: True, "stop": signal.SIGTERM} | more
    return supervisor.Child(Part(name, ("sh", "-c", script), tmp_path / f"{name}.log", **settings))


@pytest.fixture
def run() -> Iterator[Callable[..., dict[str, supervisor.Child]]]:
    """Tick the children until a condition holds; end them afterwards."""
    children: dict[str, supervisor.Child] = {}

    def run(condition: Callable[[], bool], *given: supervisor.Child) -> None:
        children.update({child.part.name: child for child in given})

        def step() -> bool:
            supervisor.tick(children, time.monotonic())
            return condition()

        until(step)

    yield run
    for child in children.values():
        if child.process:
            child.process.kill()
            child.process.wait()


def test_a_part_that_cannot_start_ends_the_stack_with_its_last_lines_and_the_path_of_its_log(tmp_path: Path, run):
    child = shell(tmp_path, "echo the reason; exit 3", ready=lambda: False)
    with pytest.raises(
        Problem, match=r"cannot start: part ended .exit code 3.; the last lines of .*part.log:\n.*  the reason"
    ):
        run(lambda: False, child)
    assert child.restarts == supervisor.DEATHS_BEFORE_GIVING_UP


def test_a_part_that_dies_after_it_was_ready_is_started_again_however_often(tmp_path: Path, run):
    child = shell(tmp_path, "exec sleep 60")
    run(lambda: child.ready, child)
    for deaths in range(1, supervisor.DEATHS_BEFORE_GIVING_UP + 2):
        child.process.kill()
        run(lambda deaths=deaths: child.restarts == deaths)
        assert "killed by signal 9" in child.state().last_words
        run(lambda: child.ready)
        assert child.state().last_words == ""


def test_a_part_starts_after_those_it_needs_and_is_asked_again_when_one_of_them_died(tmp_path: Path, run):
    first = shell(tmp_path, "exec sleep 60", "first")
    second = shell(tmp_path, "exec sleep 60", "second", after=("first",))
    run(lambda: first.process is not None, first, second)
    assert second.process is None
    run(lambda: second.ready)
    first.process.kill()
    run(lambda: first.restarts == 1)
    assert not second.ready
    assert second.restarts == 0
    run(lambda: first.ready and second.ready)


def test_a_part_that_ignores_the_order_to_end_is_killed(tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.2)
    child = shell(tmp_path, "trap '' TERM; echo ready; while true; do sleep 0.05; done")
    run(lambda: "ready" in child.part.log.read_text(), child)
    supervisor.stop([child])
    assert child.process.returncode == -signal.SIGKILL


def test_a_log_that_grew_large_is_put_aside_at_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "LOG_BYTES", 10)
    log = tmp_path / "part.log"
    log.write_text("more than ten bytes")
    supervisor.rotate(log)
    assert not log.exists()
    assert (tmp_path / "part.log.1").read_text() == "more than ten bytes"


def test_a_bound_process_dies_with_the_process_that_started_it():
    argv = bound_to_parent(("sleep", "60"), signal.SIGKILL)
    code = f"import subprocess; print(subprocess.Popen({argv!r}).pid, flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as parent:
        child = Path("/proc") / parent.stdout.readline().strip()
        until(lambda: b"sleep" in (child / "cmdline").read_bytes().split(b"\0")[0])
        parent.kill()
        until(lambda: not child.exists() or (child / "stat").read_text().split()[2] == "Z")


def listener(port: int) -> socket.socket:
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(("127.0.0.1", port))
    taken.listen()
    return taken


def test_ports_are_chosen_once_below_those_the_kernel_hands_out(tmp_path: Path):
    chosen, moved = ports.assign(tmp_path / "ports.json")
    assert set(chosen) == set(ports.NAMES)
    assert len(set(chosen.values())) == len(chosen)
    assert all(ports.LOWEST <= port < ports.ephemeral_start() for port in chosen.values())
    assert ports.assign(tmp_path / "ports.json") == (chosen, ())
    assert moved == ()


def test_a_recorded_port_that_another_program_took_is_replaced_and_said(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(ports, "PATIENCE_SECONDS", 0.2)
    chosen, _ = ports.assign(tmp_path / "ports.json")
    with listener(chosen["kafka"]):
        again, moved = ports.assign(tmp_path / "ports.json")
    assert {name for name in chosen if chosen[name] != again[name]} == {"kafka"}
    (sentence,) = moved
    assert sentence.startswith(f"Port {chosen['kafka']} of kafka is busy")
    assert str(again["kafka"]) in sentence
    assert ports.assign(tmp_path / "ports.json") == (again, ())


def test_a_recorded_port_that_becomes_free_in_time_is_kept(tmp_path: Path):
    chosen, _ = ports.assign(tmp_path / "ports.json")
    taken = listener(chosen["connect"])
    threading.Timer(0.3, taken.close).start()
    assert ports.assign(tmp_path / "ports.json") == (chosen, ())


JAR = b"not really a jar"
GOOD = jars.Jar("kafka", "org.example:thing:1.0", hashlib.sha256(JAR).hexdigest())


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Maven repository on this machine, named in a jgo configuration file, that has org.example:thing:1.0."""
    root = tmp_path / "repository"
    folder = root / "org/example/thing/1.0"
    folder.mkdir(parents=True)
    (folder / "thing-1.0.jar").write_bytes(JAR)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=root)) as server:
        threading.Thread(target=server.serve_forever).start()
        (tmp_path / "jgo.conf").write_text(f"[repositories]\nhere = http://127.0.0.1:{server.server_port}\n")
        monkeypatch.setenv("JGO_CONFIG_FILE", str(tmp_path / "jgo.conf"))
        yield folder / "thing-1.0.jar"
        server.shutdown()


def test_a_jar_is_downloaded_once_and_verified_at_each_use(tmp_path: Path, repository: Path):
    seen: list[tuple[int, int]] = []
    folder = jars.install([GOOD], tmp_path / "cache", lambda *progress: seen.append(progress))
    assert (folder / "kafka" / "thing-1.0.jar").read_bytes() == JAR
    assert seen == [(0, 1), (1, 1)]
    repository.unlink()
    assert jars.install([GOOD], tmp_path / "cache", lambda *_: pytest.fail("downloaded twice")) == folder


@pytest.mark.usefixtures("repository")
def test_a_jar_damaged_on_disk_is_downloaded_again(tmp_path: Path):
    folder = jars.install([GOOD], tmp_path / "cache", lambda *_: None)
    (folder / "kafka" / "thing-1.0.jar").write_bytes(b"damaged")
    jars.install([GOOD], tmp_path / "cache", lambda *_: None)
    assert (folder / "kafka" / "thing-1.0.jar").read_bytes() == JAR


def test_a_download_with_a_bad_checksum_is_refused_and_nothing_of_it_is_kept(tmp_path: Path, repository: Path):
    repository.write_bytes(b"something else")
    with pytest.raises(Problem, match=r"Bad checksum: org.example:thing:1.0 was downloaded with sha256 .* thrown away"):
        jars.install([GOOD], tmp_path / "cache", lambda *_: None)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_failed_download_names_the_jar_and_what_to_do(tmp_path: Path, repository: Path):
    repository.unlink()
    with pytest.raises(Unreachable, match=r"Could not download org.example:thing:1.0 .* check the network"):
        jars.install([GOOD], tmp_path / "cache", lambda *_: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # jgo leaves open what a repository without the jar answered
        gc.collect()


def test_a_cache_that_cannot_be_written_is_named_with_the_way_out(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(Problem, match=r"Cannot write jars below .*; set WAYBILL_CACHE"):
        jars.install([GOOD], tmp_path / "file" / "cache", lambda *_: None)
