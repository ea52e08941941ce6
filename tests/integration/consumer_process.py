"""Starts, kills and restarts a consumer in a process of its own."""

import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

SCRIPT = Path(__file__).with_name("moody_consumer.py")


class ConsumerProcess:
    """Listens on ``port`` while it runs; a restart takes the same port."""

    def __init__(self) -> None:
        self.port = 0
        self.restart()

    def restart(self) -> None:
        self.process = subprocess.Popen([sys.executable, str(SCRIPT), str(self.port)], stdout=subprocess.PIPE)
        assert self.process.stdout
        self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.wait()

    def wait(self) -> None:
        """Until it is dead."""
        self.process.wait(10)
        if self.process.stdout:
            self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
