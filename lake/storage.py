"""Where the lake's files lie.  All the lake asks of a storage: create if absent, replace, list, read a footer."""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.problems import BadInput, Problem

#: Never deleted, so that every later start is refused at once.
PROBE = "_lake/probe"


class Storage(Protocol):
    """Keys are relative paths with ``/``.  An object is seen whole or not at all, by everybody at once."""

    scratch: Path
    """Folder for unfinished files, of this process alone."""

    def create(self, source: Path, key: str) -> bool:
        """Make ``key`` of the finished file ``source`` (which stays), durably; False if ``key`` exists."""

    def replace(self, source: Path, key: str) -> None:
        """Make ``key`` of ``source``, whatever was there."""

    def keys(self, prefix: str) -> list[str]:
        """All keys in the folder ``prefix`` and below, none if it does not exist."""

    def footer(self, key: str) -> dict[str, str]:
        """The key-value metadata of a Parquet object."""


class LocalStorage:
    """A folder.  Create-if-absent is ``os.link``; the scratch folder must lie on the same file system, hence inside.

    Raises BadInput if ``root`` cannot be a lake.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._durable: set[Path] = set()
        try:
            self.scratch, self._lock = _claim_scratch(root / "spool")
        except OSError as error:
            raise _unusable(root, error) from error

    def __str__(self) -> str:
        return str(self.root)

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

    def footer(self, key: str) -> dict[str, str]:
        try:
            metadata = pq.read_metadata(self.root / key).metadata or {}
        except (OSError, pa.ArrowException) as error:
            raise Problem(f"{self.root / key} cannot be read as Parquet: {error}; move the file away") from error
        return {name.decode(): value.decode() for name, value in metadata.items()}

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


def create_bytes(storage: Storage, key: str, content: bytes) -> bool:
    with _scratch_file(storage, content) as source:
        return storage.create(source, key)


def replace_bytes(storage: Storage, key: str, content: bytes) -> None:
    with _scratch_file(storage, content) as source:
        storage.replace(source, key)


def probe(storage: Storage) -> None:
    """Refuse a storage on which two writers could both create one name: every record might be in the lake twice."""
    try:
        created_twice = create_bytes(storage, PROBE, b"") and create_bytes(storage, PROBE, b"")
    except OSError as error:
        raise _unusable(storage, error) from error
    if created_twice:
        raise BadInput(
            f"{storage} cannot hold a lake: it let `{PROBE}` be created twice, and create-if-absent is what keeps "
            "every record in the lake once; choose another storage for lake.root"
        )


@contextmanager
def _scratch_file(storage: Storage, content: bytes) -> Iterator[Path]:
    path = storage.scratch / f".{uuid.uuid4().hex}.tmp"
    try:
        path.write_bytes(content)
        yield path
    finally:
        path.unlink(missing_ok=True)


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


def _unusable(what: object, error: OSError) -> BadInput:
    reason = error.strerror or str(error)
    return BadInput(
        f"{what} cannot hold a lake: {reason}; lake.root needs a local folder that can be written, with hard links"
    )
