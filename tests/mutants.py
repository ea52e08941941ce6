"""Break the code in each way that ``mutations`` lists, in a copy of the tree, and see that its test fails.

A test that passes all the same proves nothing of what the guarantees say of it; then the status is 1.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mutations import MUTATIONS, ROOT, Mutation, table

#: What pytest answers when tests failed; everything else but 0 means that they could not be run.
FAILED = 1
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", ".waybill", "__pycache__", "*-data", "*.pyc")


class Copy:
    """The tree, to be broken."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "tree"
        shutil.copytree(ROOT, self.root, ignore=LEFT_OUT)
        paths = (self.root, self.root / "connectors" / "outbox" / "src")
        # Without bytecode: a change within one second, of the same length, would go unnoticed.
        self.env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONDONTWRITEBYTECODE": "1"}
        asked = "import connectors, pipelines as p; print(connectors.__path__[0], p.__path__[0])"
        for file in self._python("-c", asked).stdout.split():
            if not Path(file).is_relative_to(self.root):
                raise SystemExit(f"the copy is not what is imported, but {file}")

    def test(self, *tests: str) -> subprocess.CompletedProcess[str]:
        return self._python("-m", "pytest", "-q", "-x", "--hypothesis-profile=mutants", *tests)

    def test_broken(self, mutation: Mutation) -> subprocess.CompletedProcess[str]:
        file = self.root / mutation.file
        whole = file.read_text()
        assert whole.count(mutation.old) == 1, f"{mutation.file} must hold exactly once: {mutation.old!r}"
        file.write_text(whole.replace(mutation.old, mutation.new))
        try:
            return self.test(mutation.test)
        finally:
            file.write_text(whole)

    def _python(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *args], cwd=self.root, env=self.env, capture_output=True, text=True, check=False
        )


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a script that prints


def main(words: list[str]) -> int:
    """0 if every mutation is killed.  ``words`` choose those that hold one of them in file, test or description."""
    chosen = [m for m in MUTATIONS if not words or any(word in f"{m.file} {m.breaks} {m.test}" for word in words)]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Copy(Path(folder))
        whole = copy.test(*dict.fromkeys(mutation.test for mutation in chosen))
        if whole.returncode:
            say(whole.stdout[-5000:] + "\nThese tests must pass before anything is broken.")
            return 1
        survivors = 0
        for mutation in chosen:
            began = time.monotonic()
            result = copy.test_broken(mutation)
            fate = {FAILED: "killed", 0: "SURVIVED"}.get(result.returncode, "COULD NOT RUN")
            say(f"{fate:13} {time.monotonic() - began:5.0f} s  {mutation.file:32} {mutation.breaks}")
            if result.returncode != FAILED:
                survivors += 1
                say(result.stdout[-2000:] if result.returncode else f"  {mutation.test} passed")
    say(f"{len(chosen) - survivors} of {len(chosen)} killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--table"]:
        say(table())
    else:
        sys.exit(main(sys.argv[1:]))
