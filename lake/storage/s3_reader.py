"""Objects of S3 as files, and as DuckDB wants them."""

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from threading import get_ident
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.utils import glob_translate

from connectors.problems import BadInput

#: Bytes that opening an object brings: a footer of Parquet, or all of a small object, in one request.
TAIL = 64 << 10
#: Bytes that are fetched at once where a reader takes few at a time.
BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of an object, and what there is to know of all of it."""

    content: bytes
    size: int
    etag: str
    modified: datetime


class S3Reader(io.RawIOBase):
    """One object as it was when it was opened; ``fetch`` gives its bytes from an offset to before another."""

    def __init__(self, tail: Tail, fetch: Callable[[int, int], bytes]) -> None:
        self.tail = tail
        self._fetch = fetch
        self._at = 0

    def again(self) -> "S3Reader":
        """The same object, from its begin."""
        return S3Reader(self.tail, self._fetch)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.tail.size}[whence]
        if base + offset < 0:
            raise ValueError("there is nothing before the begin of a file")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        content = self._read(min(len(buffer), self.tail.size - self._at))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def readall(self) -> bytes:
        """In one request, where the inherited one makes one for each 8 KiB."""
        content = self._read(self.tail.size - self._at)
        self._at += len(content)
        rest = self._read(self.tail.size - self._at)
        self._at += len(rest)
        return content + rest

    def _read(self, length: int) -> bytes:
        """``length`` bytes, or those up to where the tail begins."""
        if length <= 0:
            return b""
        begin = self.tail.size - len(self.tail.content)
        if self._at >= begin:
            return self.tail.content[self._at - begin :][:length]
        return self._fetch(self._at, min(self._at + length, begin))


class SharedReader:
    """A file as DuckDB uses it: threads share it, and each seeks just before it reads, with others in between.

    Who has not sought goes on where the last read ended.
    """

    def __init__(self, reader: S3Reader) -> None:
        self._reader = reader
        self._at = 0
        self._sought: dict[int, int] = {}
        self._buffers: dict[int, io.BufferedReader] = {}

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = self._buffer().seek(offset if whence != io.SEEK_CUR else self.tell() + offset, whence & io.SEEK_END)
        self._sought[get_ident()] = at
        return at

    def tell(self) -> int:
        return self._sought.get(get_ident(), self._at)

    def read(self, size: int = -1) -> bytes:
        buffer, begin = self._buffer(), self._sought.pop(get_ident(), self._at)
        buffer.seek(begin)
        content = buffer.read(size)
        self._at = begin + len(content)
        return content

    def close(self) -> None:
        self._buffers.clear()

    def _buffer(self) -> io.BufferedReader:
        """Of this thread."""
        if (me := get_ident()) not in self._buffers:
            self._buffers[me] = io.BufferedReader(self._reader.again(), BUFFER)
        return self._buffers[me]


class S3Files(AbstractFileSystem):  # type: ignore[misc]  # fsspec is untyped
    """What DuckDB asks a filesystem, for one bucket.  s3fs's own costs four requests to open a file, lists each folder
    of a pattern by itself, reads tens of megabytes ahead, and has one position for all threads.
    """

    protocol = "s3"
    cachable = False

    def __init__(
        self, bucket: str, reader: Callable[[str], S3Reader], names: Callable[[str], Iterable[str]], **options: Any
    ) -> None:
        """``reader`` opens an object by its name in the bucket, ``names`` are all that begin with some text."""
        super().__init__(**options)
        self._root = f"s3://{bucket}/"
        self._reader, self._names = reader, names
        self._opened: dict[str, Tail] = {}

    def open(self, path: str, mode: str = "rb", **_: Any) -> SharedReader:
        if mode != "rb":
            raise BadInput(f"{path} cannot be written: DuckDB reads a lake, and writes to folders of this machine")
        reader = self._reader(self._name(path))
        self._opened[path] = reader.tail
        return SharedReader(reader)

    def glob(self, path: str, **_: Any) -> list[str]:
        name = self._name(path)
        fixed = re.split(r"[*?\[]", name, maxsplit=1)[0]
        if fixed == name:
            return [path]  # whether it is there, opening it tells
        wanted = re.compile(glob_translate(name))
        return [self._root + found for found in self._names(fixed) if wanted.match(found)]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Asked for each file that was just opened: what the answer said then."""
        tail = self._opened.get(path) or self._reader(self._name(path)).tail
        return {"name": path, "size": tail.size, "type": "file", "modified": tail.modified}

    def modified(self, path: str) -> datetime:
        modified: datetime = self.info(path)["modified"]
        return modified

    def _name(self, path: str) -> str:
        if not path.startswith(self._root):
            raise BadInput(f"{path} is not in the lake's bucket {self._root}; DuckDB reads no other with its keys")
        return path.removeprefix(self._root)
