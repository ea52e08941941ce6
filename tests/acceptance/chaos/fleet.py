"""The processes of a run: kept alive as a supervisor would, with a journal of all that was done to them."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import ROOT, free_port, wait_until

from chaos.ledger import Cause, Entry
from connectors.local.part import bound_to_parent

#: Seconds from a death to the next start, and those that SIGTERM may take.
PAUSE, PATIENCE = 0.5, 60.0


class Journal:
    """What was done and what happened, with its times; each entry is also a line of a file."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self.path, self.say = path, say
        self.entries: list[Entry] = []

    def note(self, what: str, cause: Cause | None = None, *, process: int = 0, crash: int = 0) -> None:
        now = time.time()
        self._add(Entry(what, now, now, cause, process, crash=crash))
        self.say(what)

    @contextmanager
    def during(self, what: str, cause: Cause | None = None, *, process: int = 0, consumer: str = "") -> Iterator[None]:
        start = time.time()
        self.say(what)
        try:
            yield
        finally:
            self._add(Entry(what, start, time.time(), cause, process, consumer))
            self.say(f"{what}: over")

    def _add(self, entry: Entry) -> None:
        self.entries.append(entry)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(entry)) + "\n")


@dataclass
class Member:
    """A place in a group of processes; who dies in it is followed by another.  ``told``: the death is our doing."""

    group: str
    app: str
    name: str
    process: subprocess.Popen | None = None
    logger: subprocess.Popen | None = None
    told: bool = False
    due: float = 0.0
    starts: int = 0
    log: Path = Path()


class Fleet:
    """Groups of workers, each started as the README says.  Only one thread starts processes: they die with it."""

    def __init__(self, logs: Path, env: dict[str, str], journal: Journal) -> None:
        self.logs, self.env, self.journal = logs, env, journal
        self.members: list[Member] = []
        self._numbers: dict[str, int] = {}
        self._file_limits: dict[str, int] = {}
        self._changing = threading.Lock()
        self._closing, self._ended = threading.Event(), threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def join(self, group: str, app: str) -> Member:
        number = self._numbers[group] = self._numbers.get(group, 0) + 1
        member = Member(group, app, f"{group}-{number}")
        with self._changing:
            self.members.append(member)
        return member

    def pick(self, group: str, choice: int) -> Member:
        """One of those that run, as soon as there is one."""
        wait_until(lambda: self._running(group), PATIENCE, f"a process of {group} runs")
        running = self._running(group)
        return running[choice % len(running)]

    def _running(self, group: str) -> list[Member]:
        return [member for member in self.members if member.group == group and member.process]

    def said(self, group: str, words: str) -> int:
        """How often members of a group have written these words to their logs."""
        return sum(log.read_text(errors="replace").count(words) for log in self.logs.glob(f"{group}-*.log"))

    # -- what is done to them

    def kill(self, member: Member) -> None:
        if process := member.process:
            member.told = True
            process.kill()
            process.wait()
            self.journal.note(f"kill -9 of {member.name}", Cause.CRASH, process=process.pid)

    def terminate(self, member: Member) -> None:
        if process := member.process:
            member.told = True
            process.terminate()
            self._await(member, process)

    def leave(self, member: Member) -> None:
        with self._changing:
            self.members.remove(member)
        self.terminate(member)

    @contextmanager
    def frozen(self, member: Member) -> Iterator[None]:
        process = member.process
        assert process
        with self.journal.during(f"{member.name} is frozen", Cause.FREEZE, process=process.pid):
            process.send_signal(signal.SIGSTOP)
            yield
            process.send_signal(signal.SIGCONT)

    @contextmanager
    def full_disk(self, group: str, largest: int) -> Iterator[None]:
        """Whatever the group writes to files beyond so many bytes fails (EFBIG), as it does on a full disk."""
        with self.journal.during(f"the disk under {group} is full"):
            self._limit(group, largest)
            yield
            self._limit(group, resource.RLIM_INFINITY)

    def close(self) -> None:
        """End all in good order."""
        self._closing.set()
        running = [(member, member.process) for member in self.members if member.process]
        for member, process in running:
            member.told = True
            process.terminate()
        for member, process in running:
            self._await(member, process)
        self._ended.set()
        self._keeper.join()

    def _await(self, member: Member, process: subprocess.Popen) -> None:
        """Who does not end on SIGTERM is killed, which counts as a crash."""
        start, logger = time.monotonic(), member.logger
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            told = f"{member.name} did not end on SIGTERM within {PATIENCE:.0f} s, see {member.log.name}"
            self.journal.note(told, Cause.CRASH, process=process.pid, crash=-signal.SIGKILL)
        else:
            took = time.monotonic() - start
            self.journal.note(f"{member.name} ended on SIGTERM, code {code}, {took:.1f} s", process=process.pid)
        if logger:
            logger.wait()

    def _limit(self, group: str, largest: int) -> None:
        self._file_limits[group] = largest
        for member in self.members:
            if member.group == group and member.process and member.process.poll() is None:
                resource.prlimit(member.process.pid, resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))

    # -- keeping them alive

    def _keep(self) -> None:
        while not self._ended.wait(0.05):
            with self._changing:
                for member in self.members:
                    self._look_after(member)

    def _look_after(self, member: Member) -> None:
        process, now = member.process, time.monotonic()
        if process is None:
            if now >= member.due and not self._closing.is_set():
                self._start(member)
        elif (code := process.poll()) is not None:
            if not member.told:
                told = f"{member.name} ended by itself, code {code}, see {member.log.name}"
                self.journal.note(told, Cause.CRASH, process=process.pid, crash=code or 1)
            if member.logger:
                member.logger.wait()
            member.process, member.told, member.due = None, False, now + PAUSE

    def _start(self, member: Member) -> None:
        member.starts += 1
        member.log = self.logs / f"{member.name}.{member.starts}.log"
        command = (str(Path(sys.executable).parent / "faust"), "-A", member.app, "worker", "-l", "info")
        env = {**os.environ, **self.env, "WAYBILL_METRICS_PORT": str(free_port()), "PYTHONFAULTHANDLER": "1"}
        with member.log.open("ab") as out:
            # Logs pass through a process of their own, so that a full disk does not swallow them.
            member.logger = subprocess.Popen(("cat",), stdin=subprocess.PIPE, stdout=out)
        with member.logger.stdin as pipe:
            process = subprocess.Popen(
                bound_to_parent(command, signal.SIGKILL), stdout=pipe, stderr=pipe, cwd=ROOT, env=env
            )
        member.process = process
        self._limit(member.group, self._file_limits.get(member.group, resource.RLIM_INFINITY))
        self.journal.note(f"{member.name} starts", process=process.pid)
