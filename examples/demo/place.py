"""The demo's folder and configuration: that of ``config/``, with ports that are free and a lake that is quick."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from connectors import settings
from connectors.local import ports
from connectors.problems import Problem

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".waybill" / "demo"
LOCK = HOME.with_suffix(".lock")
CONFIG = HOME / "config" / "waybill.yaml"
LOGS = HOME / "logs"
INBOXES = HOME / "consumers"
ROLLED_BACK = HOME / "rolled-back.txt"
#: The processes that a kept demo left behind.
KEPT = HOME / "processes.json"

WAYBILL = str(Path(sys.executable).with_name("waybill"))

CONSUMERS = ("billing", "notifications", "tracking")


def enter() -> None:
    """Make this process, and all it starts, use the demo's folder and configuration, whatever the environment says."""
    os.chdir(ROOT)
    for name in settings.ENVIRONMENT:
        os.environ.pop(name, None)
    os.environ.update(WAYBILL_HOME=str(HOME), WAYBILL_CONFIG=str(CONFIG), PYTHONUNBUFFERED="1")


def make_anew() -> None:
    """An empty folder, whatever an earlier demo left; Problem if it cannot be removed or made."""
    try:
        if HOME.exists():
            shutil.rmtree(HOME)
        for folder in (CONFIG.parent / "consumers", LOGS, INBOXES):
            folder.mkdir(parents=True)
        ROLLED_BACK.touch()
    except OSError as error:
        raise Problem(f"Cannot make {HOME} anew: {error}; remove it as the user who owns it.") from error


def configure() -> tuple[dict[str, str], dict[str, int]]:
    """Write the configuration, once the local stack has its ports.

    Returns the consumers' addresses and the workers' metrics ports.
    """
    taken: set[int] = set()
    addresses = {consumer: f"127.0.0.1:{_port(taken)}" for consumer in CONSUMERS}
    metrics = {worker: _port(taken) for worker in (*CONSUMERS, "lake")}
    _write_settings()
    for consumer, address in addresses.items():
        _write_consumer(consumer, address)
    return addresses, metrics


def _port(taken: set[int]) -> int:
    port = ports.choose(taken)
    taken.add(port)
    return port


def _write_settings() -> None:
    told = _read(ROOT / "config" / "waybill.yaml")
    told |= {
        "descriptors": str(ROOT / "proto" / "descriptors.binpb"),
        "consumers": ["consumers/*.yaml"],
        "lake": {**told["lake"], "root": str(HOME / "lake"), "segment-age": 5},
    }
    _write(CONFIG, told)


def _write_consumer(consumer: str, address: str) -> None:
    told = _read(ROOT / "config" / "consumers" / f"{consumer}.yaml")
    told["consumers"][consumer]["grpc-server-port"] = int(address.rpartition(":")[2])
    _write(CONFIG.parent / "consumers" / f"{consumer}.yaml", told)


def _read(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load(path.read_text())
    return told


def _write(path: Path, told: Mapping[str, Any]) -> None:
    path.write_text(f"# Made by the demo from config/{path.relative_to(CONFIG.parent)}.\n{yaml.safe_dump(dict(told))}")
