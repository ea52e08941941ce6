"""The detached process that owns the parts: ``python -m connectors.local.supervisor HOME JARS BROKERS``.

It starts each part when those it needs are ready, starts one that died again, and ends all in order on SIGTERM.  Parts
are bound to this process' only thread: however it ends, the kernel ends them too.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from connectors.local import connect, java, kafka, ports, postgres, state
from connectors.local.part import Part
from connectors.problems import Problem

TICK_SECONDS = 0.1
DEATHS_BEFORE_GIVING_UP = 3  # of a part that was never ready
LONGEST_PAUSE_SECONDS = 10.0
STOP_SECONDS = 15.0
LOG_BYTES = 20 * 1024 * 1024
LAST_LINES = 12

log = logging.getLogger(__name__)


def pause_after(deaths: int) -> float:
    """Seconds to wait before a part that died ``deaths`` times in a row, never ready in between, is started again."""
    return float(min(0.1 * 4 ** min(deaths - 1, 10), LONGEST_PAUSE_SECONDS))


@dataclass
class Child:
    """A part and its process; ``deaths`` counts those since it was last ready, ``restarts`` all."""

    part: Part
    process: subprocess.Popen[bytes] | None = None
    ready: bool = False
    was_ready: bool = False
    deaths: int = 0
    restarts: int = 0
    last_words: str = ""
    due: float = 0.0

    def start(self) -> None:
        rotate(self.part.log)
        with self.part.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.part.argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.part.log.parent
            )
        log.info("started %s, process %d", self.part.name, self.process.pid)

    def died(self, code: int, now: float) -> None:
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        self.last_words = f"{self.part.name} ended ({how}); the last lines of {self.part.log}:\n{tail(self.part.log)}"
        self.process, self.ready = None, False
        self.deaths += 1
        self.restarts += 1
        self.due = now + pause_after(self.deaths)
        log.warning("%s ended (%s)", self.part.name, how)

    def state(self) -> state.PartState:
        pid = self.process.pid if self.process else None
        return state.PartState(pid, self.ready, self.restarts, "" if self.ready else self.last_words)


def rotate(path: Path) -> None:
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))


def tail(path: Path) -> str:
    """The last lines of a log, indented."""
    with path.open("rb") as log_file:
        log_file.seek(max(0, path.stat().st_size - 20_000))
        text = log_file.read().decode(errors="replace")
    return "\n".join(f"  {line}" for line in text.splitlines()[-LAST_LINES:])


def tick(children: Mapping[str, Child], now: float) -> None:
    """One look at every part: notice deaths, start what is due, ask whether what was started is ready.

    Raises Problem when a part that was never ready died too often.
    """
    for child in children.values():
        if child.process is None:
            if now >= child.due and all(children[name].ready for name in child.part.after):
                child.start()
        elif (code := child.process.poll()) is not None:
            child.died(code, now)
            for other in children.values():
                if child.part.name in other.part.after:
                    other.ready = False
            if child.deaths >= DEATHS_BEFORE_GIVING_UP and not child.was_ready:
                raise Problem(f"The local stack cannot start: {advice(child.last_words)}{child.last_words}")
        elif not child.ready and all(children[name].ready for name in child.part.after) and child.part.ready():
            child.ready, child.was_ready, child.deaths = True, True, 0
            log.info("%s is ready", child.part.name)


def advice(last_words: str) -> str:
    """What a person can do about a death of which the log tells the cause; empty for other causes."""
    known = {
        "No space left on device": "the disk is full, free some space and run `waybill local up` again; ",
        "Address already in use": "its port is busy, run `waybill local up` again to have another one chosen; ",
        "OutOfMemoryError": "it ran out of memory, end some other programs and run `waybill local up` again; ",
    }
    return "".join(text for sign, text in known.items() if sign in last_words)


def stop(children: Iterable[Child]) -> None:
    """End the parts one after the other; kill what does not end in time."""
    for child in children:
        if child.process is None:
            continue
        child.process.send_signal(child.part.stop)
        try:
            child.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("%s did not end within %g s: killed", child.part.name, STOP_SECONDS)
            child.process.kill()
            child.process.wait()


class Stopped(BaseException):
    """SIGTERM or SIGINT arrived: not an error, so nothing but the supervisor's loop may catch it."""


def on_signal(*_: object) -> None:
    raise Stopped


def prepare(
    stack: state.Stack, jars: Path, numbers: Mapping[str, int], nodes: Sequence[kafka.Node]
) -> tuple[Part, ...]:
    """Make what is missing in the stack's folder and return its parts, each before those that need it."""
    folder = state.folder(stack.home)
    java.prepare(folder)
    postgres.prepare(folder)
    kafka.prepare(folder, jars, nodes)
    connect.prepare(folder, jars, numbers["connect"], stack.kafka)
    return (
        postgres.part(folder, numbers["postgres"]),
        *(kafka.part(folder, jars, node) for node in nodes),
        connect.part(folder, jars, numbers["connect"], after=tuple(node.name for node in nodes)),
    )


def supervise(home: Path, jars: Path, brokers: int) -> None:
    """Run the stack of ``home`` until a signal, or a part that cannot start, ends it."""
    names = kafka.names(brokers)
    controllers = [name.replace("kafka", "controller") for name in names]
    numbers, moved = ports.assign(state.folder(home) / "ports.json", ("postgres", *names, *controllers, "connect"))
    nodes = [
        kafka.Node(number, numbers[name], numbers[controller])
        for number, (name, controller) in enumerate(zip(names, controllers, strict=True), 1)
    ]
    stack = state.Stack(
        home=home,
        kafka=kafka.address(*(node.port for node in nodes)),
        connect=connect.url(numbers["connect"]),
        postgres=postgres.url(numbers["postgres"]),
        pid=os.getpid(),
        parts={name: state.PartState() for name in ("postgres", *names, "connect")},
        warnings=moved,
    )
    state.write(stack)
    idle = stack
    children: dict[str, Child] = {}
    try:
        children |= {part.name: Child(part) for part in prepare(stack, jars, numbers, nodes)}
        while True:
            tick(children, time.monotonic())
            current = replace(stack, parts={name: child.state() for name, child in children.items()})
            if current != stack:
                # A full disk: the parts may well live on, so try again until there is room.
                with suppress(OSError):
                    state.write(current)
                    stack = current
            time.sleep(TICK_SECONDS)
    except Stopped:
        log.info("stopping")
    except Problem as problem:
        log.exception("giving up")
        idle = replace(stack, parts=idle.parts, error=str(problem))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop(reversed(children.values()))
        with suppress(OSError):
            state.write(idle)


def main() -> None:
    home, jars, brokers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    signal.signal(signal.SIGTERM, on_signal)
    os.setsid()  # apart from the terminal: neither its Ctrl-C nor its end reaches the stack
    os.chdir(state.folder(home))
    with state.supervisor_lock(home) as held:
        if held:
            supervise(home, jars, brokers)


if __name__ == "__main__":
    main()
