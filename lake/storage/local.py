"""A lake in a folder."""

import fcntl
import os
import shutil
import uuid
from pathlib import Path
from typing import BinaryIO

import duckdb

from lake.storage.objects import unusable


class LocalStorage:
    """A folder.  Create-if-absent is ``os.link``; the scratch folder must lie on the same file system, hence inside."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._durable: set[Path] = set()
        self._claimed: tuple[Path, int] | None = None

    def __str__(self) -> str:
        return str(self.root)

    @property
    def scratch(self) -> Path:
        if self._claimed is None:
            try:
                self._claimed = _claim_scratch(self.root / "spool")
            except OSError as error:
                raise unusable(self.root, error) from error
        return self._claimed[0]

    def create(self, source: Path, key: str) -> bool:
        target = self._prepared(source, key)
        try:
            os.link(source, target)
        except FileExistsError:
            return False
        _sync(target.parent)
        return True

    def replace(self, source: Path, key: str) -> None:
        target = self._prepared(source, key)
        copy = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        os.link(source, copy)
        copy.replace(target)
        _sync(target.parent)

    def keys(self, prefix: str) -> list[str]:
        return [
            os.path.relpath(os.path.join(folder, name), self.root)  # noqa: PTH118 - pathlib is slow with 100,000 files
            for folder, _, names in os.walk(self.root / prefix)
            for name in names
            if not name.startswith(".")
        ]

    def sizes(self, prefix: str) -> dict[str, int]:
        return {key: (self.root / key).stat().st_size for key in self.keys(prefix)}

    def delete(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)

    def open(self, key: str) -> BinaryIO:
        return (self.root / key).open("rb")

    def uri(self, key: str) -> str:
        return str(self.root / key)

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """It reads folders by itself."""

    def _prepared(self, source: Path, key: str) -> Path:
        """``source`` and the folders of ``key`` survive a loss of power."""
        _sync(source)
        target = self.root / key
        missing = [target.parent, *target.parent.parents]
        for folder in reversed(missing[: missing.index(self.root)]):
            if folder not in self._durable:
                folder.mkdir(exist_ok=True)
                _sync(folder.parent)
                self._durable.add(folder)
        return target


def _claim_scratch(spool: Path) -> tuple[Path, int]:
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
        mine.mkdir()
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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
