"""The demo's processes: each in a session of its own with a log of its own, ended by process id."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from connectors.local.part import bound_to_parent
from connectors.local.supervisor import tail
from connectors.problems import Problem

#: Workers let calls that run finish.
STOP_SECONDS = 20.0
POLL_SECONDS = 0.05


class Processes:
    """Those that run, by name.  Unless ``keep``, they die with this process, however it ends."""

    def __init__(self, logs: Path, *, keep: bool) -> None:
        self._logs, self._keep = logs, keep
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._finite: set[str] = set()

    def start(self, name: str, *argv: str, ends: bool = False, env: Mapping[str, str] | None = None) -> None:
        """``ends``: it is to end by itself; ``wait`` for it."""
        if ends:
            self._finite.add(name)
        command = argv if self._keep else bound_to_parent(argv, death=signal.SIGKILL)
        with (self._logs / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    def run(self, name: str, *argv: str, meanwhile: Callable[[], None], env: Mapping[str, str] | None = None) -> str:
        """Run a command to its end and return what it printed; Problem if it failed."""
        self.start(name, *argv, ends=True, env=env)
        self.wait(name, meanwhile)
        return (self._logs / f"{name}.log").read_text()

    def wait(self, name: str, meanwhile: Callable[[], None]) -> None:
        """Until a process has ended that is to end by itself; Problem if it failed."""
        while (code := self._running[name].poll()) is None:
            meanwhile()
        del self._running[name]
        if code:
            raise self._failure(name, code)

    def check(self) -> None:
        """Problem if one ended that was to go on."""
        for name, process in self._running.items():
            if name not in self._finite and process.poll() is not None:
                raise self._failure(name, process.returncode)

    def kill(self, name: str) -> None:
        """Kill -9: it can do nothing about it."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def stop(self, name: str) -> None:
        """Ask it to end, and wait until it has."""
        self._end({name: self._running.pop(name)})

    def stop_all(self) -> None:
        self._end(self._running)
        self._running = {}

    def record(self, path: Path) -> None:
        """Write down what runs, for ``stop_recorded``."""
        path.write_text(json.dumps([[process.pid, _born(process.pid)] for process in self._running.values()]))

    def _end(self, processes: dict[str, subprocess.Popen[bytes]]) -> None:
        for process in processes.values():
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _failure(self, name: str, code: int) -> Problem:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        log = self._logs / f"{name}.log"
        return Problem(f"{name} {how}; the last lines of {log}:\n{tail(log)}")


def stop_recorded(path: Path) -> bool:
    """End what an earlier demo left running, as ``record`` wrote it down; False if nothing runs."""
    if not path.exists():
        return False
    left = still = [(pid, born) for pid, born in json.loads(path.read_text()) if _born(pid) == born]
    _signal(left, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while left := [(pid, born) for pid, born in left if _born(pid) == born]:
        if time.monotonic() > deadline:
            _signal(left, signal.SIGKILL)
        time.sleep(POLL_SECONDS)
    path.unlink()
    return bool(still)


def _signal(processes: Iterable[tuple[int, str]], number: signal.Signals) -> None:
    for pid, _ in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _born(pid: int) -> str | None:
    """When it started, in the kernel's ticks, which tells it from a later one with its id; None if it ended."""
    try:
        state, *others = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except FileNotFoundError:
        return None
    return None if state == "Z" else others[18]
