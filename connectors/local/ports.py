"""Ports on 127.0.0.1: chosen free once, recorded, kept as long as they stay free."""

import json
import random
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from connectors.problems import Problem

NAMES = ("postgres", "kafka", "controller", "connect")
LOWEST = 15_000
PATIENCE_SECONDS = 3.0  # a part killed a moment ago may still hold its port


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def ephemeral_start() -> int:
    """The kernel hands out ports from here to outgoing connections: one of them could sit on a dead part's port."""
    path = Path("/proc/sys/net/ipv4/ip_local_port_range")
    return int(path.read_text().split()[0]) if path.exists() else 32_768


def choose(taken: set[int]) -> int:
    candidates = list(range(LOWEST, max(ephemeral_start(), LOWEST + 1000)))
    random.shuffle(candidates)
    for port in candidates:
        if port not in taken and is_free(port):
            return port
    raise Problem(
        f"No port between {min(candidates)} and {max(candidates)} is free on 127.0.0.1; end programs that listen there."
    )


def assign(record: Path, names: Iterable[str] = NAMES) -> tuple[dict[str, int], tuple[str, ...]]:
    """The port of each name, kept in ``record``, and a sentence for each recorded port that had to be given up."""
    known: dict[str, int] = json.loads(record.read_text()) if record.exists() else {}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(not is_free(port) for port in known.values()) and time.monotonic() < deadline:
        time.sleep(0.1)
    ports: dict[str, int] = {}
    moved = []
    for name in names:
        old = known.get(name)
        if old is not None and is_free(old):
            ports[name] = old
            continue
        ports[name] = choose({*known.values(), *ports.values()})
        if old is not None:
            moved.append(
                f"Port {old} of {name} is busy: another program took it. It is {ports[name]} from now on; restart what "
                "used the old one and run `waybill connector apply` again."
            )
    if ports != known:
        record.write_text(json.dumps(ports, indent=1))
    return ports, tuple(moved)
