"""Start, end and look at the local stack of a home."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from connectors.local import jars, state
from connectors.local.supervisor import tail
from connectors.problems import Problem, Unreachable

START_BYTES = 500 * 1024 * 1024
WORK_BYTES = 20 * 1024 * 1024
READY_SECONDS = 120.0
STOP_SECONDS = 60.0


def up(
    home: Path,
    on_jars: Callable[[int, int], None],
    on_state: Callable[[state.Stack], None],
    brokers: int = 1,
) -> state.Stack:
    """Start the stack of ``home`` unless it runs, and return it when all parts are ready.

    ``on_jars(done, total)`` follows a download; ``on_state`` sees the stack each time it is looked at.  ``brokers``:
    1, or 3 with as many replicas; a home keeps the number it was first started with.
    """
    home = home.absolute()
    spawned = None
    if state.supervisor_pid(home) is None:
        check_space(home, START_BYTES)
        installed = jars.install(jars.read_lock(), jars.cache(), on_jars)
        spawned = _spawn_supervisor(home, installed, brokers)
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        # Of two that start at once, the one that finds the lock taken ends at once: not a failure.
        ended = spawned is not None and os.waitpid(spawned, os.WNOHANG)[0] == spawned
        owner = state.supervisor_pid(home)
        stack = state.recorded(home)
        if owner is None and ended:
            raise Problem(_why(stack if stack and stack.pid == spawned else None, home))
        spawned = None if ended else spawned
        if stack and stack.pid == owner:
            on_state(stack)
            if stack.ready:
                return stack
        time.sleep(state.POLL_SECONDS)
    raise Unreachable(f"The local stack of {home} is not ready after {READY_SECONDS:g} s; see `waybill local logs`.")


def down(home: Path) -> bool:
    """End the stack of ``home``; False if none runs."""
    pid = state.supervisor_pid(home)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while state.supervisor_pid(home) == pid:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(state.POLL_SECONDS)
    return True


def log_paths(home: Path) -> dict[str, Path]:
    """The logs there are: of each part and of the supervisor."""
    logs = state.folder(home) / "logs"
    paths = {name: logs / f"{name}.log" for name in (*state.PARTS, "supervisor")}
    return {name: path for name, path in paths.items() if path.exists()}


def check_space(home: Path, needed: int) -> None:
    """Problem if the disk that holds, or will hold, ``home`` has less than ``needed`` bytes left."""
    existing = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise Problem(
            f"The disk of {home} has only {free >> 20} MB left and the local stack needs {needed >> 20} MB; "
            "free some space, or set WAYBILL_HOME to a folder on another disk."
        )


def _spawn_supervisor(home: Path, installed: Path, brokers: int) -> int:
    log = state.folder(home) / "logs" / "supervisor.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Problem(f"Cannot make {log.parent}: {error}; set WAYBILL_HOME to a folder of yours.") from error
    # Not by subprocess: its objects want to outlive their process, and this process is to outlive us.
    return os.posix_spawn(
        sys.executable,
        (sys.executable, "-m", "connectors.local.supervisor", str(home), str(installed), str(brokers)),
        os.environ,
        file_actions=(
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ),
    )


def _why(stack: state.Stack | None, home: Path) -> str:
    if stack and stack.error:
        return stack.error
    log = state.folder(home) / "logs" / "supervisor.log"
    return f"The supervisor of the local stack ended before it was ready; the last lines of {log}:\n{tail(log)}"
