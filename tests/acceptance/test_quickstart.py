"""The quickstart, followed to the letter on the real stack: its files are written and its commands run, in order."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import ROOT, Process, wait_until
from outboxes import Outbox, database

from connectors.local import ports
from connectors.local.state import Stack

PAGE = (ROOT / "docs" / "quickstart.md").read_text()
FILE = re.compile(r"^`([\w/]+\.\w+)`[^\n]*:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LONG_RUNNING = re.compile(r"(\w+=\w+ )?(waybill worker|python quickstart/service\.py)\b")


class Newcomer:
    """Somebody who does what the page says, in a folder like the repository's, on ports that are free here."""

    def __init__(self, folder: Path, outbox: Outbox) -> None:
        self.folder, self.running = folder, dict[str, Process]()
        for part in ("config", "proto"):
            shutil.copytree(ROOT / part, folder / part)
        main = folder / "config" / "waybill.yaml"
        own = f"  {outbox.name}:\n    database: {outbox.url}"
        text = main.read_text().replace("  logistics:\n    database: local", own)
        main.write_text(text.replace("segment-age: 60", "segment-age: 1"))
        self.ports: dict[str, str] = {}
        for port in ("50070", "9464", "9465", "9466"):
            self.ports[port] = str(ports.choose({int(taken) for taken in self.ports.values()}))
        for path, text in FILE.findall(PAGE):
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(self.here(text))
        self.env = {
            **os.environ,
            "DATABASE_URL": outbox.url,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "examples" / "stubs"),
            "WAYBILL_HOME": str(outbox.stack.home),
            "WAYBILL_METRICS_PORT": self.ports["9464"],
        }

    def here(self, text: str) -> str:
        for port, free in self.ports.items():
            text = text.replace(port, free)
        return text

    def run(self, command: str) -> None:
        """A command that must succeed; one that goes on is left running, in the place of its kind."""
        if match := LONG_RUNNING.match(command):
            kind = command if match[2] == "waybill worker" else match[2]
            if kind in self.running:
                self.running.pop(kind).terminate()
            line = f"cd {self.folder} && exec env {self.here(command)}"
            self.running[kind] = Process(["bash", "-c", line], self.log, self.env)
            return
        done = self.call(command)
        assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"

    def call(self, command: str) -> subprocess.CompletedProcess[str]:
        line = ["bash", "-c", self.here(command)]
        return subprocess.run(
            line, check=False, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=60
        )

    @property
    def log(self) -> Path:
        return self.folder / "running.log"

    def sees(self, text: str) -> None:
        wait_until(lambda: text in self.log.read_text(), 40, f"{text} in {self.log}")

    def sees_by(self, command: str, text: str) -> None:
        wait_until(lambda: text in self.call(command).stdout, 60, f"{text} by {command}")


@pytest.fixture
def newcomer(stack: Stack, tmp_path: Path) -> Iterator[Newcomer]:
    with database(stack, with_ddl=False) as outbox:
        newcomer = Newcomer(tmp_path, outbox)
        yield newcomer
        for process in newcomer.running.values():
            process.kill()


@pytest.mark.timeout(240)
def test_the_quickstart_works_as_it_is_written(newcomer: Newcomer) -> None:
    start, *steps, clean_up = COMMANDS.findall(PAGE)
    assert "make install" in start
    assert "waybill local down" in clean_up
    for command in "".join(steps).splitlines():
        if command.startswith("waybill dlq ls"):
            newcomer.sees_by(command, "there is no package lost-1")
        elif command.startswith("waybill lake sql"):
            newcomer.sees_by(command, "lost-1")
        else:
            newcomer.run(command)
        if command == "waybill worker hello":
            newcomer.sees("delivered p-1")
    newcomer.sees("delivered lost-1")
