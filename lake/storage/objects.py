"""All the lake asks of a storage, and what is built on that alone."""

import errno
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.problems import BadInput, Problem, Unreachable

if TYPE_CHECKING:  # a sink does not need it, and it takes 12 MB
    import duckdb

#: Never deleted, so that every later start is refused at once.
PROBE = "_lake/probe"


class Storage(Protocol):
    """Keys are relative paths with ``/``.  An object is seen whole or not at all, by everybody at once.

    All may raise Unreachable, while the storage is away, and BadInput, where somebody has to change something; a folder
    raises OSError instead.
    """

    @property
    def scratch(self) -> Path:
        """Folder for unfinished files, of this process alone.  Raises BadInput where there can be none, Unreachable
        where there is no room.
        """

    def create(self, source: Path, key: str) -> bool:
        """Make ``key`` of the finished file ``source`` (which stays), durably; False if ``key`` exists."""

    def replace(self, source: Path, key: str) -> None:
        """Make ``key`` of ``source``, whatever was there."""

    def delete(self, key: str) -> None:
        """Remove ``key``, if it is there."""

    def keys(self, prefix: str) -> list[str]:
        """All keys in the folder ``prefix`` and below, none if it does not exist."""

    def sizes(self, prefix: str) -> dict[str, int]:
        """The same with the bytes of each."""

    def open(self, key: str) -> BinaryIO:
        """For reading, anywhere in it.  Raises FileNotFoundError."""

    def uri(self, key: str) -> str:
        """What DuckDB and people call ``key``; a ``*`` in it stays one."""

    def attach(self, connection: "duckdb.DuckDBPyConnection") -> None:
        """Let ``connection`` read what ``uri`` names."""


def create_bytes(storage: Storage, key: str, content: bytes) -> bool:
    with _scratch_file(storage, content) as source:
        return storage.create(source, key)


def replace_bytes(storage: Storage, key: str, content: bytes) -> None:
    with _scratch_file(storage, content) as source:
        storage.replace(source, key)


def read_bytes(storage: Storage, key: str) -> bytes:
    with storage.open(key) as file:
        return file.read()


def footer(storage: Storage, key: str) -> dict[str, str]:
    """The key-value metadata of a Parquet object.  Raises Problem if it is something else, and what ``open`` raises."""
    try:
        with storage.open(key) as file:
            metadata = pq.read_metadata(file).metadata or {}
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno:  # Arrow's own have none
            raise
        raise Problem(f"{storage.uri(key)} cannot be read as Parquet: {error}; move the file away") from error
    return {name.decode(): value.decode() for name, value in metadata.items() if name != b"ARROW:schema"}


def probe(storage: Storage) -> None:
    """Refuse a storage on which two writers could both create one name: every record might be in the lake twice."""
    try:
        created_twice = create_bytes(storage, PROBE, b"") and create_bytes(storage, PROBE, b"")
    except OSError as error:
        raise unusable(storage, error) from error
    if created_twice:
        raise BadInput(
            f"{storage} cannot hold a lake: it let `{PROBE}` be created twice, and create-if-absent is what keeps "
            "every record in the lake once; choose another storage for lake.root"
        )


def unusable(
    what: object, error: OSError, needs: str = "lake.root needs a local folder that can be written, with hard links"
) -> Problem:
    """Unreachable where waiting helps, else BadInput."""
    reason = error.strerror or str(error)
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Unreachable(f"{what} takes nothing: {reason}; make room")
    return BadInput(f"{what} cannot hold a lake: {reason}; {needs}")


@contextmanager
def _scratch_file(storage: Storage, content: bytes) -> Iterator[Path]:
    path = storage.scratch / f".{uuid.uuid4().hex}.tmp"
    try:
        path.write_bytes(content)
        yield path
    finally:
        path.unlink(missing_ok=True)
