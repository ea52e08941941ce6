"""A lake in a folder."""

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lake.storage.objects import unusable
from lake.storage.scratch import Scratch

if TYPE_CHECKING:  # a sink does not need it, and it takes 12 MB
    import duckdb


class LocalStorage:
    """A folder.  Create-if-absent is ``os.link``; the scratch folder must lie on the same file system, hence inside."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._durable: set[Path] = set()
        self._scratch = Scratch(root / "spool")

    def __str__(self) -> str:
        return str(self.root)

    @property
    def scratch(self) -> Path:
        try:
            return self._scratch.folder
        except OSError as error:
            raise unusable(self.root, error) from error

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
            for folder, _, names in os.walk(self.root / prefix, onerror=_unless_gone)
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

    def attach(self, connection: "duckdb.DuckDBPyConnection") -> None:
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


def _unless_gone(error: OSError) -> None:
    """A folder that cannot be listed must not look empty."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
