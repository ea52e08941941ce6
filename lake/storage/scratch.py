"""A folder for the unfinished files of one process."""

import fcntl
import os
import shutil
import uuid
from pathlib import Path


class Scratch:
    """Claimed when it is first asked for, and held until the process ends; what dead processes left is removed."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._claimed: tuple[Path, int] | None = None

    @property
    def folder(self) -> Path:
        """Raises OSError."""
        if self._claimed is None:
            self._claimed = _claim(self._spool)
        return self._claimed[0]


def _claim(spool: Path) -> tuple[Path, int]:
    """A new folder and the descriptor that locks it.  Folders whose lock is free are of dead processes: removed."""
    spool.mkdir(parents=True, exist_ok=True)
    gate = os.open(spool / ".lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(gate, fcntl.LOCK_EX)
        for folder in spool.iterdir():
            if folder.is_dir() and (lock := _lock(folder)) is not None:
                shutil.rmtree(folder)
                os.close(lock)
        mine = spool / uuid.uuid4().hex
        mine.mkdir(mode=0o700)
        lock = _lock(mine)
    finally:
        os.close(gate)
    if lock is None:
        raise BlockingIOError(f"{mine} is locked by another process")
    return mine, lock


def _lock(folder: Path) -> int | None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
