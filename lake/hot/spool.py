"""A scratch file that is never left half written: what its disk does not take waits in memory."""

import os
from contextlib import suppress
from pathlib import Path


class DamagedError(Exception):
    """A scratch file is not what was written to it, and cannot be made so."""


class Spool:
    """A file that is only appended to, by one thread; also what Arrow takes for a file.

    ``write`` never fails.  ``settle`` raises OSError as long as the disk does not take everything, and may be repeated:
    each byte has its place in the file, so that a write which failed half way is made good by the next.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.closed = path, False
        self._descriptor: int | None = None
        self._settled = 0
        self._waiting = bytearray()

    @property
    def waiting(self) -> int:
        """Bytes in memory."""
        return len(self._waiting)

    def tell(self) -> int:
        return self._settled + len(self._waiting)

    def write(self, content: bytes) -> int:
        if not self.closed:
            self._waiting += content
            with suppress(OSError):
                self.settle()
        return len(content)

    def flush(self) -> None:
        """For Arrow, which calls it: ``write`` has done what can be done."""

    def settle(self) -> None:
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o666)
        while self._waiting:
            taken = os.pwrite(self._descriptor, self._waiting, self._settled)
            self._settled += taken
            del self._waiting[:taken]

    def finish(self) -> None:
        """All of it is on the disk.  OSError if it has no room for that; DamagedError if it had, but lost something."""
        if self.closed:
            return
        self.settle()
        assert self._descriptor is not None
        try:
            os.fsync(self._descriptor)
        except OSError as error:  # the next fsync would not tell: the kernel forgets what it could not write
            raise DamagedError(f"{self.path} was lost on its way to the disk: {error}") from error
        self.close()

    def discard(self) -> None:
        """Remove the file; what is written from now on goes nowhere."""
        self.close()
        self._waiting.clear()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        self.closed = True
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
