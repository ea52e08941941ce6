"""Where the local stack listens and how its parts are: what the supervisor records in ``stack.json``."""

import fcntl
import json
import os
import signal
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from connectors.problems import Problem, Unreachable

PARTS = ("postgres", "kafka", "connect")
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class PartState:
    """``pid`` is None while the part is not running; ``restarts`` counts its deaths; ``last_words`` is how it died."""

    pid: int | None = None
    ready: bool = False
    restarts: int = 0
    last_words: str = ""


@dataclass(frozen=True)
class Stack:
    """A local stack: client addresses, the supervisor's ``pid``, its parts; ``error`` is why it could not start."""

    home: Path
    kafka: str
    connect: str
    postgres: str
    pid: int
    parts: dict[str, PartState]
    error: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        return all(part.ready for part in self.parts.values())

    def pid_of(self, part: str) -> int | None:
        """The process id of ``kafka``, ``connect`` or ``postgres`` now; None while it is not running."""
        return read(self.home).parts[part].pid

    def kill(self, part: str) -> None:
        """``kill -9`` one part and return as soon as the supervisor has noticed; it starts the part again by itself."""
        before = read(self.home).parts[part]
        if before.pid is None:
            raise Problem(f"The part {part} is not running; see `waybill local status`.")
        os.kill(before.pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while read(self.home).parts[part].restarts == before.restarts:
            if time.monotonic() > deadline:
                raise Problem(f"The supervisor did not notice that {part} died; run `waybill local down`.")
            time.sleep(POLL_SECONDS)

    def wait_ready(self, seconds: float = 120) -> None:
        """Return when every part is ready; Unreachable if that takes longer."""
        deadline = time.monotonic() + seconds
        while not (stack := read(self.home)).ready:
            if time.monotonic() > deadline:
                waiting = ", ".join(name for name, part in stack.parts.items() if not part.ready)
                raise Unreachable(f"Not ready after {seconds:g} s: {waiting}; see `waybill local logs`.")
            time.sleep(POLL_SECONDS)


def default_home() -> Path:
    """The folder WAYBILL_HOME names, else ``.waybill`` in the working directory."""
    return Path(os.environ.get("WAYBILL_HOME") or ".waybill").absolute()


def folder(home: Path) -> Path:
    return home.absolute() / "local"


def read(home: Path | None = None) -> Stack:
    """The running stack of ``home`` (default: this folder's); Unreachable if there is none."""
    home = (home or default_home()).absolute()
    pid = supervisor_pid(home)
    if pid is None:
        raise Unreachable(f"No local stack is running in {home}; start it with `waybill local up`.")
    stack = recorded(home)
    if stack is None or stack.pid != pid:
        raise Unreachable(f"The local stack of {home} has only just been started; try again in a few seconds.")
    return stack


def recorded(home: Path) -> Stack | None:
    """What was last written about the stack of ``home``, running or not."""
    try:
        values = json.loads((folder(home) / "stack.json").read_text())
    except FileNotFoundError:
        return None
    parts = {name: PartState(**part) for name, part in values.pop("parts").items()}
    return Stack(home=home.absolute(), parts=parts, warnings=tuple(values.pop("warnings")), **values)


def write(stack: Stack) -> None:
    """Replace the record at once, so that a reader never sees half of it."""
    values = asdict(stack)
    del values["home"]
    path = folder(stack.home) / "stack.json"
    path.with_suffix(".new").write_text(json.dumps(values, indent=1))
    path.with_suffix(".new").replace(path)


def supervisor_pid(home: Path) -> int | None:
    """The process that holds the stack's lock, as the kernel knows it: nothing recorded that could be stale."""
    try:
        lock = (folder(home) / "lock").open("rb")
    except FileNotFoundError:
        return None
    with lock:
        # struct flock: type, whence, start, length, process
        question = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, *_, pid = struct.unpack("hhqqi", fcntl.fcntl(lock, fcntl.F_GETLK, question))
        return None if kind == fcntl.F_UNLCK else int(pid)


@contextmanager
def supervisor_lock(home: Path) -> Iterator[bool]:
    """Hold the lock of ``home``; yields False if another supervisor has it."""
    with (folder(home) / "lock").open("wb") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
